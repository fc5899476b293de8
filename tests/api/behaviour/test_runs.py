"""Whole runs through the published endpoints: order, events, failure, cancellation, completion."""

from __future__ import annotations

import asyncio

from lading.api.server_process import ServerOptions
from tests.api.behaviour.conftest import DIAMOND, NODE, Worker, stored
from tests.api.table import Json
from tests.lib.service import Service, running_service


async def test_a_plain_diamond_leaves_exactly_eleven_events(diamond: Worker) -> None:
    await diamond.begin()
    await diamond.ok("POST", "events", json={"category": "workflow", "type": "start"})
    await diamond.ok("POST", "events", json={"category": "worker", "type": "start"})
    assert await diamond.run_all() == ["split", "west", "east", "merge"]
    await diamond.ok("POST", "events", json={"category": "worker", "type": "stop"})
    assert await diamond.ok("GET", "is_complete") == {
        "is_canceled": False, "is_complete": True, "needs_to_run_completion_script": False,
    }  # fmt: skip
    events = (await diamond.ok("GET", "events_after_timestamp/0"))["items"]
    assert len(events) == 11
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps)
    jobs = [(event["type"], event["job_name"]) for event in events if event["category"] == "job"]
    assert jobs == [
        (kind, name) for name in ("split", "west", "east", "merge") for kind in ("start", "complete")
    ]
    page = await diamond.ok("GET", "events_after_timestamp/0", params={"category": "worker"})
    assert [event["type"] for event in page["items"]] == ["start", "stop"]


async def test_what_is_behind_a_failed_job_is_canceled_to_the_end(diamond: Worker) -> None:
    await diamond.begin()
    await diamond.run_all(failing=frozenset({"split"}))
    assert await diamond.statuses() == {
        "split": "done", "west": "canceled", "east": "canceled", "merge": "canceled",
    }  # fmt: skip
    assert (await diamond.ok("GET", "is_complete"))["is_complete"] is True


async def test_failed_only_runs_the_failed_job_and_what_is_behind_it(diamond: Worker) -> None:
    await diamond.begin()
    assert await diamond.run_all(failing=frozenset({"west"})) == ["split", "west", "east"]
    # Before run_id is raised, as its reference says.
    await diamond.ok("POST", "reset_job_status", params={"failed_only": "true"})
    assert await diamond.statuses() == {
        "split": "done", "west": "uninitialized", "east": "done", "merge": "uninitialized",
    }  # fmt: skip
    answer = await diamond.ok("POST", "restart", json={"only_uninitialized": True})
    assert (answer["run_id"], [job["name"] for job in answer["jobs"]]) == (2, ["west", "merge"])
    assert await diamond.run_all() == ["west", "merge"]
    results = (await diamond.ok("GET", "results"))["items"]
    assert [result["run_id"] for result in results] == [1, 1, 1, 2, 2]
    assert set((await diamond.statuses()).values()) == {"done"}


FLAT: Json = {
    "name": "flat", "user": "ana",
    "resource_requirements": [
        {"name": "small", "num_cpus": 1, "memory": "1g", "runtime": "P0DT1H"},
        {"name": "huge", "num_cpus": 1000, "memory": "1g", "runtime": "P0DT1H"},
    ],
    "jobs": [{"name": name, "command": name, "resource_requirements": "small"} for name in ("a", "b", "c")],
}  # fmt: skip


async def test_a_new_priority_counts_in_the_next_claim(server: Service) -> None:
    worker = await stored(server, FLAT)
    await worker.begin()
    await worker.change("jobs", "c", priority=7)
    await worker.change("jobs", "b", priority=3)
    assert [job["name"] for job in await worker.claim(limit="1")] == ["c"]
    # A job that is held keeps what it was claimed with; its priority is that of its next claim.
    await worker.change("jobs", "c", priority=1)
    await worker.change("jobs", "a", priority=5)
    assert [job["name"] for job in await worker.claim()] == ["a", "b"]
    assert await worker.claim() == []


async def test_new_requirements_count_for_jobs_that_nobody_holds(server: Service) -> None:
    worker = await stored(server, FLAT)
    await worker.begin()
    [held] = await worker.claim(limit="1")
    huge = await worker.document("resource_requirements", "huge")
    for name in ("a", "b"):
        job = await worker.document("jobs", name)
        await worker.ok("PUT", f"jobs/{job['_key']}/resource_requirements/{huge['_key']}")
    assert (await worker.document("jobs", held["name"]))["_rev"] == held["_rev"], "a node holds it"
    # 1000 CPUs fit nowhere.
    assert [job["name"] for job in await worker.claim()] == ["c"]
    await worker.change("resource_requirements", "huge", num_cpus=2)
    assert [job["name"] for job in await worker.claim()] == ["b"]
    await worker.run(held)
    assert await worker.statuses() == {"a": "done", "b": "submitted_pending", "c": "submitted_pending"}


SCRIPTED: Json = {**DIAMOND, "config": {"workflow_completion_script": "bash done.sh"}}


async def test_one_of_many_old_workers_gets_the_completion_script(location: str) -> None:
    async with running_service(ServerOptions(location, auth="none")) as server:
        worker = await stored(server, SCRIPTED)
        await worker.begin()
        assert (await worker.ok("GET", "is_complete"))["needs_to_run_completion_script"] is False
        await worker.run_all()
        answers = await asyncio.gather(*(worker.ok("GET", "is_complete") for _ in range(16)))
        assert all(answer["is_complete"] for answer in answers)
        assert sum(answer["needs_to_run_completion_script"] for answer in answers) == 1
        await worker.begin()
        await worker.run_all()
        assert (await worker.ok("GET", "is_complete"))["needs_to_run_completion_script"] is True


async def test_a_curious_person_does_not_swallow_the_completion_script(server: Service) -> None:
    worker = await stored(server, SCRIPTED)
    await worker.begin()
    await worker.run_all()
    before = await worker.ok("GET", "status")
    answer = await worker.ok("GET", "is_complete")
    assert (answer["is_complete"], answer["needs_to_run_completion_script"]) == (True, False)
    assert await worker.ok("GET", "status") == before


async def test_a_canceled_workflow_is_over_when_its_jobs_are(diamond: Worker) -> None:
    await diamond.begin()
    [split] = await diamond.claim()
    run_id = (await diamond.ok("GET", "status"))["run_id"]
    node = {"hostname": "n", "pid": 1, "start_time": "t", "resources": NODE}
    diamond.node = (await diamond.ok("POST", "compute_nodes", json=node))["_key"]
    path = f"jobs/{split['_key']}/start_job/{split['_rev']}/{run_id}/{diamond.node}"
    split = await diamond.ok("PUT", path)
    await diamond.ok("PUT", "cancel")
    assert await diamond.claim() == []
    answer = await diamond.ok("GET", "is_complete")
    assert (answer["is_canceled"], answer["is_complete"]) == (True, True)
    # torc's worker completes what it killed with the revision that it had from start_job.
    result = {
        "job_key": split["_key"], "run_id": run_id, "return_code": -9, "exec_time_minutes": 0.1,
        "completion_time": "2026-01-01T00:00:00", "status": "canceled",
    }  # fmt: skip
    path = f"jobs/{split['_key']}/complete_job/canceled/{split['_rev']}/{run_id}/{diamond.node}"
    assert (await diamond.ok("POST", path, json=result))["status"] == "canceled"


async def test_claims_fit_what_the_worker_has(server: Service) -> None:
    document = {
        "name": "thirty", "resource_requirements": [{"name": "r", "num_cpus": 4, "memory": "4g"}],
        "jobs": [{"name": f"j{n}", "command": "c", "resource_requirements": "r"} for n in range(30)],
    }  # fmt: skip
    for cpus, memory, expected in ((36, 92, 9), (200, 82, 20)):
        worker = await stored(server, document)
        await worker.begin()
        answer = await worker.ok(
            "POST", "prepare_jobs_for_submission", json={"num_cpus": cpus, "memory_gb": memory}
        )
        assert [job["name"] for job in answer["jobs"]] == [f"j{n}" for n in range(expected)]
        none = await worker.ok("POST", "prepare_jobs_for_submission", json={"num_cpus": 3, "memory_gb": 92})
        assert (none["jobs"], bool(none["reason"])) == ([], True)


async def test_sixteen_workers_never_get_one_job_twice(server: Service) -> None:
    document = {"name": "many", "jobs": [{"name": f"j{n}", "command": "c"} for n in range(100)]}
    worker = await stored(server, document)
    await worker.begin()

    async def one() -> list[str]:
        keys = []
        while jobs := (await worker.ok("POST", "prepare_next_jobs_for_submission?limit=3"))["jobs"]:
            keys += [job["_key"] for job in jobs]
        return keys

    claimed = [key for keys in await asyncio.gather(*(one() for _ in range(16))) for key in keys]
    assert len(claimed) == len(set(claimed)) == 100


async def test_a_worker_of_a_scheduler_gets_its_own_jobs_and_those_of_none(server: Service) -> None:
    slurm = [{"name": name, "account": "a", "nodes": 1} for name in ("big", "small")]
    document = {
        "name": "w", "schedulers": {"slurm_schedulers": slurm},
        "jobs": [
            {"name": "free", "command": "c"},
            {"name": "big", "command": "c", "scheduler": "slurm_schedulers/big"},
            {"name": "small", "command": "c", "scheduler": "slurm_schedulers/small"},
        ],
    }  # fmt: skip
    worker = await stored(server, document)
    await worker.begin()
    big = (await worker.document("slurm_schedulers", "big"))["_id"]
    ready = await worker.ok("GET", "ready_job_requirements", params={"scheduler_config_id": big})
    assert ready["num_jobs"] == 2
    own = {**NODE, "scheduler_config_id": big}
    first = (await worker.ok("POST", "prepare_jobs_for_submission?sort_method=none", json=own))["jobs"]
    assert [job["name"] for job in first] == ["free", "big"]
    assert (await worker.claim()) == []
