"""`blocks` edges that clients post and remove while jobs wait, run, or have ended."""

from __future__ import annotations

from typing import Any

from tests.api.documents.conftest import Workflow

CLAIM = {"num_cpus": 100, "memory_gb": 100}


async def ready(workflow: Workflow, *names: str) -> dict[str, str]:
    """Store jobs that wait for nothing, initialized; name -> _id."""
    await workflow.ok("POST", "bulk_jobs", json={"jobs": [{"command": "c", "name": name} for name in names]})
    await workflow.ok("POST", "initialize_jobs")
    return {job["name"]: job["_id"] for job in (await workflow.ok("GET", "jobs"))["items"]}


async def statuses(workflow: Workflow) -> dict[str, str]:
    return {job["name"]: job["status"] for job in (await workflow.ok("GET", "jobs"))["items"]}


async def block(workflow: Workflow, blocker: str, blocked: str) -> dict[str, Any]:
    return await workflow.add("edges/blocks", _from=blocker, _to=blocked)


async def complete(workflow: Workflow, job_id: str, return_code: int = 0) -> None:
    job = await workflow.ok("GET", f"jobs/{job_id.replace('/', '%2F')}")
    run_id = (await workflow.ok("GET", "status"))["run_id"]
    nodes = (await workflow.ok("GET", "compute_nodes"))["items"] or [
        await workflow.add("compute_nodes", hostname="n", pid=1, start_time="t", resources=CLAIM)
    ]
    result = {
        "job_key": job["_key"], "run_id": run_id, "return_code": return_code, "exec_time_minutes": 1,
        "completion_time": "2026-01-01T00:00:00Z", "status": "done",
    }  # fmt: skip
    path = f"jobs/{job['_key']}/complete_job/done/{job['_rev']}/{run_id}/{nodes[0]['_key']}"
    await workflow.ok("POST", path, json=result)


async def test_a_ready_job_waits_again_for_a_blocker_that_has_not_ended(workflow: Workflow) -> None:
    jobs = await ready(workflow, "first", "second")
    edge = await block(workflow, jobs["first"], jobs["second"])
    assert await statuses(workflow) == {"first": "ready", "second": "blocked"}
    assert await block(workflow, jobs["first"], jobs["second"]) == edge
    claimed = (await workflow.ok("POST", "prepare_jobs_for_submission", json=CLAIM))["jobs"]
    assert [job["name"] for job in claimed] == ["first"]
    await complete(workflow, jobs["first"])
    assert await statuses(workflow) == {"first": "done", "second": "ready"}


async def test_a_job_does_not_wait_for_one_that_has_ended(workflow: Workflow) -> None:
    jobs = await ready(workflow, "first", "second")
    await complete(workflow, jobs["first"], return_code=1)
    await block(workflow, jobs["first"], jobs["second"])
    assert (await statuses(workflow))["second"] == "ready"


async def test_a_job_that_was_handed_out_goes_on(workflow: Workflow) -> None:
    jobs = await ready(workflow, "first", "second")
    await workflow.ok("POST", "prepare_next_jobs_for_submission?limit=2")
    await block(workflow, jobs["first"], jobs["second"])
    assert set((await statuses(workflow)).values()) == {"submitted_pending"}
    await complete(workflow, jobs["second"])
    await complete(workflow, jobs["first"])
    assert set((await statuses(workflow)).values()) == {"done"}


async def test_an_edge_that_would_close_a_circle_is_refused(workflow: Workflow) -> None:
    jobs = await ready(workflow, "a", "b", "c")
    await block(workflow, jobs["a"], jobs["b"])
    await block(workflow, jobs["b"], jobs["c"])
    edge = {"_from": jobs["c"], "_to": jobs["a"]}
    assert "a → b → c → a" in await workflow.refused(400, "POST", "edges/blocks", json=edge)
    itself = {"_from": jobs["c"], "_to": jobs["c"]}
    assert "itself" in await workflow.refused(400, "POST", "edges/blocks", json=itself)
    assert (await workflow.ok("GET", "edges/blocks"))["total_count"] == 2
    assert await statuses(workflow) == {"a": "ready", "b": "blocked", "c": "blocked"}


async def test_a_circle_of_files_is_named_when_jobs_are_initialized(workflow: Workflow) -> None:
    one, two = [await workflow.add("files", path=path) for path in ("one", "two")]
    await workflow.add("jobs", command="c", name="hen", input_files=[one["_id"]], output_files=[two["_id"]])
    await workflow.add("jobs", command="c", name="egg", input_files=[two["_id"]], output_files=[one["_id"]])
    text = await workflow.refused(400, "POST", "initialize_jobs")
    assert "hen → egg → hen" in text or "egg → hen → egg" in text
    assert set((await statuses(workflow)).values()) == {"uninitialized"}
    assert (await workflow.ok("GET", "edges/blocks"))["total_count"] == 0


async def test_jobs_of_one_request_may_name_each_other_by_chosen_keys(workflow: Workflow) -> None:
    first = {"command": "c", "name": "first", "_key": "k1"}
    second = {"command": "c", "name": "second", "blocked_by": [workflow.id_of("jobs", "k1")]}
    await workflow.ok("POST", "bulk_jobs", json={"jobs": [second, first]})
    await workflow.ok("POST", "initialize_jobs")
    assert await statuses(workflow) == {"first": "ready", "second": "blocked"}

    jobs = [
        {"command": "c", "name": "a", "_key": "a", "blocked_by": [workflow.id_of("jobs", "b")]},
        {"command": "c", "name": "b", "_key": "b", "blocked_by": [workflow.id_of("jobs", "a")]},
    ]
    assert "circle" in await workflow.refused(400, "POST", "bulk_jobs", json={"jobs": jobs})
    alone = {"command": "c", "_key": "z", "blocked_by": [workflow.id_of("jobs", "z")]}
    assert "blocked_by" in await workflow.refused(400, "POST", "jobs", json=alone)
    twice = {"jobs": [{"command": "c", "_key": "t"}, {"command": "d", "_key": "t"}]}
    assert "twice" in await workflow.refused(400, "POST", "bulk_jobs", json=twice)
    assert len(await statuses(workflow)) == 2
