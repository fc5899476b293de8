"""Many jobs through few allocations on a real Slurm: everything done once, few calls, busy CPUs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lading.schedulers.slurm.queue import Queue
from lading.toolkit.errors import TransientError
from tests.lib.waiting import until
from tests.slurm.host import document

pytestmark = pytest.mark.slurm

JOBS = 1_000
ALLOCATIONS = 4
CPUS = 8
LEAST_USE = 0.85
PACE_SECONDS = 30.0


def test_a_thousand_short_jobs_keep_four_allocations_busy(host, record_property, capsys):
    jobs = [{"name": f"job{number}", "command": f"sleep {number % 3}"} for number in range(JOBS)]
    # What a node sees: its PATH leads to the shims that count, too.
    jobs[0]["command"] = "bash -c 'type -P srun'"
    key = host.submit(document(jobs, cpus=CPUS, max_allocations=ALLOCATIONS))
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    until(lambda: host.cluster.queue() == [], 60.0, "the allocations are given back", pause=0.2)

    attempts = host.listed("jobs", "attempts", "-w", key)
    assert Counter(attempt["job_name"] for attempt in attempts) == Counter(job["name"] for job in jobs)
    assert Counter((attempt["cause"], attempt["return_code"]) for attempt in attempts) == {("exit", 0): JOBS}
    results = host.listed("results", "list", "-w", key)
    assert Counter(str(result["job_key"]) for result in results) == Counter(a["job_key"] for a in attempts)
    assert {row["status"] for row in host.listed("jobs", "list", "-w", key)} == {"done"}

    (looked,) = (attempt for attempt in attempts if attempt["job_name"] == "job0")
    assert Path(looked["stdout_path"]).read_text().strip() == str(host.folder / "shims" / "srun")
    called = host.called()
    assert (called["sbatch"] <= ALLOCATIONS, called["srun"]) == (True, 0), called
    for program in ("squeue", "sacct"):
        gaps = [later - earlier for earlier, later in pairwise(host.call_times(program))]
        # A second is for the shim, which may note the earlier call late.
        assert all(gap > PACE_SECONDS - 1 for gap in gaps), f"{program} was called after {gaps} s"

    use, per_node = use_of(attempts)
    figure = (
        f"{JOBS} jobs through {ALLOCATIONS} allocations of {CPUS} CPUs: use {use:.3f} (at least {LEAST_USE})"
    )
    record_property("use", round(use, 3))
    with capsys.disabled():
        print(f"\n{figure}; by node: {json.dumps(per_node)}")  # noqa: T201
    assert len(per_node) == ALLOCATIONS
    assert use >= LEAST_USE, f"{figure}: {per_node}"


def test_slurm_is_asked_once_in_thirty_seconds(on_a):
    clock = [1_000.0]
    queue = Queue(monotonic=lambda: clock[0])
    first = queue.look()
    assert queue.records(["1"]) is not None
    clock[0] += PACE_SECONDS - 0.1
    assert queue.look() is first
    assert queue.records(["1"]) is None
    with pytest.raises(TransientError, match="a moment ago"):
        queue.look(not_before=clock[0])
    clock[0] += 0.1
    assert queue.look() is not first
    assert queue.records(["1"]) is not None


def use_of(attempts: Iterable[Mapping[str, Any]]) -> tuple[float, dict[str, float]]:
    """Return which share of the offered CPUs' time jobs took, altogether and on each node.

    Each job has one CPU. What a node offers counts from its first claim to its last report.
    """
    nodes = defaultdict(list)
    for attempt in attempts:
        nodes[attempt["compute_node"]].append(attempt)
    taken = {node: sum(attempt["exec_seconds"] for attempt in rows) for node, rows in nodes.items()}
    offered = {node: CPUS * _seconds_between_first_and_last(rows) for node, rows in nodes.items()}
    per_node = {node: round(taken[node] / offered[node], 3) for node in nodes}
    return sum(taken.values()) / sum(offered.values()), per_node


def _seconds_between_first_and_last(attempts: Iterable[Mapping[str, Any]]) -> float:
    claimed = [datetime.fromisoformat(attempt["claimed_at"]) for attempt in attempts]
    ended = [datetime.fromisoformat(attempt["ended_at"]) for attempt in attempts]
    return (max(ended) - min(claimed)).total_seconds()
