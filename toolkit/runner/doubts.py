"""Whether a job died by itself or by the signal that ends its allocation.

A batch system that ends an allocation signals all of its processes at once: the jobs may be dead, by
the TERM that the guardian is about to see, before anybody here knows that the allocation is being
ended. Reported at once, that would be the job's own failure.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from lading.toolkit.runner.messages import RawEnd, Stop

_DOUBT_SECONDS = 2.0
_BY_TERM = frozenset({-signal.SIGTERM, 128 + signal.SIGTERM})
"""Of the process itself, and of a shell whose command was ended by it."""
_ENDED_WITH_ALLOCATION: Stop = {
    "cause": "allocation_ended",
    "status": "terminated",
    "message": "It was ended together with its allocation.",
}


class Doubts:
    """Ends that are held back until it is clear what they mean."""

    def __init__(self, *, shares_signals: bool) -> None:
        self._shares_signals = shares_signals
        self._is_ending = False
        self._held: list[RawEnd] = []

    @property
    def until(self) -> float:
        """Return when `settled` has something to hand out; infinity when never."""
        return min((end["at"] + _DOUBT_SECONDS for end in self._held), default=float("inf"))

    def sift(self, ends: Sequence[RawEnd]) -> list[RawEnd]:
        """Return the ends whose meaning is clear; hold the others back."""
        if not self._shares_signals:
            return list(ends)
        clear = []
        for end in ends:
            if end["stop"] is not None or end["failure"] or end["code"] == 0:
                clear.append(end)
            elif self._is_ending:
                clear.append({**end, "stop": _ENDED_WITH_ALLOCATION})
            elif end["code"] in _BY_TERM:
                self._held.append(end)
            else:
                clear.append(end)
        return clear

    def end_allocation(self) -> list[RawEnd]:
        """Note that the allocation is being ended; return what was held back, put down to that."""
        self._is_ending = True
        held, self._held = self._held, []
        return [{**end, "stop": _ENDED_WITH_ALLOCATION} for end in held]

    def settled(self, now: float) -> list[RawEnd]:
        """Return the ends for which no signal came: they are the jobs' own."""
        over = [end for end in self._held if now >= end["at"] + _DOUBT_SECONDS]
        self._held = [end for end in self._held if now < end["at"] + _DOUBT_SECONDS]
        return over
