"""Many claimants at once. The promise: no job is handed to two of them, on either database."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.lab import running_lab
from tests.lib.waiting import until

RUNNERS = 16
JOBS = 2_000


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_sixteen_runners_share_two_thousand_jobs(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """Each job runs once, on one of the runners, and every runner gets some."""
    database = "" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    with running_lab(tmp_path / "lab", database) as lab:
        lab.start_server()
        specification = lab.specification([], schedulers=[])
        specification["config"]["lease_seconds"] = 60
        # They wait until all of them are there.
        gate = lab.folder / "gate"
        specification["jobs"] = [
            {"name": "gate", "command": f"bash -c 'until [[ -e {gate} ]]; do sleep 0.05; done'"}
        ]
        specification["jobs"] += [
            {"name": f"job{number}", "command": "true", "stdout": "none", "blocked_by": ["gate"]}
            for number in range(JOBS)
        ]
        workflow = lab.submit(specification)
        nodes = [lab.start_node(workflow, str(number), cpus=4) for number in range(RUNNERS)]
        with lab.client() as client:
            until(lambda: client.progress(workflow).active_nodes == RUNNERS, 90, "all runners are registered")
            gate.touch()
            lab.await_completion(workflow, 90)
            attempts = list(client.list_attempts(workflow))
            results = list(client.list_results(workflow))
        assert {node.wait(60) for node in nodes} == {0}
        assert len(attempts) == len({attempt.job_key for attempt in attempts}) == JOBS + 1
        assert {(attempt.number, attempt.cause, attempt.return_code) for attempt in attempts} == {
            (1, "exit", 0)
        }
        assert len(results) == len({result["job_key"] for result in results}) == JOBS + 1
        assert len(Counter(attempt.compute_node for attempt in attempts)) > RUNNERS // 2
        verdict = lab.lading("db", "verify", "--database", lab.database)
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr
