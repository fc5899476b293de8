"""The one request that a runner keeps open: what is in it, when it is sent, which answers count.

Every request states whole what the node holds, so only the answer to the newest one counts. Requests
that carry reports are answered at once; only an empty one waits, and ends when the next is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from lading.toolkit.runner.events import SendSync
from lading.toolkit.runner.holdings import Holdings
from lading.toolkit.wire.extensions import Free, Started, SyncRequest

BATCH_SECONDS: Final = 0.002
"""Ends that come within this time share a report."""
BUSY_BATCH_SECONDS: Final = 0.05
"""The same while work is queued here: no CPU waits for the answer then."""
STARTED_BATCH_SECONDS: Final = 0.025
"""A start is told only of a job that lives longer than this; others are told by their end."""
BUSY_PAUSE_SECONDS: Final = 0.05
"""A node with a queue of short jobs soon has a report to send instead of an empty request."""
QUIET_FIRST_SECONDS: Final = 0.01
QUIET_PAUSE_SECONDS: Final = 0.25
"""At most, between requests that bring nothing: a server that does not wait must not make us spin."""

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request on its way."""

    seq: int
    sent_at: float
    waits: bool
    started: tuple[str, ...]
    orders: tuple[str, ...]
    leave: bool
    suspending: bool


@dataclass(slots=True)
class Conversation:
    seq: int = 0
    in_flight: Sent | None = None
    orders: list[str] = field(default_factory=list)
    """Orders to be acknowledged."""
    failures: int = 0
    """In a row."""
    _report_at: float = _NEVER
    _not_before: float = 0.0
    _quiet_until: float = 0.0
    _quick_answers: int = 0

    def report_by(self, moment: float) -> None:
        """Have a report sent at that moment at the latest."""
        self._report_at = min(self._report_at, moment)

    def pause_until(self, moment: float) -> None:
        """Send nothing before that moment."""
        self._not_before = moment

    def rest_until(self, moment: float) -> None:
        """Send nothing empty before that moment."""
        self._quiet_until = moment

    def start_over(self) -> None:
        """Trust no answer to what was sent so far; ask again at once."""
        self.in_flight = None
        self._quiet_until = 0.0

    def answered(self, seq: int) -> Sent | None:
        """Take an answer in; None when it has been superseded."""
        sent = self._close(seq)
        if sent is not None:
            self.failures = 0
            self._not_before = 0.0
            self.orders = [name for name in self.orders if name not in sent.orders]
        return sent

    def failed(self, seq: int) -> Sent | None:
        """Take a failure in; None when the request has been superseded."""
        sent = self._close(seq)
        if sent is not None:
            self.failures += 1
        return sent

    def rate(self, sent: Sent, now: float, *, brought_news: bool) -> None:
        """Slow down when waiting requests are answered at once with nothing."""
        if brought_news or not sent.waits or now - sent.sent_at > QUIET_PAUSE_SECONDS:
            self._quick_answers = 0
            return
        self._quick_answers += 1
        if self._quick_answers > 1:
            pause = QUIET_FIRST_SECONDS * 2 ** min(self._quick_answers - 2, 10)
            self._quiet_until = now + min(pause, QUIET_PAUSE_SECONDS)

    def is_due(self, now: float) -> bool:
        """Tell whether a request is to be sent now."""
        if now < self._not_before or (self.in_flight is not None and not self.in_flight.waits):
            return False
        if now >= self._report_at:
            return True
        return self.in_flight is None and now >= self._quiet_until

    def next_moment(self) -> float:
        """Return when `is_due` may become true by the passing of time."""
        if self.in_flight is None:
            return max(self._not_before, min(self._report_at, self._quiet_until))
        # What gathers while a report is on its way goes with the next request.
        return max(self._not_before, self._report_at) if self.in_flight.waits else _NEVER

    def compose(
        self,
        holdings: Holdings,
        now: float,
        *,
        free: Free | None,
        wait: float,
        leave: bool = False,
        is_final: bool = False,
        suspending: bool = False,
    ) -> SendSync:
        """Make the next request from everything that is held; `wait` only if it carries no report."""
        self.seq += 1
        finished = [(one, one.ended) for one in holdings.finished.values() if one.ended is not None]
        records = tuple((ended, attempt.ended_at) for attempt, ended in finished if not attempt.spooled)
        for attempt, _ in finished:
            attempt.spooled = True
        started, next_start = _starts(holdings, now)
        has_report = bool(finished or started or holdings.returned or self.orders or leave)
        request = SyncRequest(
            seq=self.seq,
            held=[*holdings.launched, *(attempt.id for attempt in holdings.queue)],
            started=started,
            ended=[
                msgspec.structs.replace(ended, age_seconds=max(0.0, now - attempt.ended_at))
                for attempt, ended in finished
            ],
            returned=list(holdings.returned),
            free=free,
            wait=0.0 if has_report else wait,
            leave=leave,
            is_final=is_final,
            suspending=suspending,
            acknowledged_orders=list(self.orders),
        )
        starts = tuple(one.attempt_id for one in started)
        self.in_flight = Sent(self.seq, now, request.wait > 0, starts, tuple(self.orders), leave, suspending)
        self._report_at = next_start
        return SendSync(request, records)

    def _close(self, seq: int) -> Sent | None:
        sent = self.in_flight
        if sent is None or sent.seq != seq:
            return None
        self.in_flight = None
        return sent


def _starts(holdings: Holdings, now: float) -> tuple[list[Started], float]:
    """Return the starts to be told now, and when the next one is due."""
    started = []
    due = _NEVER
    for attempt in holdings.launched.values():
        if attempt.pid is None or attempt.started_at is None or attempt.start_reported:
            continue
        told_at = attempt.started_at + STARTED_BATCH_SECONDS
        if now >= told_at:
            age = now - attempt.started_at
            started.append(Started(attempt_id=attempt.id, pid=attempt.pid, age_seconds=age))
        else:
            due = min(due, told_at)
    return started, due
