"""Requirements that are measured: one job of each kind runs, the others wait for what it took."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.behaviour.conftest import Worker, stored
from tests.lib.service import Service

MEASURED: dict[str, Any] = {
    "avg_cpu_percent": 80, "max_cpu_percent": 250, "avg_rss": 2**30, "max_rss": 3 * 2**30 + 1,
    "num_samples": 5, "timestamp": "2026-01-01T00:00:00",
}  # fmt: skip


@pytest.fixture
async def worker(server: Service) -> Worker:
    document = {
        "name": "w", "config": {"compute_node_resource_stats": {"process": True}},
        "resource_requirements": [{"name": "one", "num_cpus": 8, "memory": "20g"}, {"name": "two"}],
        "jobs": [
            *({"name": f"a{n}", "command": "c", "resource_requirements": "one"} for n in range(3)),
            *({"name": f"b{n}", "command": "c", "resource_requirements": "two"} for n in range(2)),
            {"name": "last", "command": "c", "resource_requirements": "one", "blocked_by": ["a0", "b0"]},
        ],
    }  # fmt: skip
    made = await stored(server, document)
    await made.begin()
    return made


async def test_it_works_with_jobs_that_wait_for_others(worker: Worker) -> None:
    await worker.ok("POST", "auto_tune_resource_requirements")
    assert await worker.statuses() == {
        "a0": "ready", "a1": "disabled", "a2": "disabled", "b0": "ready", "b1": "disabled",
        "last": "blocked",
    }  # fmt: skip
    status = await worker.ok("GET", "status")
    chosen = [(await worker.document("jobs", name))["_key"] for name in ("a0", "b0")]
    assert status["auto_tune_status"] == {"enabled": True, "job_keys": chosen}
    path = "process_auto_tune_resource_requirements_results"
    before = await worker.ok("GET", "resource_requirements")
    assert "statistics" in await worker.refused(400, "POST", path)
    assert await worker.ok("GET", "resource_requirements") == before

    for job in await worker.claim():
        await worker.run(job, minutes=2.2)
        await worker.ok("POST", "job_process_stats", json={**MEASURED, "job_key": job["_key"], "run_id": 1})
    await worker.ok("POST", path)
    tuned = await worker.document("resource_requirements", "one")
    assert (tuned["num_cpus"], tuned["memory"], tuned["runtime"]) == (3, "4g", "P0DT0H3M")
    assert (await worker.ok("GET", "status"))["auto_tune_status"]["enabled"] is False
    events = (await worker.ok("GET", "events"))["items"][-2:]
    assert [(event["type"], event["name"]) for event in events] == [("update", "one"), ("update", "two")]
    assert events[0]["old"]["num_cpus"] == 8

    await worker.raise_run_id()
    await worker.ok("POST", "initialize_jobs", params={"only_uninitialized": "true"})
    claimed = await worker.claim()
    assert sorted(job["name"] for job in claimed) == ["a1", "a2", "b1", "last"]
    assert {job["internal"]["num_cpus"] for job in claimed} == {3}


async def test_it_needs_measurements(server: Service) -> None:
    worker = await stored(server, {"name": "w", "jobs": [{"name": "a", "command": "c"}]})
    await worker.begin()
    assert "process" in await worker.refused(400, "POST", "auto_tune_resource_requirements")
    refusal = await worker.refused(400, "POST", "process_auto_tune_resource_requirements_results")
    assert "not being auto-tuned" in refusal


async def test_jobs_without_requirements_cannot_be_adjusted(server: Service) -> None:
    document = {
        "name": "w", "config": {"compute_node_resource_stats": {"process": True}},
        "jobs": [{"name": "a", "command": "c"}],
    }  # fmt: skip
    worker = await stored(server, document)
    await worker.begin()
    await worker.ok("POST", "auto_tune_resource_requirements")
    await worker.run_all()
    path = "process_auto_tune_resource_requirements_results"
    assert "no resource requirements" in await worker.refused(400, "POST", path)
