"""The measurements of one runner: when a sample is taken, where it goes, what is told to the server."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from lading.toolkit.clock import Clock
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.monitor import Monitor
from lading.toolkit.runner.node_monitor import NodeMonitor, Summary, Switches
from lading.toolkit.runner.plots import chart, page
from lading.toolkit.runner.sample_store import ProcessSample, SampleStore
from lading.toolkit.wire.extensions import NodeStatistics

_MOST_JOBS_DRAWN: Final = 8
_MOST_PENDING: Final = 20_000
"""Rows about jobs that wait to be told; more, after a long outage, are dropped oldest first."""
_NUMBER_BITS: Final = 53
"""What every reader of JSON keeps exact."""


class Measuring:
    """Samples the node every interval, and sums up what is to be told.

    Everything here is for people: whatever fails is noted and disturbs no job.
    """

    def __init__(
        self, switches: Switches, output_directory: Path, node: str, clock: Clock, journal: Journal
    ) -> None:
        self.switches = switches
        self._node = node
        self._clock = clock
        self._journal = journal
        self._monitor = NodeMonitor(switches, clock.monotonic())
        # The last sample is taken by the loop itself, while one may be taken in the thread.
        self._mutex = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "samples")
        self._pending: list[dict[str, Any]] = []
        self._untold: list[NodeStatistics] = []
        self._told_node = False
        self._jobs_sampled_at = float("-inf")
        self._stem = output_directory / "stats" / f"compute_node_{node}"
        self._store = self._open_store() if switches.is_periodic else None

    async def run(self) -> None:
        """Take a sample each interval, until cancelled."""
        if not self.switches.measures_node:
            return
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.switches.interval_seconds)
            await loop.run_in_executor(self._thread, self._take_sample)

    def note_samples(self, monitor: Monitor, owners: dict[str, tuple[str, int]]) -> None:
        """Keep what running jobs use now; `owners` is attempt -> (job, run)."""
        now = self._clock.monotonic()
        if self._store is None or not self.switches.process:
            return
        # Jobs may be looked at more often, because of their memory limits.
        if now - self._jobs_sampled_at < 0.9 * self.switches.interval_seconds:
            return
        self._jobs_sampled_at = now
        wall = self._clock.wall()
        samples: list[ProcessSample] = [
            (wall, *owners[attempt], sample.cpu_percent, float(sample.rss))
            for attempt, sample in monitor.latest().items()
            if attempt in owners
        ]
        if samples:
            self._thread.submit(self._keep, wall, {}, samples)

    def note_end(self, job_key: str, samples: Summary | None) -> None:
        """Remember what a job used that has just ended."""
        if self.switches.process and samples is not None and samples.num_samples:
            self._pending.append(samples.row("Process", job_key))
            del self._pending[:-_MOST_PENDING]

    def take(self, *, leaving: bool) -> list[NodeStatistics]:
        """Hand over what is to be told with the next request: jobs, and at the end the node."""
        rows, self._pending = self._pending, []
        if leaving and not self._told_node and self.switches.measures_node:
            self._told_node = True
            with self._mutex:
                self._monitor.take(self._clock.monotonic())
                rows += self._monitor.rows()
        told, self._untold = self._untold, []
        if rows:
            told.append(NodeStatistics(secrets.randbits(_NUMBER_BITS), rows))
        return told

    def put_back(self, told: list[NodeStatistics]) -> None:
        """Take back what a request told that failed; it keeps its number, for it may have arrived."""
        self._untold = told + self._untold
        while sum(len(statistics.stats) for statistics in self._untold) > _MOST_PENDING:
            del self._untold[0]

    def close(self) -> None:
        """Write what is left, and the pictures."""
        if self._store is not None:
            self._thread.submit(self._take_sample)
            self._thread.submit(self._finish)
        self._thread.shutdown()

    # ---- in the thread -----------------------------------------------------------------------

    def _open_store(self) -> SampleStore | None:
        try:
            return SampleStore(self._stem.with_suffix(".sqlite"))
        except (OSError, sqlite3.Error) as error:
            self._journal.error(f"No samples are kept: {error}")
            return None

    def _take_sample(self) -> None:
        with self._mutex:
            sample = self._monitor.take(self._clock.monotonic())
        self._keep(self._clock.wall(), sample, [])

    def _keep(self, wall: float, sample: dict[str, dict[str, float]], jobs: list[ProcessSample]) -> None:
        if self._store is None:
            return
        try:
            self._store.add(wall, sample, jobs)
        except sqlite3.Error as error:
            self._journal.error(f"A sample is lost: {error}")

    def _finish(self) -> None:
        if self._store is None:
            return
        try:
            if self.switches.make_plots:
                text = page(f"Compute node {self._node}", _charts(self._store))
                self._stem.with_suffix(".html").write_text(text, encoding="utf-8")
            self._store.close()
        except (OSError, sqlite3.Error) as error:
            self._journal.error(f"The samples are not drawn: {error}")


def _charts(store: SampleStore) -> list[str]:
    def lines(table: str, *columns: str) -> dict[str, list[tuple[float, float]]]:
        return {column.replace("_", " "): store.series(table, column) for column in columns}

    return [
        chart("CPU", lines("cpu", "cpu_percent", "user_percent", "system_percent", "io_wait_percent"), "%"),
        chart("Memory", lines("memory", "used_bytes", "swap_used_bytes"), "B"),
        chart("Disk", lines("disk", "read_bytes_per_second", "write_bytes_per_second"), "B/s"),
        chart("Network", lines("network", "received_bytes_per_second", "sent_bytes_per_second"), "B/s"),
        chart("CPU of jobs", _jobs(store, "cpu_percent"), "%"),
        chart("Resident memory of jobs", _jobs(store, "rss"), "B"),
    ]


def _jobs(store: SampleStore, column: str) -> dict[str, list[tuple[float, float]]]:
    found = store.job_series(column, _MOST_JOBS_DRAWN)
    return {f"job {key}": points for key, points in found.items()}
