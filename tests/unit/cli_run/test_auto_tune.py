"""Auto-tuning from end to end: real jobs use memory and CPU, and what they took is asked for afterwards."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lading.toolkit.client import Lading
from tests.unit.cli_run.test_features import client_of, ok, served, work
from tests.unit.cli_run.test_lading_run import read

__all__ = ["served", "work"]

HUNGRY = "held = b'x' * 1_200_000_000; import time; time.sleep(3)"
BUSY = "import time; end = time.time() + 3\nwhile time.time() < end: pass"
REQUIREMENTS: list[dict[str, Any]] = [
    {"name": "hungry", "num_cpus": 1, "memory": "2500m", "runtime": "P0DT2H"},
    {"name": "busy", "num_cpus": 2, "memory": "100m", "runtime": "P0DT3H"},
]


@pytest.fixture
def workflow(served: Path) -> str:
    (served / "hungry.py").write_text(HUNGRY)
    (served / "busy.py").write_text(BUSY)
    document = {
        "name": "tuned",
        "config": {"compute_node_resource_stats": {"process": True, "interval": 1}},
        "resource_requirements": REQUIREMENTS,
        "schedulers": {"local_schedulers": [{"name": "here", "max_allocations": 1}]},
        "jobs": [
            *({"name": f"{kind}{number}", "command": f"python3 {kind}.py", "resource_requirements": kind}
              for kind in ("hungry", "busy") for number in range(2)),
            {"name": "last", "command": "true", "resource_requirements": "busy",
             "blocked_by": ["hungry0", "busy0"]},
        ],
    }  # fmt: skip
    (served / "tuned.json").write_text(json.dumps(document))
    return str(read(served, "workflows", "create-from-file", "tuned.json")["_key"])


def results(client: Lading, workflow: str) -> set[tuple[str, int, int]]:
    """Return job, run and return code of every result."""
    names = {str(job["_key"]): str(job["name"]) for job in client.list_jobs(workflow)}
    found = client.list_documents(workflow, "results")
    return {(names[str(item["job_key"])], item["run_id"], item["return_code"]) for item in found}


def request(work: Path, method: str, path: str, body: Any = None) -> Any:
    """Send one of torc's requests as its own client does."""
    with client_of(work) as client:
        target = client.target
    headers = {"Authorization": f"Bearer {target.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{target.url}{path}", data, headers, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def check(work: Path, workflow: str) -> None:
    """Assert that the requirements hold what the measured jobs took, and that each job ran once."""
    with client_of(work) as client:
        stored = {
            str(item["name"]): item for item in client.list_documents(workflow, "resource_requirements")
        }
        assert stored["hungry"]["memory"] == "2g"
        assert stored["busy"]["memory"] == "1g"
        for item in stored.values():
            assert item["num_cpus"] in {1, 2}
            assert item["runtime"] in {"P0DT0H1M", "P0DT0H2M"}
        changes = client.list_events(workflow, category="resource_requirements", type="update")
        assert [event["name"] for event in changes] == ["hungry", "busy"]
        assert results(client, workflow) == {
            ("hungry0", 1, 0), ("busy0", 1, 0), ("last", 1, 0), ("hungry1", 2, 0), ("busy1", 2, 0),
        }  # fmt: skip
        assert {str(job["status"]) for job in client.list_jobs(workflow)} == {"done"}


def test_with_the_commands(served: Path, workflow: str) -> None:
    ok(served, "workflows", "start", workflow, "--auto-tune")
    ok(served, "jobs", "wait", "--workflow", workflow)
    ok(served, "workflows", "finish-auto-tune", workflow)
    assert read(served, "workflows", "restart", workflow)["run_id"] == 2
    ok(served, "jobs", "wait", "--workflow", workflow)
    check(served, workflow)


def test_with_requests_of_torc(served: Path, workflow: str) -> None:
    path = f"/workflows/{workflow}"

    def raise_run_id() -> None:
        status = request(served, "GET", f"{path}/status")
        request(served, "PUT", f"{path}/status", {**status, "run_id": status["run_id"] + 1})

    raise_run_id()
    request(served, "POST", f"{path}/initialize_jobs")
    request(served, "POST", f"{path}/auto_tune_resource_requirements")
    ok(served, "jobs", "wait", "--workflow", workflow)
    request(served, "POST", f"{path}/process_auto_tune_resource_requirements_results")
    raise_run_id()
    request(served, "POST", f"{path}/initialize_jobs?only_uninitialized=true")
    ok(served, "jobs", "wait", "--workflow", workflow)
    check(served, workflow)
