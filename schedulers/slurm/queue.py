"""Asking Slurm, seldom: one look at the user's own jobs serves everybody who wants to know for 30 s."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from lading.schedulers.slurm.listing import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    Job,
    leading_number,
    read_config,
    read_sacct,
    read_squeue,
)
from lading.schedulers.slurm.programs import ask
from lading.toolkit.errors import TransientError

PACE_SECONDS: Final = 30.0
_HISTORY_SECONDS: Final = 400 * 86_400
"""Without -S sacct's window begins today at midnight: what ended before would seem never to have been."""


@dataclass(frozen=True, slots=True)
class Look:
    """What squeue said."""

    began: float
    """Monotonic: when it was asked."""
    jobs: dict[str, Job]

    def named(self, name: str) -> str:
        """Return the number of the job of that name, empty when there is none."""
        for identity, job in self.jobs.items():
            if job.name == name:
                return identity.partition("_")[0]
        return ""


@dataclass(frozen=True, slots=True)
class Site:
    """What the cluster's configuration says, asked once."""

    cluster: str
    minimum_age_seconds: float
    """How long squeue remembers a job that ended."""
    largest_array: int
    version: str
    has_accounting: bool


class Queue:
    """The squeue and sacct of one server. Methods may be called from several threads."""

    def __init__(
        self, *, pace_seconds: float = PACE_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._pace_seconds = pace_seconds
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._look: Look | None = None
        self._squeue_at = float("-inf")
        self._sacct_at = float("-inf")
        self._site: Site | None = None

    def site(self) -> Site:
        """Return what the cluster is like."""
        if self._site is None:
            facts = read_config(ask(["scontrol", "show", "config"]))
            self._site = Site(
                cluster=facts.get("ClusterName", "cluster"),
                minimum_age_seconds=float(leading_number(facts.get("MinJobAge", ""), 300)),
                largest_array=leading_number(facts.get("MaxArraySize", ""), 1001),
                version=facts.get("SLURM_VERSION", "unknown"),
                has_accounting=facts.get("AccountingStorageType", "").endswith("slurmdbd"),
            )
        return self._site

    def look(self, *, not_before: float = float("-inf")) -> Look:
        """Return the user's jobs, at most 30 s old and asked for after a moment; raise TransientError if that is early.

        By user, because that alone is filtered where the queue is; for a list of ids the whole cluster's
        queue would be sent here.
        """
        with self._mutex:
            now = self._monotonic()
            is_fresh = now - self._squeue_at < self._pace_seconds
            if is_fresh and self._look is not None and self._look.began >= not_before:
                return self._look
            if is_fresh:
                wait = self._squeue_at + self._pace_seconds - now
                raise TransientError(f"Slurm's queue was asked a moment ago; asked again in {wait:.0f} s.")
            self._squeue_at = now
            began = now
            text = ask(["squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", SQUEUE_FORMAT])
            self._look = Look(began, {job.identity: job for job in read_squeue(text)})
            return self._look

    def records(self, identities: Collection[str]) -> dict[str, Job] | None:
        """Ask the accounting about jobs that the queue has forgotten; None when it cannot be asked now."""
        with self._mutex:
            if not self._may_ask_accounting():
                return None
            # By job, not by task: a list of 1 000 tasks is one number.
            numbers = sorted({identity.partition("_")[0] for identity in identities})
            return {job.identity: job for job in read_sacct(self._sacct(["-j", ",".join(numbers)]))}

    def recorded_number(self, name: str) -> str | None:
        """Return the number of the job of that name by the accounting; empty: none; None: cannot be asked now."""
        with self._mutex:
            if not self._may_ask_accounting():
                return None
            jobs = read_sacct(self._sacct(["--name", name, "-u", str(os.getuid())]))
            return jobs[0].identity.partition("_")[0] if jobs else ""

    def _may_ask_accounting(self) -> bool:
        return self._monotonic() - self._sacct_at >= self._pace_seconds

    def _sacct(self, selection: Sequence[str]) -> str:
        self._sacct_at = self._monotonic()
        start = time.strftime("%Y-%m-%d", time.localtime(time.time() - _HISTORY_SECONDS))
        return ask(["sacct", "-D", "-X", "-n", "-P", "-S", start, f"--format={SACCT_FORMAT}", *selection])
