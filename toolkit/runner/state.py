"""What a runner does next: events in, instructions out. No clock, no I/O, no randomness.

`RunnerState.handle` is the only door. Each claimed attempt leaves through exactly one of two exits:
reported ended, or handed back; both are repeated until the server has acknowledged them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from lading.toolkit.runner import lookahead
from lading.toolkit.runner.completion import infrastructure_stop
from lading.toolkit.runner.events import (
    Assignment,
    Event,
    Exit,
    Forget,
    GuardianLost,
    Instruction,
    JobsEnded,
    JobsStarted,
    KillMarked,
    LaunchesRefused,
    LaunchJobs,
    Note,
    Prepared,
    ProcessesKilled,
    RenewLease,
    ResidentSampled,
    SendSync,
    SignalJobs,
    StopRequested,
    SyncAnswered,
    SyncFailed,
    Tick,
)
from lading.toolkit.runner.holdings import Attempt, Capacity, Holdings, Phase
from lading.toolkit.runner.lease import Lease, Punctuality
from lading.toolkit.runner.messages import Stop
from lading.toolkit.wire.extensions import Ended, Order, Started, SyncRequest, SyncResponse

GRACE_SECONDS: Final = 30.0
"""Between TERM and KILL at the end of a run-time limit or of the allocation."""
_BATCH_SECONDS: Final = 0.002
"""Ends that come within this time share a report."""
_BUSY_BATCH_SECONDS: Final = 0.01
"""The same while work is queued here: no CPU waits for the answer then."""
_STARTED_BATCH_SECONDS: Final = 0.025
"""A start is told only of a job that lives longer than this; others are told by their end."""
_BUSY_PAUSE_SECONDS: Final = 0.05
"""A node that could take nothing, of short jobs, soon has a report to send instead of an empty request."""
_QUIET_FIRST_SECONDS: Final = 0.01
_QUIET_PAUSE_SECONDS: Final = 0.25
"""At most, between two requests that bring nothing: a server that does not wait must not make us spin."""
_ONE_SIGNAL_SECONDS: Final = 1.0
"""Signals this close are one: a batch system signals guardian, runner and jobs alike."""
_LEAVE_PATIENCE_SECONDS: Final = 120.0
_OFFLINE_PATIENCE_SECONDS: Final = 600.0
_IDLE_SECONDS: Final = 60.0
_GUARDIAN_RETRY_SECONDS: Final = 5.0

EXIT_LEFT: Final = 0
EXIT_FENCED: Final = 1
EXIT_UNREACHABLE: Final = 3


class Mode(StrEnum):
    PREPARING = "preparing"
    """The start-up script runs: the lease is renewed, nothing is claimed."""
    WORKING = "working"
    DRAINING = "draining"
    """Claims no more; leaves when its jobs have ended."""
    STOPPING = "stopping"
    """Ends its jobs, reports, leaves."""
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the workflow's config says about runners."""

    wait_for_new_jobs_seconds: float = 0.0
    ignore_completion: bool = False
    memory_limit: str = "warn"
    """`off`, `warn` or `kill`."""


@dataclass(frozen=True, slots=True)
class _Request:
    seq: int
    sent_at: float
    waits: bool
    started: tuple[str, ...]
    orders: tuple[str, ...]
    leave: bool


@dataclass(slots=True)
class RunnerState:
    """Everything a runner knows."""

    holdings: Holdings
    lease: Lease
    policy: Policy = field(default_factory=Policy)
    end_at: float | None = None
    mode: Mode = Mode.PREPARING
    exit_code: int = EXIT_LEFT
    num_ready: int = 0
    is_over: bool = False
    """The workflow is complete or canceled."""
    guardian_lost: bool = False

    _seq: int = 0
    _in_flight: _Request | None = None
    _look_ahead: lookahead.LookAhead = field(default_factory=lookahead.LookAhead)
    _punctuality: Punctuality = field(default_factory=Punctuality)
    _distrust: bool = False
    """Late: nothing is launched before an answer to a request that was sent after waking."""
    _report_at: float = float("inf")
    _not_before: float = 0.0
    _failures: int = 0
    _failing_since: float | None = None
    _quiet_until: float = 0.0
    _quick_answers: int = 0
    _idle_since: float | None = None
    _leave_reason: str = ""
    _leaving_since: float | None = None
    _hurry: bool = False
    _stop_signals: int = 0
    _stop_signal_at: float = 0.0
    _orders: list[str] = field(default_factory=list)
    _kill_marked_at: float = float("inf")
    _out: list[Instruction] = field(default_factory=list)

    @classmethod
    def create(
        cls, capacity: Capacity, *, now: float, lease_seconds: float, policy: Policy, end_at: float | None
    ) -> RunnerState:
        """Make the state of a node that has just been registered by a request sent at `now`."""
        return cls(Holdings(capacity), Lease(lease_seconds, now + lease_seconds), policy, end_at)

    # ---- the door ----------------------------------------------------------------------------

    def handle(self, event: Event, *, now: float, asleep: float = 0.0) -> list[Instruction]:
        """Take one event; return what is to be done, in order.

        `now` is on CLOCK_BOOTTIME; `asleep` says how long the machine has been suspended since its start.
        """
        if self.mode is Mode.LEFT:
            return []
        self._out = []
        if self._punctuality.is_late(now, asleep, self.lease.seconds):
            self._wake_up_late()
        match event:
            case Tick():
                pass
            case Prepared():
                self._on_prepared(event, now)
            case SyncAnswered():
                self._on_answer(event, now)
            case SyncFailed():
                self._on_failure(event, now)
            case JobsStarted():
                self._on_started(event, now)
            case JobsEnded():
                self._on_ended(event, now)
            case LaunchesRefused():
                self._on_refused(event)
            case ResidentSampled():
                self._on_resident(event)
            case StopRequested():
                self._on_stop(event, now)
            case GuardianLost():
                self._on_guardian_lost(now)
            case ProcessesKilled():
                self._on_processes_killed(event, now)
            case _:
                raise AssertionError(f"unknown event {event!r}")
        if self._is_running():
            self._enforce_times(now)
            self._launch()
            self._consider_leaving(now)
            self._sync(now)
        self._punctuality.expected_at = self._next_wakeup(now)
        return self._out

    @property
    def wakeup_at(self) -> float:
        """When a `Tick` is due unless another event comes first."""
        return self._punctuality.expected_at

    def _next_wakeup(self, now: float) -> float:
        moments = [now + self.lease.seconds / 4, self._kill_marked_at]
        for attempt in self.holdings.launched.values():
            if attempt.kill_at is not None:
                moments.append(attempt.kill_at)
            elif attempt.stop is None and attempt.limit_at is not None:
                moments.append(attempt.limit_at)
        if self.end_at is not None and self.mode is not Mode.STOPPING:
            moments.append(self.end_at)
        if self._idle_since is not None:
            moments.append(self._idle_since + self._idle_limit())
        if self._in_flight is None:
            moments.append(max(self._not_before, min(self._report_at, self._quiet_until)))
        elif self._in_flight.waits:
            moments.append(max(self._not_before, self._report_at))
        return max(now, min(moments))

    # ---- events ------------------------------------------------------------------------------

    def _wake_up_late(self) -> None:
        self._note("Woke up late: no job is started before the server has answered.", is_error=True)
        self._distrust = True
        # An answer that was on its way while we were gone may hand out what is no longer ours.
        self._in_flight = None
        self._quiet_until = 0.0

    def _on_prepared(self, event: Prepared, now: float) -> None:
        if self.mode is not Mode.PREPARING:
            return
        self.mode = Mode.WORKING
        self._report_at = now
        if event.failure:
            self.exit_code = EXIT_FENCED
            self._begin_stop(now, event.failure, grace=0.0)

    def _on_answer(self, event: SyncAnswered, now: float) -> None:
        request = self._in_flight
        if request is None or event.seq != request.seq:
            return  # superseded: the newest answer states everything anew
        response = event.response
        self._in_flight = None
        self._failures = 0
        self._failing_since = None
        self._not_before = 0.0
        self._distrust = False
        self.lease.renew(request.sent_at, response.lease_seconds)
        self._out.append(
            RenewLease(self.lease.kill_at, self.lease.until, self.lease.seconds, self.lease_sequence())
        )
        if response.end_seconds is not None:
            self.end_at = now + response.end_seconds
        self.num_ready = response.num_ready
        self.is_over = response.is_complete or response.is_canceled
        for name in request.started:
            if attempt := self.holdings.attempts.get(name):
                attempt.start_reported = True
        self._orders = [name for name in self._orders if name not in request.orders]
        settled = self.holdings.settle(response.acknowledged)
        if settled:
            self._out.append(Forget(tuple(settled)))
        if request.leave:
            self._on_leave_answered(now)
            return
        news = self._take_claims(response) + self._take_orders(response, now)
        if self.holdings.queue and self.mode is Mode.WORKING:
            self._quiet_until = now + _BUSY_PAUSE_SECONDS
        if news or settled or not request.waits or now - request.sent_at > _QUIET_PAUSE_SECONDS:
            self._quick_answers = 0
        else:
            self._quick_answers += 1
            pause = _QUIET_FIRST_SECONDS * 2 ** min(self._quick_answers - 2, 10)
            if self._quick_answers > 1:
                self._quiet_until = now + min(pause, _QUIET_PAUSE_SECONDS)

    def lease_sequence(self) -> int:
        """Return the number of the newest request."""
        return self._seq

    def _take_claims(self, response: SyncResponse) -> int:
        news = 0
        for job in response.claims:
            if job.attempt_id in self.holdings:
                continue  # handed over again: our request had crossed the first time
            news += 1
            self.holdings.enqueue(job)
            if not self.holdings.capacity.can_ever_run(job):
                self._look_ahead.refused = True
                self._give_back([self.holdings.attempts[job.attempt_id]])
            elif self.mode is not Mode.WORKING:
                self._give_back([self.holdings.attempts[job.attempt_id]])
        return news

    def _take_orders(self, response: SyncResponse, now: float) -> int:
        news = 0
        for order in response.orders:
            match order.kind:
                case "kill":
                    news += self._obey_kill(order, now)
                case "drain":
                    news += self._acknowledge(order)
                    if self.mode in {Mode.WORKING, Mode.PREPARING}:
                        self.mode = Mode.DRAINING
                        self._leave_reason = order.reason or "drained"
                        self._give_back(list(self.holdings.queue))
                case "end":
                    news += self._acknowledge(order)
                    if self.mode is not Mode.STOPPING:
                        reason = order.reason or "told to end"
                        self._begin_stop(now, reason, grace=order.grace_seconds, cause=order.cause)
                case unknown:
                    assert_never(unknown)
        return news

    def _acknowledge(self, order: Order) -> int:
        if order.id in self._orders:
            return 0
        self._orders.append(order.id)
        self._report_at = 0.0
        return 1

    def _obey_kill(self, order: Order, now: float) -> int:
        news = 0
        stop: Stop = {
            "cause": order.cause,
            "status": "canceled" if order.cause == "canceled" else "terminated",
            "message": order.reason or "Ended by the server's order.",
        }
        for name in order.attempts:
            attempt = self.holdings.attempts.get(name)
            if attempt is None and name in self.holdings:
                continue  # its end is acknowledged by this very answer, or was by an earlier one
            if attempt is None:
                # Revoked before its claim reached us: it is over as surely as one that we ended.
                attempt = Attempt(name, Phase.QUEUED)
            if attempt.phase is Phase.QUEUED:
                self._end_unstarted(attempt, stop, now)
                news += 1
            elif attempt.phase is Phase.LAUNCHED and attempt.stop is None:
                self._end_jobs([attempt], stop, order.grace_seconds, now)
                news += 1
        return news

    def _on_failure(self, event: SyncFailed, now: float) -> None:
        request = self._in_flight
        if request is None or event.seq != request.seq:
            return
        self._in_flight = None
        self._failures += 1
        self._failing_since = now if self._failing_since is None else self._failing_since
        self._not_before = now + self.lease.pause_after(self._failures, event.jitter)
        if event.fenced:
            if request.leave:
                self._leave(EXIT_FENCED, f"the server does not know this node any more: {event.reason}")
            elif self.mode is not Mode.STOPPING:
                self.exit_code = EXIT_FENCED
                self._begin_stop(now, f"fenced: {event.reason}", grace=0.0, cause="infrastructure")
            return
        if self._failures in {1, 10, 100, 1000}:
            self._note(f"The server was not reached ({self._failures}): {event.reason}", is_error=True)
        if request.leave and self._has_waited_enough(now):
            self._leave(EXIT_UNREACHABLE, "the server was not reached; the reports stay in the spool")
        elif now > self.lease.until + _OFFLINE_PATIENCE_SECONDS and self.holdings.is_idle:
            self._leave(EXIT_UNREACHABLE, "the server was not reached for long after the lease had ended")

    def _on_started(self, event: JobsStarted, now: float) -> None:
        for name, pid, at in event.jobs:
            attempt = self.holdings.launched.get(name)
            if attempt is not None:
                attempt.pid, attempt.started_at = pid, at
                self._report_at = min(self._report_at, now + _STARTED_BATCH_SECONDS)

    def _on_ended(self, event: JobsEnded, now: float) -> None:
        for ended, at in event.jobs:
            attempt = self.holdings.launched.get(ended.attempt_id)
            if attempt is None:
                continue
            if attempt.note:
                ended.message = f"{ended.message} {attempt.note}".strip()
            self.holdings.end(attempt, ended, at)
            if ended.cause == "exit":
                self._look_ahead.observe(ended.exec_seconds)
        if self.holdings.queue:
            delay = _BUSY_BATCH_SECONDS
        else:
            # Alone, nothing is gained by waiting for company: dependents may be waiting.
            delay = _BATCH_SECONDS if self.holdings.launched else 0.0
        self._report_at = min(self._report_at, now + delay)

    def _on_refused(self, event: LaunchesRefused) -> None:
        self._give_back([a for name in event.attempts if (a := self.holdings.launched.get(name))])

    def _on_resident(self, event: ResidentSampled) -> None:
        if self.policy.memory_limit == "off":
            return
        for name, size in event.resident_bytes.items():
            attempt = self.holdings.launched.get(name)
            limit = attempt.job.memory_limit_bytes if attempt is not None and attempt.job else None
            if attempt is None or limit is None or size <= limit or attempt.stop is not None:
                continue
            message = f"Used {size} bytes of memory, its limit is {limit}."
            if self.policy.memory_limit == "kill":
                stop: Stop = {"cause": "out_of_memory", "status": "done", "message": message}
                self._signal([attempt], signal.SIGKILL, stop)
            else:
                attempt.note = message

    def _on_stop(self, event: StopRequested, now: float) -> None:
        if self._stop_signals and now - self._stop_signal_at < _ONE_SIGNAL_SECONDS:
            return
        self._stop_signals += 1
        self._stop_signal_at = now
        if self._stop_signals == 1:
            self._begin_stop(now, event.reason, grace=GRACE_SECONDS)
        else:
            for attempt in self.holdings.launched.values():
                attempt.kill_at = now
            self._hurry = True

    def _on_guardian_lost(self, now: float) -> None:
        self._note("The guardian is dead: everything of this node is killed.", is_error=True)
        self.guardian_lost = True
        self.exit_code = EXIT_FENCED
        self.mode = Mode.STOPPING
        self._leave_reason = "the guardian was killed"
        self._give_back(list(self.holdings.queue))
        self._kill_marked_at = now

    def _on_processes_killed(self, event: ProcessesKilled, now: float) -> None:
        stop = infrastructure_stop("The job runner's guardian was killed.")
        for attempt in list(self.holdings.launched.values()):
            if attempt.id in event.remaining:
                pid = event.remaining[attempt.id]
                self._note(
                    f"Process {pid} of attempt {attempt.id} does not die; not reported.", is_error=True
                )
                continue
            began = attempt.started_at
            seconds = 0.0 if began is None else max(0.0, now - began)
            ended = _ended(attempt, stop, seconds, started=True)
            self.holdings.end(attempt, ended, now)
        self._kill_marked_at = now + _GUARDIAN_RETRY_SECONDS if event.remaining else float("inf")
        self._report_at = now

    # ---- what follows ------------------------------------------------------------------------

    def _is_running(self) -> bool:
        return self.mode is not Mode.LEFT

    def _enforce_times(self, now: float) -> None:
        if now >= self._kill_marked_at:
            self._kill_marked_at = float("inf")
            self._out.append(KillMarked())
        if self.end_at is not None and now >= self.end_at and self.mode is not Mode.STOPPING:
            self._begin_stop(now, "the allocation's time is over", grace=GRACE_SECONDS)
        for attempt in list(self.holdings.launched.values()):
            if attempt.kill_at is not None and now >= attempt.kill_at and attempt.stop is not None:
                attempt.kill_at = None
                self._signal([attempt], signal.SIGKILL, attempt.stop)
            limit_at = attempt.limit_at
            if attempt.stop is None and limit_at is not None and now >= limit_at and attempt.job:
                seconds = attempt.job.runtime_limit_seconds
                message = f"Ran longer than its limit of {seconds:g} s."
                stop: Stop = {"cause": "job_timeout", "status": "terminated", "message": message}
                self._end_jobs([attempt], stop, GRACE_SECONDS, now)

    def _launch(self) -> None:
        if self._distrust or self.mode is not Mode.WORKING:
            return
        assignments = tuple(
            Assignment(attempt.job, attempt.gpus)
            for attempt in self.holdings.take_launchable()
            if attempt.job is not None
        )
        if assignments:
            self._out.append(LaunchJobs(assignments))

    def _begin_stop(self, now: float, reason: str, *, grace: float, cause: str = "allocation_ended") -> None:
        self._note(f"Stopping: {reason}.")
        self.mode = Mode.STOPPING
        self._leave_reason = reason
        self._give_back(list(self.holdings.queue))
        stop: Stop = {"cause": cause, "status": "terminated", "message": f"The runner stopped: {reason}."}
        self._end_jobs(list(self.holdings.launched.values()), stop, grace, now)

    def _end_jobs(self, attempts: Iterable[Attempt], stop: Stop, grace: float, now: float) -> None:
        """TERM for those that support it, with KILL after the grace; KILL at once for the others."""
        gentle, abrupt = [], []
        for attempt in attempts:
            if grace > 0 and attempt.job is not None and attempt.job.supports_termination:
                if attempt.stop is None:
                    gentle.append(attempt)
                    attempt.kill_at = now + grace
                elif attempt.kill_at is not None:
                    attempt.kill_at = min(attempt.kill_at, now + grace)
            else:
                attempt.kill_at = None
                abrupt.append(attempt)
        self._signal(gentle, signal.SIGTERM, stop)
        self._signal(abrupt, signal.SIGKILL, stop)

    def _signal(self, attempts: list[Attempt], number: int, stop: Stop) -> None:
        if not attempts:
            return
        for attempt in attempts:
            attempt.stop = attempt.stop or stop
        self._out.append(SignalJobs(tuple(attempt.id for attempt in attempts), int(number), stop))

    def _end_unstarted(self, attempt: Attempt, stop: Stop, now: float) -> None:
        self.holdings.end(attempt, _ended(attempt, stop, 0.0, started=False), now)
        self._report_at = now

    def _give_back(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self.holdings.give_back(attempt)
        if attempts:
            self._report_at = 0.0

    # ---- leaving -----------------------------------------------------------------------------

    def _idle_limit(self) -> float:
        return max(self.policy.wait_for_new_jobs_seconds, _IDLE_SECONDS)

    def _consider_leaving(self, now: float) -> None:
        if not self.holdings.is_idle or self.mode is Mode.PREPARING:
            # Also when we were about to leave: the last answer may have brought work.
            self._idle_since = self._leaving_since = None
            return
        if self._idle_since is None:
            self._idle_since = now
        if self._leaving_since is not None:
            return
        if self.mode is Mode.WORKING:
            if self.is_over and not self.policy.ignore_completion:
                self._leave_reason = "the workflow is over"
            elif now - self._idle_since >= self._idle_limit():
                self._leave_reason = f"nothing to do for {self._idle_limit():g} s"
            else:
                return
        self._leaving_since = now
        self._report_at = now
        self._note(f"Leaving: {self._leave_reason}.")

    def _on_leave_answered(self, now: float) -> None:
        if self.holdings.finished and not self._has_waited_enough(now):
            self._report_at = now + _QUIET_PAUSE_SECONDS
            self._not_before = self._report_at
            return
        self._leave(self.exit_code, self._leave_reason)

    def _has_waited_enough(self, now: float) -> bool:
        return self._hurry or now - (self._leaving_since or now) > _LEAVE_PATIENCE_SECONDS

    def _leave(self, code: int, reason: str) -> None:
        self.mode = Mode.LEFT
        self._out.append(Exit(code, reason))

    # ---- the one request ---------------------------------------------------------------------

    def _sync(self, now: float) -> None:
        """Keep one request open; end its wait as soon as there is something to report."""
        request = self._in_flight
        if request is not None and not request.waits:
            return  # it will be answered at once; what gathers meanwhile goes with the next
        has_report = now >= self._report_at
        if now < self._not_before or (request is not None and not has_report):
            return
        if not has_report and now < self._quiet_until:
            return
        self._out.append(self._make_sync(now))

    def _make_sync(self, now: float) -> SendSync:
        self._seq += 1
        leave = self._leaving_since is not None
        finished = list(self.holdings.finished.values())
        ended = [
            msgspec.structs.replace(a.ended, age_seconds=max(0.0, now - a.ended_at))
            for a in finished
            if a.ended
        ]
        records = tuple((a.ended, a.ended_at) for a in finished if a.ended and not a.spooled)
        for attempt in finished:
            attempt.spooled = True
        started, next_start = self._started(now)
        free = None
        if self.mode is Mode.WORKING and not leave and not self._distrust:
            left = None if self.end_at is None else max(0.0, self.end_at - now)
            free = lookahead.ask(self.holdings, self._look_ahead, num_ready=self.num_ready, seconds_left=left)
        returned = list(self.holdings.returned)
        waits = not (ended or returned or started or self._orders or leave or self._distrust)
        request = SyncRequest(
            seq=self._seq,
            held=[*self.holdings.launched, *(attempt.id for attempt in self.holdings.queue)],
            started=started,
            ended=ended,
            returned=returned,
            free=free,
            wait=self.lease.wait_seconds if waits else 0.0,
            leave=leave,
            acknowledged_orders=list(self._orders),
        )
        self._in_flight = _Request(
            self._seq, now, waits, tuple(one.attempt_id for one in started), tuple(self._orders), leave
        )
        self._report_at = next_start
        return SendSync(request, records)

    def _started(self, now: float) -> tuple[list[Started], float]:
        """Return the starts to be told now, and when the next one is due."""
        started = []
        due = float("inf")
        for attempt in self.holdings.launched.values():
            if attempt.pid is None or attempt.started_at is None or attempt.start_reported:
                continue
            told_at = attempt.started_at + _STARTED_BATCH_SECONDS
            if now >= told_at:
                age = now - attempt.started_at
                started.append(Started(attempt_id=attempt.id, pid=attempt.pid, age_seconds=age))
            else:
                due = min(due, told_at)
        return started, due

    def _note(self, message: str, *, is_error: bool = False) -> None:
        self._out.append(Note(message, is_error))


def _ended(attempt: Attempt, stop: Stop, seconds: float, *, started: bool) -> Ended:
    return msgspec.convert(
        {
            **stop,
            "attempt_id": attempt.id,
            "return_code": -int(signal.SIGKILL),
            "signal": int(signal.SIGKILL),
            "exec_seconds": seconds,
            "started": started,
        },
        Ended,
    )
