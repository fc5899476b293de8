from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

import pytest

from lading.toolkit.client import api
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.events import Event, EventDecoder
from lading.toolkit.client.session import Patience
from lading.toolkit.client.sync import Lading
from lading.toolkit.errors import LadingError, NotFound
from lading.toolkit.wire.extensions import StartRequest
from tests.unit.client.scripted_server import Answer, ScriptedServer, Seen, page, refusal

QUICK = Patience(tries=3, first_ceiling=0.001, last_ceiling=0.002)


def paged(total: int, page_size: int) -> Any:
    def answer(seen: Seen) -> Answer:
        skip, limit = int(seen.query["skip"]), min(int(seen.query["limit"]), page_size)
        items = [{"_key": str(number)} for number in range(skip, min(skip + limit, total))]
        return Answer(page(items, has_more=skip + len(items) < total))

    return answer


async def test_pages_are_one_iteration(server: ScriptedServer) -> None:
    server.on("GET", "/workflows/7/jobs", paged(25, 10))
    async with AsyncLading(server.url) as client:
        keys = [job["_key"] async for job in client.list_jobs("7", status="done")]
    assert keys == [str(number) for number in range(25)]
    assert [seen.query["skip"] for seen in server.seen] == ["0", "10", "20"]
    assert {seen.query["status"] for seen in server.seen} == {"done"}


async def test_a_limit_ends_the_iteration(server: ScriptedServer) -> None:
    server.on("GET", "/workflows/7/jobs", paged(25, 10))
    async with AsyncLading(server.url) as client:
        found = [job async for job in client.list_jobs("7", limit=12)]
    assert len(found) == 12
    assert [seen.query["limit"] for seen in server.seen] == ["12", "2"]


async def test_an_empty_page_ends_the_iteration_whatever_it_claims(server: ScriptedServer) -> None:
    server.on("GET", "/workflows/7/jobs", Answer(page([], has_more=True)))
    async with AsyncLading(server.url) as client:
        assert [job async for job in client.list_jobs("7")] == []


async def test_jobs_are_added_in_batches_with_a_key_each(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BATCH_SIZE", 2)
    server.on("POST", "/workflows/7/bulk_jobs", lambda seen: Answer({"items": seen.body["jobs"]}))
    async with AsyncLading(server.url) as client:
        stored = await client.add_jobs("7", ({"command": str(number)} for number in range(5)))
    assert len(stored) == 5
    assert [len(seen.body["jobs"]) for seen in server.seen] == [2, 2, 1]
    assert len({seen.headers["Idempotency-Key"] for seen in server.seen}) == 3


async def test_one_creation_keeps_its_key_through_retries(server: ScriptedServer) -> None:
    server.on("POST", "/workflow_specifications", Answer(drop=True), Answer({"_key": "7"}))
    async with AsyncLading(server.url, patience=QUICK) as client:
        assert (await client.create_workflow({"jobs": []}))["_key"] == "7"
    first, second = server.seen
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


async def test_start_returns_the_run(server: ScriptedServer) -> None:
    server.on("POST", "/workflows/7/start", Answer({"run_id": 3}))
    async with AsyncLading(server.url) as client:
        assert await client.start_workflow("7", StartRequest(missing_files=["a"])) == 3
    assert server.seen[0].body == {"missing_files": ["a"]}


async def test_required_files_are_keys(server: ScriptedServer) -> None:
    answer = {"files": ["files__7/12", "files__7/13"]}
    server.on("GET", "/workflows/7/required_existing_files", Answer(answer))
    async with AsyncLading(server.url) as client:
        assert await client.required_existing_files("7") == ["12", "13"]


async def test_an_answer_of_another_shape_is_an_error_of_ours(server: ScriptedServer) -> None:
    server.on("GET", "/workflows/7/progress", Answer({"sequence": "many"}))
    async with AsyncLading(server.url) as client:
        with pytest.raises(LadingError, match="not what this client understands"):
            await client.progress("7")


async def test_events_resume_where_the_stream_broke(server: ScriptedServer) -> None:
    server.on(
        "GET",
        "/workflows/7/events/stream",
        Answer(text='id: 4\ndata: {"n": 4}\n\n: alive\n\nid: 5\ndata: {"n":\ndata: 5}\n\n'),
        Answer(text='id: 5\ndata: {"n": 5}\n\nid: 6\ndata: {"n": 6}\n\n'),
    )
    numbers = []
    async with AsyncLading(server.url) as client, asyncio.timeout(10):
        async for event in client.follow_events("7", after=3):
            numbers.append((event.sequence, event.document["n"]))
            if event.sequence == 6:
                break
    assert numbers == [(4, 4), (5, 5), (6, 6)]
    assert [seen.headers["Last-Event-ID"] for seen in server.seen] == ["3", "5"]


async def test_a_refused_stream_is_not_repeated(server: ScriptedServer) -> None:
    server.on("GET", "/workflows/7/events/stream", refusal(404, "no such workflow"))
    async with AsyncLading(server.url) as client:
        with pytest.raises(NotFound):
            await anext(client.follow_events("7"))
    assert len(server.seen) == 1


def test_an_event_without_a_number_is_refused() -> None:
    decoder = EventDecoder()
    assert decoder.feed("data: {}") is None
    with pytest.raises(LadingError):
        decoder.feed("")
    assert Event(sequence=1, document={}).sequence == 1


def verbs(face: type) -> set[str]:
    members = [item for base in face.__mro__[:-1] for item in vars(base).items()]
    return {name for name, value in members if not name.startswith("_") and inspect.isroutine(value)}


def test_both_faces_have_the_same_verbs() -> None:
    assert verbs(AsyncLading) == verbs(Lading)
    for name in verbs(Lading) - {"close"}:
        assert inspect.signature(getattr(AsyncLading, name)) == inspect.signature(getattr(Lading, name))


def test_the_blocking_face_blocks_and_iterates(server: ScriptedServer) -> None:
    server.on("GET", "/ping", Answer({"message": "ok"}))
    server.on("GET", "/workflows", paged(3, 2))
    with Lading(server.url) as client:
        assert client.ping() == {"message": "ok"}
        assert [item["_key"] for item in client.list_workflows()] == ["0", "1", "2"]


async def test_the_blocking_face_works_inside_of_a_running_loop(server: ScriptedServer) -> None:
    server.on("GET", "/ping", Answer({"message": "ok"}))
    with Lading(server.url) as client:
        assert client.ping() == {"message": "ok"}


def test_an_iteration_that_is_left_early_is_closed(server: ScriptedServer) -> None:
    server.on("GET", "/workflows", paged(30, 10))
    with Lading(server.url) as client:
        found = client.list_workflows()
        next(found)
        found.close()  # type: ignore[attr-defined]
    assert len(server.seen) == 1


def test_an_iteration_may_outlive_its_client(server: ScriptedServer) -> None:
    server.on("GET", "/workflows", paged(30, 10))
    with Lading(server.url) as client:
        found = client.list_workflows()
        next(found)
    del found
    gc.collect()
    assert len(server.seen) == 1
