"""Jobs as documents, and what is asked about them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.documents.conftest import Workflow


@pytest.fixture
async def chain(workflow: Workflow) -> list[dict[str, Any]]:
    """Three jobs: each produces what the next one needs; the last one also waits for the first."""
    first, second = await workflow.add("files", path="1"), await workflow.add("files", path="2")
    data = await workflow.add("user_data", name="d", data={})
    requirements = await workflow.add(
        "resource_requirements", name="r", num_cpus=3, memory="2g", runtime="PT2H"
    )
    jobs = [await workflow.add(
        "jobs", name="a", command="a", output_files=[first["_id"]], output_user_data=[data["_id"]],
        resource_requirements=requirements["_id"],
    )]  # fmt: skip
    jobs.append(await workflow.add(
        "jobs", name="b", command="b", input_files=[first["_id"]], output_files=[second["_id"]],
        input_user_data=[data["_id"]], blocked_by=[jobs[0]["_id"]],
    ))  # fmt: skip
    jobs.append(
        await workflow.add("jobs", name="c", command="c", blocked_by=[jobs[1]["_id"], jobs[0]["_id"]])
    )
    return jobs


def _keys(page: dict[str, Any]) -> list[str]:
    return [item["_key"] for item in page["items"]]


async def test_a_job_shows_no_relations(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    job = chain[1]
    assert job == {
        "name": "b", "command": "b", "cancel_on_blocking_job_failure": True, "supports_termination": False,
        "status": "uninitialized",
        "internal": {"memory_bytes": 0, "num_cpus": 0, "num_gpus": 0, "num_nodes": 0, "runtime_seconds": 0,
                     "scheduler_config_id": "", "hash": 0},
        "_key": job["_key"], "_id": workflow.id_of("jobs", job["_key"]), "_rev": job["_rev"],
    }  # fmt: skip
    assert await workflow.ok("GET", f"jobs/{job['_key']}") == job
    encoded = job["_id"].replace("/", "%2F")
    assert await workflow.ok("GET", f"jobs/{encoded}") == job
    changed = await workflow.ok("PUT", f"jobs/{job['_key']}", json={**job, "command": "other"})
    assert (changed["command"], changed["_rev"] != job["_rev"]) == ("other", True)
    await workflow.refused(409, "PUT", f"jobs/{job['_key']}", json=job)


async def test_jobs_are_found(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    keys = [job["_key"] for job in chain]
    assert await workflow.ok("GET", "job_keys") == {"items": keys}
    assert _keys(await workflow.ok("GET", "jobs")) == keys
    assert (
        _keys(await workflow.ok("GET", "jobs", params={"command": "b", "supports_termination": "false"}))
        == keys[1:2]
    )
    assert (
        _keys(await workflow.ok("GET", "jobs", params={"sort_by": "name", "reverse_sort": "true"}))
        == keys[::-1]
    )
    page = await workflow.ok("GET", "jobs/find_by_status/uninitialized", params={"limit": "2"})
    assert (_keys(page), page["total_count"], page["has_more"]) == (keys[:2], 3, True)
    assert _keys(await workflow.ok("GET", "jobs/find_by_status/nothing")) == []
    [file, _] = (await workflow.ok("GET", "files"))["items"]
    assert _keys(await workflow.ok("GET", f"jobs/find_by_needs_file/{file['_key']}")) == keys[1:2]
    assert _keys(await workflow.ok("GET", f"files/produced_by_job/{keys[0]}")) == [file["_key"]]
    assert _keys(await workflow.ok("GET", f"files/produced_by_job/{keys[0]}", params={"skip": "1"})) == []
    page = await workflow.ok("GET", f"downstream_jobs/{keys[0]}")
    assert (_keys(page), page["total_count"]) == (keys[1:], 2)
    page = await workflow.ok("GET", f"downstream_jobs/{keys[0]}", params={"limit": "1"})
    assert (_keys(page), page["has_more"]) == (keys[1:2], True)
    for path in ("jobs/find_by_needs_file/0", "files/produced_by_job/0", "downstream_jobs/0", "jobs/0"):
        await workflow.refused(404, "GET", path)


async def test_requirements_are_assigned(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    [stored] = (await workflow.ok("GET", "resource_requirements"))["items"]
    first, last = chain[0]["_key"], chain[2]["_key"]
    assert await workflow.ok("GET", f"jobs/{first}/resource_requirements") == stored
    default = await workflow.ok("GET", f"jobs/{last}/resource_requirements")
    assert default == {
        "name": "default", "num_cpus": 1, "num_gpus": 0, "num_nodes": 1, "memory": "1m", "runtime": "P0DT1M",
    }  # fmt: skip
    edge = await workflow.ok("PUT", f"jobs/{last}/resource_requirements/{stored['_key']}")
    assert (edge["_from"], edge["_to"]) == (chain[2]["_id"], stored["_id"])
    assert await workflow.ok("GET", f"jobs/{last}/resource_requirements") == stored
    assert await workflow.ok("GET", f"edges/requires/{edge['_key']}") == edge
    await workflow.refused(404, "PUT", f"jobs/{last}/resource_requirements/0")


async def test_user_data_of_a_job(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    key = chain[2]["_key"]
    stored = await workflow.ok("POST", f"jobs/{key}/user_data", json={"name": "mine", "data": {"x": 1}})
    page = await workflow.ok("GET", f"jobs/{key}/user_data_stores")
    assert (page["items"], page["skip"], page["total_count"]) == ([stored], 0, 1)
    assert (await workflow.ok("GET", f"jobs/{key}/user_data_consumes"))["items"] == []
    consumed = await workflow.ok("GET", f"jobs/{chain[1]['_key']}/user_data_consumes")
    assert [item["name"] for item in consumed["items"]] == ["d"]


async def test_results_and_statistics_of_a_job(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    key = chain[0]["_key"]
    await workflow.refused(404, "GET", f"results/find_by_job/{key}")
    for run_id in (2, 1):
        await workflow.add(
            "job_process_stats", job_key=key, run_id=run_id, avg_cpu_percent=1, max_cpu_percent=1, avg_rss=1,
            max_rss=1, num_samples=1, timestamp="t",
        )  # fmt: skip
        await workflow.add(
            "results", job_key=key, run_id=run_id, return_code=run_id, exec_time_minutes=1,
            completion_time="t", status="done",
        )  # fmt: skip
    statistics = await workflow.ok("GET", f"jobs/{key}/process_stats")
    assert [item["run_id"] for item in statistics] == [1, 2]
    status = await workflow.ok("GET", "status")
    await workflow.ok("PUT", "status", json={**status, "run_id": 2})
    assert (await workflow.ok("GET", f"results/find_by_job/{key}"))["return_code"] == 2


async def test_what_a_workflow_lacks(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    loose = await workflow.add("user_data", name="loose", data={})
    absent = await workflow.add("user_data", name="absent")
    needed = await workflow.add("files", path="needed")
    await workflow.add(
        "jobs", command="x", input_files=[needed["_id"]], input_user_data=[loose["_id"], absent["_id"]]
    )
    assert await workflow.ok("GET", "missing_user_data") == {"user_data": [loose["_key"]]}
    assert await workflow.ok("GET", "required_existing_files") == {"files": [needed["_id"]]}


async def test_what_ready_jobs_ask_for(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    nothing = {
        "num_jobs": 0, "num_cpus": 0, "num_gpus": 0, "memory_gb": 0, "max_num_nodes": 0, "max_runtime": "",
    }  # fmt: skip
    assert await workflow.ok("GET", "ready_job_requirements") == nothing
    config = await workflow.add("slurm_schedulers", account="a", nodes=1)
    other = await workflow.add("local_schedulers")
    await workflow.add("jobs", command="x", scheduler=config["_id"])
    for job in (await workflow.ok("GET", "jobs"))["items"]:
        if job["command"] in {"a", "x"}:
            await workflow.ok("PUT", f"jobs/{job['_key']}", json={**job, "status": "ready"})
    asked = await workflow.ok("GET", "ready_job_requirements")
    assert asked == {
        "num_jobs": 2, "num_cpus": 4, "num_gpus": 0, "memory_gb": 2 + 1 / 1024, "max_num_nodes": 1,
        "max_runtime": "PT2H",
    }  # fmt: skip
    fewer = await workflow.ok("GET", "ready_job_requirements", params={"scheduler_config_id": other["_id"]})
    assert fewer["num_jobs"] == 1
    assert (fewer["max_num_cpus"], fewer["max_num_gpus"]) == (3, 0)
    assert 0 < fewer["max_memory_gb"] <= fewer["memory_gb"]
    wide = await workflow.add("resource_requirements", name="wide", num_nodes=3)
    for _ in range(2):
        added = await workflow.add("jobs", command="wide", resource_requirements=wide["_id"])
        await workflow.ok("PUT", f"jobs/{added['_key']}", json={**added, "status": "ready"})
    more = await workflow.ok("GET", "ready_job_requirements")
    assert (more["num_jobs"], more["max_num_nodes"], more["num_whole_nodes"]) == (4, 3, 6)


async def test_jobs_are_removed(workflow: Workflow, chain: list[dict[str, Any]]) -> None:
    removed = await workflow.ok("DELETE", f"jobs/{chain[0]['_key']}")
    assert removed == chain[0]
    assert (await workflow.ok("GET", "edges/produces"))["total_count"] == 1
    assert set(await workflow.ok("DELETE", "jobs")) == {"message"}
    assert await workflow.ok("GET", "job_keys") == {"items": []}
    assert (await workflow.ok("GET", "edges/blocks"))["items"] == []


async def test_bulk_jobs_are_stored_all_or_none(workflow: Workflow) -> None:
    answer = await workflow.ok("POST", "bulk_jobs", json={"jobs": [{"command": str(n)} for n in range(3)]})
    assert [item["command"] for item in answer["items"]] == ["0", "1", "2"]
    text = await workflow.refused(
        400,
        "POST",
        "bulk_jobs",
        json={"jobs": [{"command": "a"}, {"command": "b", "input_files": ["files__0/1"]}]},
    )
    assert "jobs[1]" in text
    assert (await workflow.ok("GET", "jobs"))["total_count"] == 3
