"""Bad input on every published endpoint: refused in words with a 4xx, and nothing has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
import pytest_asyncio

from lading.api.storage.statements import Effects, Statement, UseCase
from tests.api.table import ENDPOINTS, OWN_MEMBERS, Endpoint, Json
from tests.api.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

every_endpoint = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=[endpoint.operation_id for endpoint in ENDPOINTS]
)
FREE_FORM = frozenset({"events", "filter"})
"""Bodies whose members are the caller's business."""

NOT_EVEN_JSON: tuple[bytes, ...] = (
    b"{",
    b"[1, 2]",
    b"null",
    b'"text"',
    b"17",
    b"{'name': 1}",
    b'{"name": "a",}',
    b"\xff\xfe{}",
    b'{"name": "\xe9"}',
    b'{"name": "a", "name": "b"}',
    b'{"name": NaN}',
    b'{"name": -Infinity}',
    b'{"name": 1e999}',
    b'{"name": 9223372036854775808}',
    b'{"name": "\\u0000"}',
    b'{"\\u0000": 1}',
    b'{"name": "\\ud800"}',
    b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}",
    b'{"name": ' + b"[" * 100_000,
    b"9" * 5_000,
)
HOSTILE_SEGMENTS = ("%00", "%ff", "a%00b")
HUGE = "170141183460469231731687303715884105728"


Stored = dict[str, list[Any]]


async def dump(world: World) -> Stored:
    """Return every row of every table."""

    def work(_effects: Effects) -> UseCase:
        found = {}
        for table in TABLES:
            rows = yield Statement(f"SELECT * FROM {table} ORDER BY 1, 2")
            found[table] = [tuple(row[column] for column in dict(row)) for row in rows]
        return found

    contents: Stored = await world.server.database.read(work)
    return contents


TABLES = (
    "workflow", "job", "edge", "file", "user_data", "resource_requirements", "scheduler_config", "attempt",
    "result", "compute_node", "compute_node_stats", "job_process_stats", "scheduled_compute_node", "launch",
    "event", "request_class", "idempotency",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored(world: World) -> Stored:
    """What the database holds: before and after each test of this module."""
    return await dump(world)


class Refusals:
    """Sends bad calls to one endpoint and remembers which were not refused."""

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.world = world
        self.endpoint = endpoint
        self.accepted: list[Any] = []

    async def send(
        self, what: Any, path: str = "", *, data: bytes | None = None, statuses: tuple[int, ...] = (400,)
    ) -> None:
        body = self.world.body(self.endpoint)
        content = data if data is not None or body is None else orjson.dumps(body)
        path = path or self.world.fill(self.endpoint)
        answer = await self.world.server.call(self.endpoint.method, path, data=content)
        if answer.status not in statuses or not answer.error:
            self.accepted.append((what, answer.status, answer.content[:200]))


@every_endpoint
async def test_bad_input_is_refused_and_changes_nothing(
    endpoint: Endpoint, world: World, stored: Stored
) -> None:
    refusals = Refusals(world, endpoint)
    for query in endpoint.bad:
        await refusals.send(query, f"{world.fill(endpoint)}?{query}")
    for name, value in endpoint.bad_values.items():
        statuses = (400, 409) if name == "rev" else (400,)
        await refusals.send((name, value), world.fill(endpoint, **{name: value}), statuses=statuses)
    for name in endpoint.path.split("{")[1:]:
        parameter = name.partition("}")[0]
        for segment in HOSTILE_SEGMENTS:
            await refusals.send(segment, world.fill(endpoint, **{parameter: segment}))
        if parameter in {"workflow", "key", "run_id", "compute_node_key"}:
            await refusals.send(HUGE, world.fill(endpoint, **{parameter: HUGE}), statuses=(404,))
    if endpoint.body:
        for content in NOT_EVEN_JSON:
            await refusals.send(content[:60], data=content)
        for what, body in bad_bodies(world, endpoint):
            await refusals.send(what, data=orjson.dumps(body))
    assert not refusals.accepted, "\n".join(map(str, refusals.accepted))
    assert await dump(world) == stored


def bad_bodies(world: World, endpoint: Endpoint) -> Iterator[tuple[str, Json]]:
    """Yield bodies with one fault each, made from a good one."""
    good = world.body(endpoint) or {}
    is_put = endpoint.method == "PUT"
    if is_put and endpoint.operation_id not in {"modify_workflow_config", "modify_workflow_status"}:
        yield "no _rev", {name: value for name, value in good.items() if name != "_rev"}
    if is_put:
        yield "another key", {**good, "_key": "4"}
    if endpoint.body in FREE_FORM:
        return
    yield "an unknown member", {**good, "unheard_of": 1}
    for name, value in good.items():
        if name in {"_id", "_rev", "_key"} | OWN_MEMBERS.get(endpoint.collection, frozenset()):
            continue
        if endpoint.operation_id == "modify_job" and name == "internal":
            # The server's own; what a PUT says about it is without effect.
            continue
        yield f"{name} of another type", {**good, name: _other_type(value)}
        if isinstance(value, int) and not isinstance(value, bool):
            yield f"{name} is no number", {**good, name: "many"}
            yield f"{name} is a boolean", {**good, name: True}
        if isinstance(value, bool):
            yield f"{name} is no boolean", {**good, name: "perhaps"}


def _other_type(value: Any) -> Any:
    return {"not": "this"} if isinstance(value, str | int | float | list) else "a text"


REQUIRED: dict[str, tuple[str, ...]] = {
    "compute_nodes": ("hostname", "pid", "start_time", "resources"),
    "compute_node_stats": ("hostname", "timestamp"),
    "files": ("path",),
    "jobs": ("command",),
    "slurm_schedulers": ("account", "nodes"),
    "job_process_stats": ("job_key", "run_id", "avg_rss", "num_samples", "timestamp"),
    "results": ("job_key", "run_id", "return_code", "exec_time_minutes", "completion_time", "status"),
    "completion": ("job_key", "run_id", "return_code", "exec_time_minutes", "completion_time", "status"),
    "scheduled_compute_nodes": ("scheduler_config_id", "status"),
    "edges": ("_from", "_to"),
    "resources": ("num_cpus", "memory_gb"),
    "bulk_jobs": ("jobs",),
}


@every_endpoint
async def test_what_is_required_must_be_there(endpoint: Endpoint, world: World) -> None:
    good = world.body(endpoint) or {}
    if endpoint.method == "PUT":
        # There a member that is left out keeps its value; the required ones are checked all the same.
        good = {name: value for name, value in good.items() if name != "status"}
    for name in REQUIRED.get(endpoint.body, ()):
        if name not in good:
            continue
        body = {member: value for member, value in good.items() if member != name}
        answer = await world.server.call(endpoint.method, world.fill(endpoint), json=body)
        assert (name, answer.status) == (name, 400)
        assert name in answer.error


BAD_REFERENCES: tuple[tuple[str, Json, str], ...] = (
    ("jobs", {"command": "c", "blocked_by": ["jobs__1/99999999"]}, "blocked_by[0]"),
    ("jobs", {"command": "c", "input_files": ["99999999"]}, "input_files[0]"),
    ("jobs", {"command": "c", "resource_requirements": "99999999"}, "resource_requirements"),
    ("jobs", {"command": "c", "scheduler": "slurm_schedulers__1/99999999"}, "scheduler"),
    ("jobs", {"command": "c", "status": "finished"}, "status"),
    ("bulk_jobs", {"jobs": [{"command": "c"}, {"command": "c", "output_files": ["x"]}]}, "jobs[1].output"),
    ("bulk_jobs", {"jobs": [{"command": "c"}, {"name": "no command"}]}, "jobs[1].command"),
    ("files", {"path": "p", "_key": "a key with blanks"}, "_key"),
    ("files", {"path": ""}, "path"),
    ("resource_requirements", {"memory": "1.5g"}, "memory"),
    ("resource_requirements", {"memory": "lots"}, "memory"),
    ("resource_requirements", {"runtime": "P1Y"}, "runtime"),
    ("resource_requirements", {"runtime": "-PT5M"}, "runtime"),
    ("resource_requirements", {"num_cpus": 0}, "num_cpus"),
    ("edges/blocks", {"_from": "jobs__1/1", "_to": "files__1/2"}, "_from"),
    ("edges/executed", {"_from": "x", "_to": "y"}, "_from"),
)


@pytest.mark.parametrize(("place", "body", "named"), BAD_REFERENCES)
async def test_references_are_checked(
    place: str, body: Json, named: str, world: World, stored: Stored
) -> None:
    answer = await world.server.call("POST", f"{world.path}/{place}", json=body)
    assert answer.status == 400
    assert named in answer.error
    assert await dump(world) == stored


BAD_SPECIFICATIONS: tuple[tuple[Json, str], ...] = (
    ({"jobs": [{"name": "a", "command": "c", "input_files": ["nowhere"]}]}, "nowhere"),
    ({"jobs": [{"name": "a", "command": "c", "blocked_by": ["b"]}]}, "blocked_by"),
    ({"jobs": [{"name": "a", "command": "c"}, {"name": "a", "command": "d"}]}, "'a'"),
    ({"jobs": [{"name": "a", "command": "c", "resource_requirements": "big"}]}, "big"),
    ({"jobs": [{"name": "a", "command": "c", "scheduler": "slurm_schedulers/none"}]}, "none"),
    ({"resource_requirements": [{"name": "r", "memory": "1.5.g"}], "jobs": []}, "memory"),
    ({"files": [{"name": "f", "path": "a"}, {"name": "f", "path": "b"}], "jobs": []}, "'f'"),
    ({"jobs": [{"name": "a", "command": "c", "blocked_by": ["b"]},
               {"name": "b", "command": "c", "blocked_by": ["a"]}]}, "a"),
    ({"jobs": [{"name": "a", "command": "c"}], "unheard_of": 1}, "unheard_of"),
    ({"jobs": [{"name": "a", "command": "c"}], "config": {"prepare_jobs_sort_method": "x"}}, "sort_method"),
    ({"key": "with blank", "jobs": [{"name": "a", "command": "c"}]}, "key"),
)  # fmt: skip


@pytest.mark.parametrize(("document", "named"), BAD_SPECIFICATIONS)
async def test_of_a_bad_specification_nothing_is_stored(
    document: Json, named: str, world: World, stored: Stored
) -> None:
    answer = await world.server.call("POST", "/workflow_specifications", json=document)
    assert answer.status == 400, answer.content
    assert named in answer.error
    assert await dump(world) == stored


@pytest.mark.parametrize("operation", ["add_job", "add_jobs", "add_workflow_specification", "list_jobs"])
async def test_a_body_over_the_limit_is_refused_before_it_is_read(
    operation: str, world: World, stored: Stored
) -> None:
    [endpoint] = [endpoint for endpoint in ENDPOINTS if endpoint.operation_id == operation]
    address = urlsplit(world.server.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"{endpoint.method} {world.fill(endpoint)} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {world.server.token}\r\nContent-Length: {2**40}\r\n\r\n{{".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 413 ")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    answer = orjson.loads(await asyncio.wait_for(reader.readexactly(length), 10))
    assert (answer["error"], answer["code"]) == (True, 413)
    writer.close()
    await writer.wait_closed()
    assert await dump(world) == stored
