"""Promises under fire: repeated creations, clients that vanish, streams that are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from lading.api.auth import ANONYMOUS
from lading.api.server_process import ServerOptions
from lading.api.services import events, idempotency, tokens
from lading.api.services.identity import Principal, Scope
from lading.api.services.workflows import Steps, lock_workflow_id
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import BadInput, Conflict
from tests.lib.service import Service, running_service

ANA = Principal("ana", Scope.USER)
NOW = 1_700_000_000_000
DAY = 24 * 3600 * 1000
WORKFLOW = 5_000


def insert_workflow() -> Steps:
    [number] = yield from take_ids(1)
    yield Statement(
        "INSERT INTO workflow (id, config, auto_tune_status, owner) VALUES (:id, '{}', '{}', 'ana')",
        {"id": number},
    )
    return {"_key": str(number)}


async def create(
    server: Service, key: str | None, request: str = "hash", now: int = NOW, caller: Principal = ANA
) -> Any:
    def work(_effects: Effects) -> UseCase:
        return (yield from idempotency.once(caller, key, request, now, insert_workflow))

    return await server.database.write(work)


async def number_of(server: Service, table: str) -> int:
    def work(_effects: Effects) -> UseCase:
        rows = yield Statement(f"SELECT count(*) AS number FROM {table}")
        return rows[0]["number"]

    number: int = await server.database.read(work)
    return number


async def test_twenty_duplicates_at_once_make_one(server: Service) -> None:
    answers = await asyncio.gather(*(create(server, "key") for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert await number_of(server, "workflow") == 1
    assert await create(server, "key", now=NOW + DAY - 1) == answers[0]


async def test_a_key_belongs_to_one_caller_one_request_one_day(server: Service) -> None:
    first = await create(server, "key")
    with pytest.raises(Conflict, match="another request"):
        await create(server, "key", "other hash")
    assert await create(server, "key", caller=Principal("bob", Scope.USER)) != first
    assert await create(server, "other key") != first
    assert await create(server, None) != await create(server, None)
    # The owner's token is a new one after each start of the server.
    assert await create(server, "key", caller=Principal("ana", Scope.ADMIN, token_id=7)) == first
    assert await create(server, "key", "other hash", now=NOW + DAY) != first


async def test_what_failed_is_not_remembered(server: Service) -> None:
    def failing() -> Generator[Any, Any, Any]:
        yield from insert_workflow()
        raise BadInput("no")

    def work(_effects: Effects) -> UseCase:
        return (yield from idempotency.once(ANA, "key", "hash", NOW, failing))

    with pytest.raises(BadInput):
        await server.database.write(work)
    assert await number_of(server, "workflow") == 0
    assert (await create(server, "key"))["_key"]
    await server.database.write(idempotency.forget_old(NOW + DAY))
    assert await number_of(server, "idempotency") == 0


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_keys_are_short_visible_lines(key: str) -> None:
    with pytest.raises(BadInput, match="Idempotency-Key"):
        idempotency.check_key(key)


async def test_a_use_case_survives_the_cancellation_of_its_caller_at_every_turn(server: Service) -> None:
    turns, finished = 0, False
    while not finished:
        work = tokens.create(server.database, ANA, NOW, scopes=["user"], label=f"after {turns}")
        task = asyncio.create_task(work)
        for _ in range(turns):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        turns += 1
        assert turns < 100_000
    # Everything that was begun is over and nothing holds a lock: one more goes through at once.
    await asyncio.wait_for(tokens.create(server.database, ANA, NOW, scopes=["user"]), 10)
    assert (await server.ok("GET", "/health"))["database"] == "ok"


async def test_a_client_that_vanishes_at_any_turn_leaves_nothing_behind(server: Service) -> None:
    await add_workflow(server)
    host, port = server.base_url.removeprefix("http://").split(":")
    body = b'{"scopes":["user"]}'
    posted = b"POST /tokens HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
    streamed = b"GET /workflows/%d/events/stream HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n"
    token, name = server.token.encode(), host.encode()
    for turns in range(0, 60, 2):
        for request in (
            posted % (name, token, len(body), body),
            posted % (name, token, len(body) + 5, body),
            streamed % (WORKFLOW, name, token),
        ):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.transport.abort()
    metrics = server.server.state.metrics
    async with asyncio.timeout(20):
        while metrics.in_flight or server.services.wakeups._progress:
            await asyncio.sleep(0.01)
    await asyncio.wait_for(server.ok("POST", "/tokens", json={"scopes": ["user"]}), 10)


async def add_workflow(server: Service) -> None:
    def work(_effects: Effects) -> UseCase:
        yield Statement(
            "INSERT INTO workflow (id, config, auto_tune_status, owner) VALUES (:id, '{}', '{}', 'ana')",
            {"id": WORKFLOW},
        )

    await server.database.write(work)


async def add_events(server: Service, first: int, number: int) -> None:
    def work(effects: Effects) -> UseCase:
        workflow = yield from lock_workflow_id(WORKFLOW)
        documents = [{"category": "test", "number": first + offset} for offset in range(number)]
        yield from events.append(workflow, documents, NOW, effects)

    await server.database.write(work)


class Stream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def read(self, number: int) -> list[tuple[int, int]]:
        """Return (sequence, the event's own number) of the next events."""
        found = []
        async with asyncio.timeout(20):
            while len(found) < number:
                line = await self.response.content.readline()
                assert line, "the stream has ended"
                if line.startswith(b"id: "):
                    data = await self.response.content.readline()
                    document = orjson.loads(data.removeprefix(b"data: "))
                    assert document["sequence"] == int(line[4:])
                    found.append((int(line[4:]), document["number"]))
        return found


@asynccontextmanager
async def streaming(
    server: Service, query: str = "", *, last: str | None = None, token: str = ""
) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {token or server.token}"}
    if last is not None:
        headers["Last-Event-ID"] = last
    url = f"{server.base_url}/workflows/{WORKFLOW}/events/stream{query}"
    async with server.session.get(url, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Stream(response)


async def test_a_stream_sends_what_was_and_what_comes_and_resumes(server: Service) -> None:
    await add_workflow(server)
    await add_events(server, 1, 2_500)
    async with streaming(server) as stream:
        assert await stream.read(2_500) == [(number, number) for number in range(1, 2_501)]
        await add_events(server, 2_501, 3)
        assert await stream.read(3) == [(number, number) for number in range(2_501, 2_504)]
    async with streaming(server, "?after=5", last="2502") as stream:
        assert await stream.read(1) == [(2_503, 2_503)]
    async with streaming(server, "?after=2500") as stream:
        assert (await stream.read(1))[0] == (2_501, 2_501)
    path = f"/workflows/{WORKFLOW}/events/stream"
    answer = await server.call("GET", path, headers={"Last-Event-ID": "x"})
    assert answer.status == 400
    assert "Last-Event-ID" in answer.error


async def test_a_stream_never_skips_while_many_write(server: Service) -> None:
    await add_workflow(server)
    async with streaming(server) as stream:
        writers = [asyncio.create_task(add_events(server, 10 * number, 3)) for number in range(60)]
        assert [sequence for sequence, _ in await stream.read(180)] == list(range(1, 181))
        await asyncio.gather(*writers)


async def test_a_stream_ends_when_its_token_is_revoked(server: Service) -> None:
    await add_workflow(server)
    made = await server.ok("POST", "/tokens", json={"scopes": ["read"], "user": "ana"})
    async with streaming(server, token=made["token"]) as stream:
        await add_events(server, 1, 1)
        assert await stream.read(1) == [(1, 1)]
        await server.ok("DELETE", f"/tokens/{made['id']}")
        await add_events(server, 2, 1)
        async with asyncio.timeout(10):
            rest = await stream.response.content.read()
    assert b"data:" not in rest


async def test_a_stream_ends_when_the_server_stops(server: Service) -> None:
    await add_workflow(server)
    async with streaming(server) as stream:
        await add_events(server, 1, 1)
        await stream.read(1)
        server.server.state.stopping.set()
        server.services.wakeups.wake_all()
        async with asyncio.timeout(10):
            await stream.response.content.read()
    answer = await server.call("GET", "/server")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"


async def test_streams_of_others_do_not_exist(server: Service) -> None:
    await add_workflow(server)
    bob = await server.ok("POST", "/tokens", json={"scopes": ["user"], "user": "bob"})
    path = f"/workflows/{WORKFLOW}/events/stream"
    assert (await server.call("GET", path, token=bob["token"])).status == 404
    assert ANONYMOUS.may_see(WORKFLOW, "ana") is False


async def test_twenty_posts_with_one_key_make_one_workflow(server: Service) -> None:
    async def post(body: dict[str, Any], key: str) -> Any:
        return await server.call("POST", "/workflows", json=body, headers={"Idempotency-Key": key})

    answers = await asyncio.gather(*(post({"name": "w"}, "once") for _ in range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    assert len({answer.content for answer in answers}) == 1
    assert (await server.ok("GET", "/workflows"))["total_count"] == 1
    other = await post({"name": "another"}, "once")
    assert other.status == 409
    assert "Idempotency-Key" in other.error
    assert (await post({"name": "w"}, "a b")).status == 400


async def test_nobody_waits_for_news_longer_than_the_server_is_told(tmp_path: Path) -> None:
    options = ServerOptions(str(tmp_path / "lading.db"), longest_wait=0.2)
    async with running_service(options) as server:
        key = (await server.ok("POST", "/workflows", json={"name": "quiet"}))["_key"]
        # A proxy would have cut the connection long before the 25 s that are asked for.
        async with asyncio.timeout(15):
            shown = await server.ok("GET", f"/workflows/{key}/progress?after=1000000&wait=25")
        assert shown["sequence"] < 1_000_000


async def test_a_server_is_stopped_by_its_administrator_alone(tmp_path: Path) -> None:
    async with running_service(ServerOptions(str(tmp_path / "lading.db"))) as server:
        assert (await server.call("POST", "/shutdown", token="lading_unknown")).status == 401
        assert [server.server.stop.is_set()] == [False]
        await server.ok("POST", "/shutdown")
        async with asyncio.timeout(15):
            await server.server.stop.wait()
