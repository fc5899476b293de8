"""Every sample of a node in a SQLite file, OUTPUT/stats/compute_node_KEY.sqlite: a table per resource."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PROCESS_COLUMNS: Final = ("timestamp", "job_key", "run_id", "cpu_percent", "rss")

ProcessSample = tuple[float, str, int, float, float]
"""Seconds since the epoch, job, run, percent of one CPU, resident bytes."""


class SampleStore:
    """The file of one node; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, check_same_thread=False)
        # Samples are worth no wait for the disk, which is often that of a busy network file system.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._columns: dict[str, tuple[str, ...]] = {}

    def add(
        self, timestamp: float, sample: Mapping[str, Mapping[str, float]], processes: Sequence[ProcessSample]
    ) -> None:
        """Store one sample of the node, and those of its jobs."""
        for kind, values in sample.items():
            self._insert(kind.lower(), ("timestamp", *values), [(timestamp, *values.values())])
        if processes:
            self._insert("process", _PROCESS_COLUMNS, processes)
        self._connection.commit()

    def series(self, table: str, column: str) -> list[tuple[float, float]]:
        """Return (timestamp, value) in the order of time."""
        if column not in self._columns.get(table, ()):
            return []
        query = f'SELECT timestamp, "{column}" FROM "{table}" ORDER BY timestamp'
        return self._connection.execute(query).fetchall()

    def job_series(self, column: str, most: int) -> dict[str, list[tuple[float, float]]]:
        """Return the samples of the jobs that were seen most often, job by job."""
        if "process" not in self._columns:
            return {}
        query = "SELECT job_key FROM process GROUP BY job_key ORDER BY count(*) DESC, job_key LIMIT ?"
        keys = [key for (key,) in self._connection.execute(query, (most,))]
        rows = f'SELECT timestamp, "{column}" FROM process WHERE job_key = ? ORDER BY timestamp'
        return {key: self._connection.execute(rows, (key,)).fetchall() for key in keys}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _insert(self, table: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
        if table not in self._columns:
            self._columns[table] = columns
            names = ", ".join(f'"{column}"' for column in columns)
            self._connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({names})')
        names = ", ".join(f'"{column}"' for column in columns)
        marks = ", ".join("?" for _ in columns)
        statement = f'INSERT INTO "{table}" ({names}) VALUES ({marks})'
        self._connection.executemany(statement, rows)
