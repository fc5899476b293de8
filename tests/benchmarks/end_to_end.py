"""Whole runs with real processes: `lading run`, its server, submitter, runner and guardian."""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """What the attempts of a run say, in seconds and milliseconds."""

    jobs: int
    seconds: float
    """From the first claim to the last end."""
    hop_median_ms: float
    """From a job's end to the start of its dependent; 0 where there is none."""
    hop_p99_ms: float


def run(folder: Path, name: str, jobs: list[dict[str, Any]]) -> Run:
    """Run a workflow to its end and read its attempts."""
    folder.mkdir(parents=True, exist_ok=True)
    specification = folder / f"{name}.json"
    specification.write_text(json.dumps({"name": name, "jobs": jobs}))
    output = folder / f"{name}-output"
    command = [
        *(str(Path(sys.executable).with_name("lading")), "run", str(specification)),
        *("--output", str(output), "--format", "json"),
    ]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"lading run ended with {finished.returncode}: {finished.stderr[-2000:]}")
    return _read(output / ".lading" / "lading.db", chained="blocked_by" in jobs[-1])


def _read(database: Path, *, chained: bool) -> Run:
    connection = sqlite3.connect(database)
    rows = connection.execute(
        "SELECT claimed_ms, started_ms, ended_ms FROM attempt ORDER BY job_id"
    ).fetchall()
    connection.close()
    seconds = (max(row[2] for row in rows) - min(row[0] for row in rows)) / 1000
    hops = [later[1] - earlier[2] for earlier, later in pairwise(rows)] if chained else [0]
    return Run(
        len(rows),
        seconds,
        statistics.median(hops),
        statistics.quantiles(hops, n=100)[-1] if len(hops) > 1 else 0.0,
    )


def independent(number: int) -> list[dict[str, Any]]:
    return [{"name": f"job{n}", "command": "true"} for n in range(number)]


def chain(number: int) -> list[dict[str, Any]]:
    return [
        {"name": f"job{n}", "command": "true", **({"blocked_by": [f"job{n - 1}"]} if n else {})}
        for n in range(number)
    ]
