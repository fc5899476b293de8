"""Every published endpoint: its answer, its effect, and its refusals, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.effects import EFFECTS, check_effect
from tests.api.table import ENDPOINTS, Endpoint, check_answer
from tests.api.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

every_endpoint = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=[endpoint.operation_id for endpoint in ENDPOINTS]
)
METHODS = ("GET", "POST", "PUT", "DELETE")


async def test_the_table_is_complete() -> None:
    assert len({endpoint.operation_id for endpoint in ENDPOINTS}) == len(ENDPOINTS) == 136


@every_endpoint
async def test_its_answer_and_its_effect(endpoint: Endpoint, fresh_world: World) -> None:
    world = fresh_world
    prepare, _ = EFFECTS.get(endpoint.operation_id, (None, None))
    if prepare is not None:
        await prepare(world)
    answer = await world.server.ok(endpoint.method, world.fill(endpoint), json=world.body(endpoint))
    check_answer(answer, endpoint)
    await check_effect(world, endpoint, answer)


@every_endpoint
async def test_what_is_not_there(endpoint: Endpoint, world: World) -> None:
    server = world.server
    for name in ("workflow", "key", "rr_key", "compute_node_key"):
        if f"{{{name}}}" not in endpoint.path:
            continue
        for value in ("987654321", "nobody", "jobs__1%2F2", "99999999999999999999"):
            path = world.fill(endpoint, **{name: value})
            answer = await server.call(endpoint.method, path, json=world.body(endpoint))
            assert answer.status == 404, f"{path}: {answer.status} {answer.content!r}"
            assert answer.error
    for name, value in endpoint.unknown_values.items():
        path = world.fill(endpoint, **{name: value})
        answer = await server.call(endpoint.method, path, json=world.body(endpoint))
        assert (answer.status, bool(answer.error)) == (404, True), path


@every_endpoint
async def test_the_methods_of_its_path(endpoint: Endpoint, world: World) -> None:
    offered = {other.method for other in ENDPOINTS if other.path == endpoint.path}
    for method in ("PATCH", *METHODS):
        if method in offered or _matches_another(endpoint, method):
            continue
        answer = await world.server.call(method, world.fill(endpoint))
        assert (answer.status, bool(answer.error)) == (405, True), method
        allowed = set(answer.headers["Allow"].split(", "))
        assert offered <= allowed
        assert method not in allowed


def _matches_another(endpoint: Endpoint, method: str) -> bool:
    """`/workflow_specifications/example` is also what a workflow called `example` would have."""
    return any(
        other.method == method
        and other.path.count("/") == endpoint.path.count("/")
        and all(
            mine == theirs or theirs.startswith("{") or mine.startswith("{")
            for mine, theirs in zip(endpoint.path.split("/"), other.path.split("/"), strict=True)
        )
        for other in ENDPOINTS
    )


@every_endpoint
async def test_other_forms_of_the_same_call(endpoint: Endpoint, fresh_world: World) -> None:
    """With a client's URL prefix, a document's `_id` for its key, every query parameter, an empty body."""
    world = fresh_world
    prepare, _ = EFFECTS.get(endpoint.operation_id, (None, None))
    if prepare is not None:
        await prepare(world)
    path = world.fill(endpoint, **_ids(world, endpoint))
    query = dict(endpoint.query)
    if endpoint.operation_id == "get_ready_job_requirements":
        query = {"scheduler_config_id": world.documents["slurm_schedulers"]["_id"]}
    given: dict[str, Any] = {"json": world.body(endpoint), "params": query}
    if not endpoint.body:
        # Clients send this with calls that need no body, also with DELETE.
        given = {"data": b"", "params": given["params"]}
        if endpoint.method != "GET":
            given["data"] = b"{}"
    answer = await world.server.call(endpoint.method, f"/_db/some/torc-service{path}", **given)
    assert answer.status == 200, answer.content
    assert answer.headers["Content-Type"].startswith("application/json")


def _ids(world: World, endpoint: Endpoint) -> dict[str, str]:
    """Return whole `_id`s for the keys in the path; PUT compares its path with the body's key literally."""
    values = world.values(endpoint)
    if endpoint.method == "PUT" and endpoint.body:
        return {}
    ids = {"compute_node_key": world.documents["compute_nodes"]["_id"]}
    if not endpoint.path.startswith(("/workflows/{key}", "/workflow_spec")) and "{key}" in endpoint.path:
        [document] = [
            document
            for name, document in world.documents.items()
            if document["_key"] == values["key"] and name == endpoint.collection
        ] or [world.documents["ran"]]
        ids["key"] = document["_id"]
    return {name: value.replace("/", "%2F") for name, value in ids.items()}


async def test_an_archived_workflow_is_left_alone(fresh_world: World) -> None:
    workflow = fresh_world.documents["workflows"]
    await fresh_world.server.ok("PUT", fresh_world.path, json={**workflow, "is_archived": True})
    for name in ("initialize_jobs", "reset_status", "reset_job_status"):
        answer = await fresh_world.server.call("POST", f"{fresh_world.path}/{name}")
        assert (answer.status, "archived" in answer.error) == (400, True)


async def test_a_stale_revision_is_a_conflict(world: World) -> None:
    for endpoint in ENDPOINTS:
        if endpoint.method != "PUT" or not endpoint.body:
            continue
        body = {**(world.body(endpoint) or {}), "_rev": "_999"}
        answer = await world.server.call("PUT", world.fill(endpoint), json=body)
        assert (endpoint.operation_id, answer.status) == (endpoint.operation_id, 409), answer.content


async def test_the_revisions_of_starting_and_completing_are_compared(fresh_world: World) -> None:
    world = fresh_world
    [job] = (await world.ok("POST", "prepare_next_jobs_for_submission"))["jobs"]
    node = world.documents["compute_nodes"]["_key"]
    for method, path in (
        ("PUT", f"jobs/{job['_key']}/start_job/_999/1/{node}"),
        ("POST", f"jobs/{job['_key']}/complete_job/done/_999/1/{node}"),
    ):
        answer = await world.server.call(method, f"{world.path}/{path}", json=world.result("first"))
        assert (path, answer.status) == (path, 409)
    assert await world.job("first") == job
