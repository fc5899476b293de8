"""What runs is not removed from sight, readers that go away leave nothing behind, owners see their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lading.api.services.documents.collections import FILES
from lading.api.services.documents.reading import Paging, list_documents
from lading.api.services.identity import Principal, Scope
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import NotFound
from tests.api.documents.conftest import Workflow


@pytest.fixture
async def running(workflow: Workflow) -> dict[str, Any]:
    """A job that runs on a compute node, by the published calls."""
    node = await workflow.add(
        "compute_nodes",
        hostname="n",
        pid=1,
        start_time="t",
        resources={"num_cpus": 1, "memory_gb": 1},
    )
    await workflow.add("jobs", name="j", command="true")
    status = await workflow.ok("GET", "status")
    await workflow.ok("PUT", "status", json={**status, "run_id": 1})
    await workflow.ok("POST", "initialize_jobs")
    [job] = (await workflow.ok("POST", "prepare_next_jobs_for_submission"))["jobs"]
    started = await workflow.ok("PUT", f"jobs/{job['_key']}/start_job/{job['_rev']}/1/{node['_key']}")
    return {"node": node, "job": started}


async def test_an_executed_edge_shows_where_a_job_ran(workflow: Workflow, running: dict[str, Any]) -> None:
    [edge] = (await workflow.ok("GET", "edges/executed"))["items"]
    assert (edge["_from"], edge["_to"]) == (running["node"]["_id"], running["job"]["_id"])
    assert edge["data"] == {"run_id": 1}
    assert await workflow.ok("GET", f"edges/executed/{edge['_key']}") == edge


async def test_a_node_with_jobs_stays(workflow: Workflow, running: dict[str, Any]) -> None:
    key, job = running["node"]["_key"], running["job"]
    [edge] = (await workflow.ok("GET", "edges/executed"))["items"]
    assert "still holds" in await workflow.refused(409, "DELETE", f"compute_nodes/{key}")
    await workflow.refused(409, "DELETE", "compute_nodes")
    assert "running" in await workflow.refused(409, "DELETE", f"edges/executed/{edge['_key']}")
    await workflow.refused(409, "DELETE", "edges/executed")
    result = {
        "job_key": job["_key"], "run_id": 1, "return_code": 0, "exec_time_minutes": 1,
        "completion_time": "t", "status": "done",
    }  # fmt: skip
    await workflow.ok("POST", f"jobs/{job['_key']}/complete_job/done/{job['_rev']}/1/{key}", json=result)
    [returned] = (await workflow.ok("GET", "edges/returned"))["items"]
    assert returned["_from"] == job["_id"]
    await workflow.ok("DELETE", f"compute_nodes/{key}")
    assert (await workflow.ok("GET", "edges/executed"))["items"] == []


async def test_an_allocation_of_our_own_stays_until_it_is_over(workflow: Workflow) -> None:
    config = await workflow.add("local_schedulers")
    allocation = await workflow.add(
        "scheduled_compute_nodes", scheduler_config_id=config["_id"], status="pending"
    )

    def launch(_effects: Effects) -> UseCase:
        yield Statement(
            "INSERT INTO launch (id, tag, workflow_id, backend, scheduler_id, scheduler_config_id, count, state, "
            "created_ms) VALUES (900000, 't', :workflow, 'local', :config, :config_id, 1, 'stored', 0)",
            {
                "workflow": int(workflow.key),
                "config": int(config["_key"]),
                "config_id": config["_id"],
            },
        )
        yield Statement(
            "UPDATE scheduled_compute_node SET launch_id = 900000 WHERE id = :id",
            {"id": int(allocation["_key"])},
        )

    await workflow.server.database.write(launch)
    one = f"scheduled_compute_nodes/{allocation['_key']}"
    assert "cancel it first" in await workflow.refused(409, "DELETE", one)
    await workflow.refused(409, "DELETE", "scheduled_compute_nodes")
    await workflow.refused(409, "DELETE", f"local_schedulers/{config['_key']}")
    await workflow.ok("PUT", one, json={**allocation, "status": "complete"})
    await workflow.ok("DELETE", one)


async def test_a_changed_config_wakes_the_submitter(workflow: Workflow) -> None:
    wakeups = workflow.server.services.wakeups
    config: dict[str, Any] = {}
    for method in ("POST", "PUT", "DELETE"):
        with wakeups.submitter() as woken:
            path = "local_schedulers" if method == "POST" else f"local_schedulers/{config['_key']}"
            body = None if method == "DELETE" else {**config, "max_allocations": len(config)}
            config = await workflow.ok(method, path, json=body)
            async with asyncio.timeout(10):
                await woken.wait()


async def test_a_reader_that_goes_away_blocks_nobody(workflow: Workflow) -> None:
    services = workflow.server.services
    principal = Principal("", Scope.ADMIN)
    await workflow.add("files", path="p")
    for turns in range(12):
        task = asyncio.create_task(list_documents(services, principal, workflow.key, FILES, Paging()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(10):
        page = await list_documents(services, principal, workflow.key, FILES, Paging())
    assert page["count"] == 1


async def test_lists_run_side_by_side(workflow: Workflow) -> None:
    await workflow.add("files", path="p")
    pages = await asyncio.gather(*(workflow.ok("GET", "files") for _ in range(20)))
    assert {page["total_count"] for page in pages} == {1}


async def test_a_long_list_is_complete(workflow: Workflow) -> None:
    jobs = [{"command": "true", "name": f"j{number % 7}"} for number in range(1203)]
    await workflow.ok("POST", "bulk_jobs", json={"jobs": jobs})
    keys = (await workflow.ok("GET", "job_keys"))["items"]
    for params in ({}, {"sort_by": "_key"}, {"limit": "1203"}):
        page = await workflow.ok("GET", "jobs", params=params)
        assert [item["_key"] for item in page["items"]] == keys
        assert (page["total_count"], page["has_more"]) == (1203, False)
    page = await workflow.ok("GET", "jobs", params={"skip": "100", "limit": "1000"})
    assert [item["_key"] for item in page["items"]] == keys[100:1100]
    assert (page["total_count"], page["has_more"]) == (1203, True)


async def test_nobody_sees_what_belongs_to_others(workflow: Workflow) -> None:
    services = workflow.server.services
    stranger = Principal("stranger", Scope.USER)
    with pytest.raises(NotFound):
        await list_documents(services, stranger, workflow.key, FILES, Paging())
