from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lading.toolkit.client.session import Call, Patience, Session, path_of
from lading.toolkit.client.target import Target
from lading.toolkit.errors import (
    BadInput,
    Conflict,
    Fenced,
    Forbidden,
    LadingError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from lading.toolkit.private_files import write_private
from lading.toolkit.wire.files import ServerFile
from tests.unit.client.scripted_server import Answer, ScriptedServer, Seen, refusal

QUICK = Patience(tries=3, first_ceiling=0.001, last_ceiling=0.002)
DROP = Answer(drop=True)


def session_of(server: ScriptedServer, token: str | None = "secret-token") -> Session:
    return Session(Target(server.url, token), patience=QUICK)


async def test_the_token_and_the_body_travel(server: ScriptedServer) -> None:
    server.on("POST", "/workflows/7/start", Answer({"run_id": 2}))
    async with session_of(server) as session:
        answer = await session.fetch(Call("POST", path_of("workflows", 7, "start"), body={"a": [1]}), dict)
    assert answer == {"run_id": 2}
    seen = server.seen[0]
    assert seen.headers["Authorization"] == "Bearer secret-token"
    assert seen.body == {"a": [1]}


async def test_a_prefix_of_the_address_is_kept(server: ScriptedServer) -> None:
    server.on("GET", "/_db/x/torc-service/ping", Answer({"message": "ok"}))
    async with Session(Target(f"{server.url}/_db/x/torc-service/")) as session:
        assert await session.fetch(Call("GET", "/ping"), dict) == {"message": "ok"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadInput), (401, Unauthenticated), (403, Forbidden), (404, NotFound), (409, Conflict)],
)
async def test_a_status_becomes_its_error(
    server: ScriptedServer, status: int, kind: type[LadingError]
) -> None:
    server.on("GET", "/ping", refusal(status, "no, because"))
    async with session_of(server) as session:
        with pytest.raises(kind, match="no, because"):
            await session.send(Call("GET", "/ping"))
    assert len(server.seen) == 1


async def test_the_type_in_the_envelope_is_finer_than_the_status(server: ScriptedServer) -> None:
    server.on("GET", "/ping", refusal(409, "not yours any more", type="fenced"))
    async with session_of(server) as session:
        with pytest.raises(Fenced):
            await session.send(Call("GET", "/ping"))


async def test_violations_arrive_whole(server: ScriptedServer) -> None:
    item = {"path": "jobs[0].memory", "message": "bad", "value": "1.5g", "suggestion": "1536m", "line": 4}
    server.on("POST", "/w", refusal(400, "jobs[0].memory: bad", violations=[item]))
    async with session_of(server) as session:
        with pytest.raises(BadInput) as caught:
            await session.send(Call("POST", "/w"))
    violation = caught.value.violations[0]
    assert (violation.path, violation.suggestion, violation.line) == ("jobs[0].memory", "1536m", 4)


async def test_an_answer_that_is_not_ours_is_quoted(server: ScriptedServer) -> None:
    server.on("GET", "/ping", Answer(text="<h1>proxy error</h1>", status=500))
    async with session_of(server) as session:
        with pytest.raises(LadingError, match=r"HTTP 500.*proxy error"):
            await session.send(Call("GET", "/ping"))


@pytest.mark.parametrize(
    "call",
    [
        Call("GET", "/x"),
        Call("DELETE", "/x"),
        Call("PUT", "/x", body={"_rev": "1"}, repeatable=True),
        Call("POST", "/x", idempotency_key="k1"),
    ],
    ids=lambda call: call.method,
)
@pytest.mark.parametrize("weather", [DROP, refusal(503, "later")], ids=["dropped", "503"])
async def test_a_repeatable_call_is_repeated(server: ScriptedServer, call: Call, weather: Answer) -> None:
    server.on(call.method, "/x", weather, weather, Answer({"ok": True}))
    async with session_of(server) as session:
        assert await session.fetch(call, dict) == {"ok": True}
    assert len(server.seen) == 3
    keys = {seen.headers.get("Idempotency-Key") for seen in server.seen}
    assert keys == {call.idempotency_key}


@pytest.mark.parametrize("weather", [DROP, refusal(503, "later")], ids=["dropped", "503"])
async def test_any_other_call_is_made_once(server: ScriptedServer, weather: Answer) -> None:
    server.on("POST", "/x", weather)
    async with session_of(server) as session:
        with pytest.raises(Unavailable):
            await session.send(Call("POST", "/x"))
    assert len(server.seen) == 1


async def test_patience_ends_and_the_error_names_the_server(server: ScriptedServer) -> None:
    server.on("GET", "/x", DROP)
    async with session_of(server) as session:
        with pytest.raises(Unavailable, match=rf"{server.url}.*GET /x"):
            await session.send(Call("GET", "/x"))
    assert len(server.seen) == QUICK.tries


async def test_a_refusal_after_a_lost_answer_says_so(server: ScriptedServer) -> None:
    server.on("PUT", "/x", DROP, refusal(409, "stale"))
    async with session_of(server) as session:
        with pytest.raises(Conflict) as caught:
            await session.send(Call("PUT", "/x", repeatable=True))
    assert "may have been carried out" in caught.value.__notes__[0]


async def test_redirects_are_not_followed(server: ScriptedServer) -> None:
    server.on("GET", "/x", Answer(status=302, headers={"Location": f"{server.url}/y"}))
    async with session_of(server) as session:
        with pytest.raises(BadInput, match="redirected to"):
            await session.send(Call("GET", "/x"))
    assert [seen.path for seen in server.seen] == ["/x"]


async def test_silence_ends_after_the_timeout(server: ScriptedServer) -> None:
    import threading

    release = threading.Event()

    def hang(_: object) -> Answer:
        release.wait(5)
        return Answer()

    server.on("POST", "/x", hang)
    async with session_of(server) as session:
        with pytest.raises(Unavailable, match="did not answer POST /x"):
            await session.send(Call("POST", "/x", timeout=0.05))
    release.set()


def test_segments_are_encoded_one_by_one() -> None:
    assert path_of("workflows", "jobs__1/2", "ä b") == "/workflows/jobs__1%2F2/%C3%A4%20b"


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_a_segment_that_changes_the_path_is_refused(segment: str) -> None:
    with pytest.raises(BadInput):
        path_of("workflows", segment)


def test_pauses_grow_to_their_ceiling() -> None:
    patience = Patience(first_ceiling=0.2, last_ceiling=3.0)
    assert [patience.pause(n, 1.0) for n in (1, 2, 3, 9)] == pytest.approx([0.2, 0.4, 0.8, 3.0])
    assert patience.pause(3, 0.0) == 0.0


def test_a_target_does_not_show_its_token() -> None:
    assert "hush" not in repr(Target("http://x", "hush"))


async def test_a_server_with_a_new_token_is_followed(server: ScriptedServer, tmp_path: Path) -> None:
    path, token_file = tmp_path / "server.json", tmp_path / "token"
    record = ServerFile(
        url=server.url,
        server_id="id1",
        pid=1,
        hostname="",
        boot_id="",
        database="",
        token_file=str(token_file),
    )
    write_private(path, msgspec.json.encode(record))
    write_private(token_file, b"old")

    def answer(seen: Seen) -> Answer:
        if seen.headers["Authorization"] == "Bearer new":
            return Answer({"ok": True})
        # As a server does that was started a moment ago.
        write_private(token_file, b"new")
        return refusal(401, "unknown token")

    server.on("POST", "/x", answer)
    async with Session(Target.from_server_file(path), patience=QUICK) as session:
        assert await session.fetch(Call("POST", "/x"), dict) == {"ok": True}
    assert len(server.seen) == 2


async def test_a_refused_token_that_was_given_is_not_tried_again(server: ScriptedServer) -> None:
    server.on("GET", "/x", refusal(401, "unknown token"))
    async with session_of(server) as session:
        with pytest.raises(Unauthenticated):
            await session.send(Call("GET", "/x"))
    assert len(server.seen) == 1
