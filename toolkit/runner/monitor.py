"""What running jobs use: one pass over /proc per interval, for all jobs together."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from lading.toolkit.runner.node_monitor import Summary
from lading.toolkit.runner.processes import ProcessLine, read_all
from lading.toolkit.wire.extensions import Usage

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PERCENT = 100.0


class JobSample(NamedTuple):
    """What one job used when it was last looked at."""

    cpu_percent: float
    rss: int


@dataclass(slots=True)
class _Watched:
    session: int
    cpu_ticks: int = 0
    sampled_at: float | None = None
    num_samples: int = 0
    rss_sum: int = 0
    rss_max: int = 0
    percent_sum: float = 0.0
    percent_max: float = 0.0
    num_percents: int = 0
    latest: JobSample | None = None
    summary: Summary = field(default_factory=Summary)


class Monitor:
    """Samples of the jobs that are alive. A job's children are found by its session."""

    def __init__(self, *, include_child_processes: bool = True) -> None:
        """Without children only a job's first process is measured; limits always count all of them."""
        self._include_children = include_child_processes
        self._watched: dict[str, _Watched] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, attempt: str, pid: int) -> None:
        """Begin to sample a job; its first process leads its session."""
        self._watched[attempt] = _Watched(pid)

    def sample(self, now: float) -> dict[str, int]:
        """Look at all jobs once; return attempt -> resident bytes now."""
        if not self._watched:
            return {}
        return self.take(read_all(), now)

    def take(self, table: dict[int, ProcessLine], now: float) -> dict[str, int]:
        """Add one pass over /proc to the samples."""
        resident: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for line in table.values():
            if line.alive:
                resident[line.session] = resident.get(line.session, 0) + line.resident_pages
                ticks[line.session] = ticks.get(line.session, 0) + line.cpu_ticks
        result: dict[str, int] = {}
        for attempt, watched in self._watched.items():
            if watched.session not in resident:
                continue
            size = resident[watched.session] * _PAGE_BYTES
            result[attempt] = size
            leader = None if self._include_children else table.get(watched.session)
            if leader is not None:
                _add(watched, leader.resident_pages * _PAGE_BYTES, leader.cpu_ticks, now)
            else:
                _add(watched, size, ticks[watched.session], now)
        return result

    def latest(self) -> dict[str, JobSample]:
        """Return attempt -> what was seen last, of those that were seen twice."""
        return {
            attempt: watched.latest
            for attempt, watched in self._watched.items()
            if watched.latest is not None
        }

    def summary(self, attempt: str) -> Summary | None:
        """Return what was seen of a job so far; of use before `finish`."""
        watched = self._watched.get(attempt)
        return None if watched is None else watched.summary

    def finish(self, attempt: str) -> Usage | None:
        """Stop sampling a job; return what was seen of it."""
        watched = self._watched.pop(attempt, None)
        if watched is None or not watched.num_samples:
            return None
        return Usage(
            max_rss_bytes=watched.rss_max,
            average_rss_bytes=watched.rss_sum // watched.num_samples,
            average_cpu_percent=round(watched.percent_sum / max(1, watched.num_percents), 2),
            max_cpu_percent=round(watched.percent_max, 2),
            num_samples=watched.num_samples,
        )


def _add(watched: _Watched, size: int, ticks: int, now: float) -> None:
    watched.num_samples += 1
    watched.rss_sum += size
    watched.rss_max = max(watched.rss_max, size)
    if watched.sampled_at is not None and now > watched.sampled_at:
        # A child that ended in between takes its ticks along; that is no negative use.
        used = max(0, ticks - watched.cpu_ticks) / _TICKS_PER_SECOND
        percent = _PERCENT * used / (now - watched.sampled_at)
        watched.num_percents += 1
        watched.percent_sum += percent
        watched.percent_max = max(watched.percent_max, percent)
        watched.latest = JobSample(round(percent, 2), size)
        watched.summary.add({"cpu_percent": round(percent, 2), "rss": size})
    watched.cpu_ticks = ticks
    watched.sampled_at = now
