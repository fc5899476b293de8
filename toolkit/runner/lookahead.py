"""How much work to ask for: what is free, and for very short jobs a few more.

A job shorter than a round trip would leave its CPU idle until the next answer. So when the server has
more ready jobs than we have room for, and ours are short, we hold some that are not started yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from lading.toolkit.runner.holdings import Holdings
from lading.toolkit.wire.extensions import Free

SHORT_JOB_SECONDS = 0.05
QUEUE_SECONDS = 0.2
"""Held work lasts about this long: what another node could have had is never late by more."""
QUEUE_LIMIT = 256
_WEIGHT = 0.2


@dataclass(slots=True)
class LookAhead:
    """A moving average of how long jobs take, and what follows from it."""

    mean_seconds: float | None = None
    refused: bool = False
    """The server handed over what can never run here: it does not know the limits per job."""

    def observe(self, exec_seconds: float) -> None:
        if self.mean_seconds is None:
            self.mean_seconds = exec_seconds
        else:
            self.mean_seconds += _WEIGHT * (exec_seconds - self.mean_seconds)

    def depth(self, holdings: Holdings, num_ready: int) -> int:
        """Return how many jobs may be held unstarted."""
        mean = self.mean_seconds
        if self.refused or mean is None or mean > SHORT_JOB_SECONDS or num_ready <= holdings.free_cpus:
            return 0
        slots = max(1, len(holdings.launched))
        depth = int(QUEUE_SECONDS * slots / max(mean, 0.001))
        # Never more than half of what is left: the other nodes want some too.
        return min(QUEUE_LIMIT, depth, num_ready // 2)


def ask(
    holdings: Holdings, look_ahead: LookAhead, *, num_ready: int, seconds_left: float | None
) -> Free | None:
    """Return what to ask for; None when there is no room."""
    capacity = holdings.capacity
    if holdings.has_queued_wide_job():
        # Which nodes it will have is not settled before it is launched.
        return None
    others = len(holdings.free_hosts)
    cpus = holdings.free_cpus - holdings.queued_cpus()
    memory = holdings.free_memory - holdings.queued_memory()
    gpus = len(holdings.free_gpus) - holdings.queued_gpus()
    queued = len(holdings.queue)
    room = None if capacity.max_jobs is None else capacity.max_jobs - len(holdings.launched) - queued
    has_room = ((cpus > 0 and memory > 0) or others > 1) and (room is None or room > 0)
    # What is held ahead would hide from the server that the own node is idle.
    depth = 0 if len(capacity.hosts) > 1 else look_ahead.depth(holdings, num_ready)
    # Asked for in one piece when half of it is used up, not one by one.
    if depth and queued <= depth // 2:
        return Free(
            num_cpus=capacity.num_cpus + depth,
            memory_bytes=capacity.memory_bytes * (1 + depth),
            num_gpus=len(capacity.gpus),
            time_limit_seconds=seconds_left,
            max_jobs=max(0, cpus if room is None else min(cpus, room)) + depth - queued,
            job_num_cpus=capacity.num_cpus,
            job_memory_bytes=capacity.memory_bytes,
        )
    if not has_room:
        return None
    return Free(
        num_cpus=max(0, cpus),
        memory_bytes=max(0, memory),
        num_gpus=max(0, gpus),
        time_limit_seconds=seconds_left,
        max_jobs=room,
        other_nodes=others,
    )
