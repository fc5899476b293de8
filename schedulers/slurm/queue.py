"""Asking Slurm, seldom: one look at the user's own jobs serves everybody who wants to know for 30 s."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from lading.schedulers.slurm.listing import Job
from lading.schedulers.slurm.programs import Programs
from lading.schedulers.slurm.transport import Site, Transport
from lading.toolkit.errors import TransientError

PACE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What the controller said."""

    began: float
    """Monotonic: when it was asked."""
    jobs: dict[str, Job]

    def named(self, name: str) -> str:
        """Return the number of the job of that name, empty when there is none."""
        for identity, job in self.jobs.items():
            if job.name == name:
                return identity.partition("_")[0]
        return ""


class Queue:
    """The queue and the accounting for one server. Methods may be called from several threads."""

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        pace_seconds: float = PACE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = transport or Programs()
        self._pace_seconds = pace_seconds
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._look: Look | None = None
        self._squeue_at = float("-inf")
        self._sacct_at = float("-inf")
        self._site: Site | None = None

    def site(self) -> Site:
        """Return what the cluster is like, asked once."""
        if self._site is None:
            self._site = self.transport.site()
        return self._site

    def look(self, *, not_before: float = float("-inf")) -> Look:
        """Return the user's jobs, at most 30 s old and asked for after a moment; raise TransientError if that is early."""
        with self._mutex:
            now = self._monotonic()
            is_fresh = now - self._squeue_at < self._pace_seconds
            if is_fresh and self._look is not None and self._look.began >= not_before:
                return self._look
            if is_fresh:
                wait = self._squeue_at + self._pace_seconds - now
                raise TransientError(f"Slurm's queue was asked a moment ago; asked again in {wait:.0f} s.")
            self._squeue_at = now
            self._look = Look(now, {job.identity: job for job in self.transport.jobs()})
            return self._look

    def records(self, identities: Collection[str]) -> dict[str, Job] | None:
        """Ask the accounting about jobs that the queue has forgotten; None when it cannot be asked now."""
        with self._mutex:
            if not self._may_ask_accounting():
                return None
            # By job, not by task: a list of 1 000 tasks is one number.
            numbers = {identity.partition("_")[0] for identity in identities}
            return {job.identity: job for job in self.transport.records(numbers)}

    def recorded_number(self, name: str) -> str | None:
        """Return the number of the job of that name by the accounting; empty: none; None: cannot be asked now."""
        with self._mutex:
            if not self._may_ask_accounting():
                return None
            jobs = self.transport.records_named(name)
            return jobs[0].identity.partition("_")[0] if jobs else ""

    def _may_ask_accounting(self) -> bool:
        now = self._monotonic()
        if now - self._sacct_at < self._pace_seconds:
            return False
        # Before the call: one that fails, or hangs, is not repeated at once.
        self._sacct_at = now
        return True
