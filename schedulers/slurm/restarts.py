"""Jobs that Slurm started again under their number: how each earlier copy ended, as the accounting says.

The queue shows the newest copy only, so what is to be looked up is inferred from it: a job that ran and
waits again, that is held back as Slurm holds what it starts again (BeginTime), that runs since another
moment than it did, or that is over. Copies come and go between two looks, and the accounting is late by a
second or two: it is asked until it knows as many copies as there must have been.
"""

from __future__ import annotations

from collections.abc import Iterable

from lading.schedulers.slurm.listing import Job
from lading.schedulers.slurm.states import is_over, is_waiting

_HELD_BACK = "BeginTime"
_NO_COPY = frozenset({"RESIZING"})
"""A row of the accounting that ends with a change of size; the same copy goes on."""


class Restarts:
    """What this process knows of the earlier copies of the jobs that it watches."""

    def __init__(self) -> None:
        self._earlier: dict[str, tuple[str, ...]] = {}
        self._running_since: dict[str, str] = {}
        """Of the copy that was seen to run last."""
        self._wanted: dict[str, int] = {}
        """Job -> how many earlier copies the accounting must know before it is believed."""
        self._explained: set[str] = set()
        """Those of which it is known why they wait again, or that are over and were asked about."""
        self._new: set[str] = set()

    def submitted(self, names: Iterable[str]) -> None:
        """Note jobs that this process made: they have no earlier copies."""
        self._new.update(names)

    def look(self, name: str, job: Job) -> bool:
        """Take in what the queue shows; tell whether the accounting is to be asked."""
        if name not in self._earlier:
            self._earlier[name] = ()
            if name not in self._new:
                # A submitter before us may have watched it, and died before it could tell.
                self._wanted[name] = 0
        before = self._running_since.get(name)
        more = len(self._earlier[name]) + 1
        if is_waiting(job):
            has_run = before is not None or job.reason == _HELD_BACK
            if has_run and name not in self._explained:
                self._wanted[name] = more
            self._running_since.pop(name, None)
        elif is_over(job):
            if name not in self._explained:
                self._explained.add(name)
                self._wanted.setdefault(name, 0)
        else:
            self._explained.discard(name)
            if before and job.start not in {"", before}:
                self._wanted[name] = more
            self._running_since[name] = job.start or before or ""
        return name in self._wanted

    def record(self, name: str, record: Job) -> None:
        """Take in what the accounting says."""
        states = tuple(state for state in record.earlier_states if state not in _NO_COPY)
        wanted = self._wanted.get(name, 0)
        if len(states) >= wanted:
            self._wanted.pop(name, None)
            self._earlier[name] = states
            if wanted:
                self._explained.add(name)

    def earlier(self, name: str) -> tuple[str, ...]:
        """Return how the copies before the one that runs or waits ended, the oldest first."""
        return self._earlier.get(name, ())

    def remember_only(self, names: Iterable[str]) -> None:
        """Forget all jobs but these."""
        kept = set(names)
        self._new -= self._earlier.keys() - kept
        self._explained &= kept
        for memory in (self._earlier, self._running_since, self._wanted):
            for name in memory.keys() - kept:
                del memory[name]
