"""What each published endpoint must have done, seen through other endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.api.table import CHANGES, Endpoint, Json
from tests.api.world import SPECIFICATION, World

Prepare = Callable[[World], Awaitable[None]]
Check = Callable[[World, Any], Awaitable[None]]


async def check_effect(world: World, endpoint: Endpoint, answer: Any) -> None:
    """Check what a call has done, or that a reading one has told the truth."""
    _, check = EFFECTS.get(endpoint.operation_id, (None, None))
    if check is not None:
        await check(world, answer)
        return
    verb = endpoint.operation_id.partition("_")[0]
    await _GENERIC[verb](world, endpoint, answer)


# ---- what all collections have in common ----------------------------------------------------


def _place(endpoint: Endpoint) -> str:
    return "edges/needs" if endpoint.collection == "needs" else endpoint.collection


async def _listed(world: World, endpoint: Endpoint, answer: Json) -> None:
    before = world.documents[endpoint.collection]
    assert before in answer["items"]
    assert answer["count"] == answer["total_count"] == len(answer["items"])
    keys = [int(item["_key"]) for item in answer["items"]]
    assert keys == sorted(keys)
    page = await world.ok("GET", f"{_place(endpoint)}?skip=0&limit=0")
    assert page == {**answer, "items": [], "count": 0, "has_more": False}


async def _added(world: World, endpoint: Endpoint, answer: Json) -> None:
    assert await world.ok("GET", f"{_place(endpoint)}/{answer['_key']}") == answer
    name = "needs" if endpoint.collection == "needs" else endpoint.collection
    assert answer["_id"] == f"{name}__{world.key}/{answer['_key']}"
    assert answer["_key"].isdigit()
    sent = world.body(endpoint) or {}
    stored: Json = {name: answer.get(name) for name in sent}
    if endpoint.collection == "compute_nodes":
        # The members that were not sent have their defaults.
        stored["resources"] = {name: stored["resources"][name] for name in sent["resources"]}
    assert stored == sent


async def _emptied(world: World, endpoint: Endpoint, _answer: Json) -> None:
    page = await world.ok("GET", _place(endpoint))
    assert (page["items"], page["total_count"], page["has_more"]) == ([], 0, False)


async def _got(world: World, endpoint: Endpoint, answer: Json) -> None:
    assert answer == world.documents[endpoint.collection]


async def _modified(world: World, endpoint: Endpoint, answer: Json) -> None:
    before = world.documents[endpoint.collection]
    stored = await world.ok("GET", f"{endpoint.collection}/{before['_key']}")
    assert stored == {**before, **CHANGES[endpoint.collection], "_rev": stored["_rev"]}
    assert stored["_rev"] != before["_rev"]
    assert answer == {**stored, "_oldRev": before["_rev"]}


async def _removed(world: World, endpoint: Endpoint, answer: Json) -> None:
    before = world.documents[endpoint.collection]
    assert answer == before
    gone = await world.server.call("GET", f"{world.path}/{_place(endpoint)}/{before['_key']}")
    assert gone.status == 404
    for name in ("blocks", "needs", "produces", "consumes", "stores", "requires", "scheduled_bys",
                 "executed", "returned", "node_used", "process_used"):  # fmt: skip
        edges = (await world.ok("GET", f"edges/{name}"))["items"]
        assert not [edge for edge in edges if before["_id"] in (edge["_from"], edge["_to"], edge["_id"])]


_GENERIC: Mapping[str, Callable[[World, Endpoint, Any], Awaitable[None]]] = {
    "list": _listed, "add": _added, "delete": _emptied, "get": _got, "modify": _modified,
    "remove": _removed,
}  # fmt: skip


# ---- one by one ------------------------------------------------------------------------------


def _tells(expected: Callable[[World], Any], of: Callable[[Any], Any] = lambda answer: answer) -> Check:
    """Check that an answer, or a part of it, is what the world's documents say."""

    async def check(world: World, answer: Any) -> None:
        assert of(answer) == expected(world)

    return check


def _keys_of(answer: Json) -> list[str]:
    return [item["_key"] for item in answer["items"]]


def _names_of(answer: Json) -> list[str]:
    return [item["name"] for item in answer["items"]]


async def _statuses(world: World) -> dict[str, str]:
    return {job["name"]: job["status"] for job in (await world.ok("GET", "jobs"))["items"]}


def _leaves(**statuses: str) -> Check:
    """Check the status of every job of the world."""

    async def check(world: World, _answer: Any) -> None:
        assert await _statuses(world) == statuses

    return check


async def _claim_first(world: World) -> None:
    [job] = (await world.ok("POST", "prepare_next_jobs_for_submission"))["jobs"]
    assert job["name"] == "first"
    world.documents["first"] = world.documents["jobs"] = job


async def _start_first(world: World) -> None:
    await _claim_first(world)
    job, node = world.documents["first"], world.documents["compute_nodes"]
    job = await world.ok("PUT", f"jobs/{job['_key']}/start_job/{job['_rev']}/1/{node['_key']}")
    world.documents["first"] = world.documents["jobs"] = job


async def _cancel(world: World) -> None:
    await world.ok("PUT", "cancel")


async def _schedule_later(world: World) -> None:
    job = await world.job("first")
    asks = {"scheduler_id": world.documents["slurm_schedulers"]["_id"], "num_jobs": 2}
    await world.ok("PUT", f"jobs/{job['_key']}", json={**job, "schedule_compute_nodes": asks})


async def _auto_tune(world: World) -> None:
    await world.ok("POST", "auto_tune_resource_requirements")


async def _started(world: World, answer: Json) -> None:
    assert (answer["status"], answer) == ("submitted", await world.job("first"))
    [edge] = [
        edge for edge in (await world.ok("GET", "edges/executed"))["items"] if edge["_to"] == answer["_id"]
    ]
    assert (edge["_from"], edge["data"]) == (world.documents["compute_nodes"]["_id"], {"run_id": 1})
    event = (await world.ok("GET", "events"))["items"][-1]
    expected = {"category": "job", "type": "start", "job_key": answer["_key"], "job_name": "first"}
    assert event.items() >= expected.items()


async def _completed(world: World, answer: Json) -> None:
    assert (answer["status"], answer) == ("done", await world.job("first"))
    assert answer["internal"]["hash"] != 0
    result = await world.ok("GET", f"results/find_by_job/{answer['_key']}")
    assert result.items() >= world.result("first").items()
    edges = (await world.ok("GET", "edges/returned"))["items"]
    assert edges[-1].items() >= {"_from": answer["_id"], "_to": result["_id"]}.items()
    assert (await _statuses(world))["second"] == "ready"
    event = (await world.ok("GET", "events"))["items"][-1]
    assert (event["category"], event["type"]) == ("job", "complete")


async def _added_jobs(world: World, answer: Json) -> None:
    assert _names_of(answer) == ["b1", "b2"]
    assert (await world.ok("GET", "jobs"))["items"][-2:] == answer["items"]
    behind = await world.ok("GET", f"downstream_jobs/{world.documents['first']['_key']}")
    assert _names_of(behind) == ["second", "b1"]


async def _joined(world: World, answer: Json) -> None:
    assert [(row["from"]["name"], row["to"]["name"]) for row in answer["items"]] == [
        ("ran", "in"), ("first", "in"), ("second", "out"),
    ]  # fmt: skip
    row = answer["items"][0]
    assert (row["edge"]["_from"], row["edge"]["_to"]) == (row["from"]["_id"], row["to"]["_id"])
    assert row["to"] == world.documents["files"]


async def _assigned(world: World, answer: Json) -> None:
    job, requirements = world.documents["first"], world.documents["resource_requirements"]
    assert answer.items() >= {"_from": job["_id"], "_to": requirements["_id"]}.items()
    assert await world.ok("GET", f"jobs/{job['_key']}/resource_requirements") == requirements


async def _stored_user_data(world: World, answer: Json) -> None:
    stores = await world.ok("GET", f"jobs/{world.documents['first']['_key']}/user_data_stores")
    assert stores["items"][-1] == answer == await world.ok("GET", f"user_data/{answer['_key']}")


async def _exported(world: World, answer: Json) -> None:
    copy = await world.server.ok("POST", "/workflow_specifications", json=answer)
    assert await world.server.ok("GET", f"/workflow_specifications/{copy['_key']}") == answer
    assert [job["name"] for job in answer["jobs"]] == ["ran", "first", "second"]


async def _postable(world: World, answer: Json) -> None:
    await world.server.ok("POST", "/workflow_specifications", json=answer)


async def _new_workflow(world: World, answer: Json) -> None:
    assert answer["_id"] == f"workflows/{answer['_key']}"
    assert await world.server.ok("GET", f"/workflows/{answer['_key']}") == answer
    status = await world.server.ok("GET", f"/workflows/{answer['_key']}/status")
    assert (status["run_id"], status["is_canceled"]) == (0, False)


async def _patched_workflow(world: World, answer: Json) -> None:
    before = world.documents["workflows"]
    stored = await world.server.ok("GET", world.path)
    assert answer == {**stored, "_oldRev": before["_rev"]}
    assert stored == {**before, "name": "new", "_rev": stored["_rev"]}


async def _removed_workflow(world: World, answer: Json) -> None:
    assert answer == world.documents["workflows"]
    for path in ("", "/config", "/jobs", "/events"):
        assert (await world.server.call("GET", world.path + path)).status == 404


async def _patched_config(world: World, answer: Json) -> None:
    assert answer["compute_node_wait_for_new_jobs_seconds"] == 9
    assert answer == await world.ok("GET", "config")


async def _patched_status(world: World, answer: Json) -> None:
    assert answer == await world.ok("GET", "status")


async def _canceled(world: World, _answer: Json) -> None:
    assert (await world.ok("GET", "status"))["is_canceled"] is True
    assert await _statuses(world) == {"ran": "done", "first": "canceled", "second": "blocked"}
    assert (await world.ok("POST", "prepare_next_jobs_for_submission?limit=9"))["jobs"] == []


async def _reset(world: World, _answer: Json) -> None:
    status = await world.ok("GET", "status")
    assert (status["is_canceled"], status["run_id"]) == (False, 1)


async def _claimed(world: World, answer: Json) -> None:
    [job] = answer["jobs"]
    assert (job["name"], job["status"]) == ("first", "submitted_pending")
    assert job == await world.job("first")
    assert job["internal"]["num_cpus"] == 1
    assert job["internal"]["memory_bytes"] == 2**30


async def _scheduled(world: World, answer: Json) -> None:
    assert answer["schedulers"] == [
        {
            "scheduler_id": world.documents["slurm_schedulers"]["_id"], "num_jobs": 2,
            "max_parallel_jobs": None, "start_one_worker_per_node": False,
        }
    ]  # fmt: skip
    assert (await _statuses(world))["first"] == "scheduled"


async def _tuned(world: World, _answer: Json) -> None:
    requirements = (await world.ok("GET", "resource_requirements"))["items"][0]
    assert (requirements["num_cpus"], requirements["memory"], requirements["runtime"]) == (
        2,
        "1g",
        "P0DT0H2M",
    )
    assert await _statuses(world) == {"ran": "done", "first": "uninitialized", "second": "blocked"}
    assert (await world.ok("GET", "status"))["auto_tune_status"]["enabled"] is False
    event = (await world.ok("GET", "events"))["items"][-1]
    assert (event["category"], event["type"]) == ("resource_requirements", "update")


async def _chosen_to_be_measured(world: World, _answer: Json) -> None:
    assert await _statuses(world) == {"ran": "done", "first": "disabled", "second": "blocked"}
    mode = (await world.ok("GET", "status"))["auto_tune_status"]
    assert mode == {"enabled": True, "job_keys": [world.documents["ran"]["_key"]]}


async def _events_in_order(world: World, answer: Json) -> None:
    events = (await world.ok("GET", "events"))["items"]
    assert answer["items"] == events
    latest = (await world.ok("GET", "latest_event_timestamp"))["timestamp"]
    assert latest == max(event["timestamp"] for event in events)
    assert (await world.ok("GET", f"events_after_timestamp/{latest}"))["items"] == []


async def _all_names(world: World, answer: Json) -> None:
    assert len(answer["names"]) == 24
    assert all(name.endswith(f"__{world.key}") for name in answer["names"])


async def _draws(world: World, answer: Json) -> None:
    first, second = world.documents["first"], world.documents["second"]
    assert answer["graph"].startswith("strict digraph job_job_dependencies {")
    assert f'"{first["_id"]}" -> "{second["_id"]}"' in answer["graph"]


async def _nothing(_world: World, _answer: Any) -> None:
    """The shape of the answer is all there is to it."""


_AT_THE_START = {"ran": "done", "first": "ready", "second": "blocked"}

EFFECTS: Mapping[str, tuple[Prepare | None, Check]] = {
    "ping": (None, _nothing),
    "get_version": (None, _tells(lambda _: "0.6.4", lambda answer: answer["version"])),
    "join_collections_by_outbound_edge": (None, _joined),
    "join_collections_by_inbound_edge": (None, _joined),
    "add_jobs": (None, _added_jobs),
    "list_job_keys": (None, _tells(
        lambda world: [world.documents[name]["_key"] for name in _AT_THE_START],
        lambda answer: answer["items"])),
    "list_jobs_by_status": (None, _tells(lambda _: ["first"], _names_of)),
    "list_jobs_by_needs_file": (None, _tells(lambda _: ["ran", "first"], _names_of)),
    "list_downstream_jobs": (None, _tells(lambda _: ["second"], _names_of)),
    "get_job_resource_requirements": (None, _tells(lambda world: world.documents["resource_requirements"])),
    "modify_job_resource_requirements": (None, _assigned),
    "get_process_stats_for_job": (None, _tells(lambda world: [world.documents["job_process_stats"]])),
    "add_job_user_data": (None, _stored_user_data),
    "list_job_user_data_stores": (None, _tells(lambda _: ["made"], _names_of)),
    "list_job_user_data_consumes": (None, _tells(lambda _: ["given"], _names_of)),
    "get_latest_job_result": (None, _tells(lambda world: world.documents["results"])),
    "list_files_produced_by_job": (None, _tells(lambda _: ["out"], _names_of)),
    "list_job_specifications": (None, _tells(lambda _: list(_AT_THE_START), _names_of)),
    "get_job_specification": (None, _tells(lambda _: SPECIFICATION["jobs"][1]["output_files"],
                                           lambda answer: answer["output_files"])),
    "start_job": (_claim_first, _started),
    "complete_job": (_start_first, _completed),
    "manage_status_change": (None, _leaves(ran="done", first="disabled", second="blocked")),
    "add_workflow_specification": (None, _new_workflow),
    "get_workflow_specification": (None, _exported),
    "get_workflow_specification_example": (None, _postable),
    "get_workflow_specification_template": (None, _postable),
    "list_workflows": (None, _tells(
        lambda _: True, lambda answer: "world" in [item["name"] for item in answer["items"]])),
    "add_workflow": (None, _new_workflow),
    "get_workflow": (None, _tells(lambda world: world.documents["workflows"])),
    "modify_workflow": (None, _patched_workflow),
    "remove_workflow": (None, _removed_workflow),
    "get_workflow_config": (None, _tells(lambda _: True,
                                         lambda answer: answer["compute_node_resource_stats"]["process"])),
    "modify_workflow_config": (None, _patched_config),
    "get_workflow_status": (None, _tells(lambda _: 1, lambda answer: answer["run_id"])),
    "modify_workflow_status": (None, _patched_status),
    "list_collection_names": (None, _all_names),
    "is_workflow_complete": (None, _tells(
        lambda _: {"is_canceled": False, "is_complete": False, "needs_to_run_completion_script": False})),
    "get_ready_job_requirements": (None, _tells(
        lambda _: {"num_jobs": 1, "num_cpus": 1, "num_gpus": 0, "memory_gb": 1, "max_num_nodes": 1,
                   "max_runtime": "P0DT10M"})),
    "list_missing_user_data": (None, _tells(lambda _: {"user_data": []})),
    "list_required_existing_files": (None, _tells(
        lambda world: {"files": [world.documents["files"]["_id"]]})),
    "get_latest_event_timestamp": (None, _tells(
        lambda world: world.documents["events"]["timestamp"], lambda answer: answer["timestamp"])),
    "get_events_after_timestamp": (None, _events_in_order),
    "get_dot_graph": (None, _draws),
    "initialize_jobs": (None, _leaves(**_AT_THE_START)),
    "reset_workflow_status": (_cancel, _reset),
    "reset_job_status": (None, _leaves(ran="uninitialized", first="uninitialized", second="uninitialized")),
    "cancel_workflow": (_claim_first, _canceled),
    "process_changed_job_inputs": (None, _tells(lambda _: {"reinitialized_jobs": []})),
    "prepare_jobs_for_submission": (None, _claimed),
    "prepare_next_jobs_for_submission": (None, _claimed),
    "prepare_jobs_for_scheduling": (_schedule_later, _scheduled),
    "auto_tune_resource_requirements": (None, _chosen_to_be_measured),
    "process_auto_tune_resource_requirements_results": (_auto_tune, _tuned),
}  # fmt: skip
"""Operation -> what must have happened before, and what has happened after."""
