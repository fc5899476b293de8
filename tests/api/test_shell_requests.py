"""The frame of every request: paths, prefixes, methods, bodies, errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lading.api.server_process import ServerOptions
from tests.lib.service import Service, running_service


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Service]:
    """SQLite is enough where no statement is different."""
    async with running_service(ServerOptions(str(tmp_path / "lading.db"))) as service:
        yield service


@pytest.mark.parametrize(
    "path",
    [
        "/server",
        "/server/",
        "/_db/torc/torc-service/server",
        "/_db/server/torc-service/server",
        "/_db/tokens/tokens/server/",
        "/some/where/server",
    ],
)
async def test_a_prefix_and_a_trailing_slash_change_nothing(plain: Service, path: str) -> None:
    assert (await plain.ok("GET", path))["server_id"]


@pytest.mark.parametrize("path", ["/", "/nonsense", "/server/more", "/x/tokens/1/2", "//", "/tokens//"])
async def test_an_unknown_path_is_404(plain: Service, path: str) -> None:
    answer = await plain.call("GET", path)
    assert answer.status in {404, 200} if path == "/tokens//" else answer.status == 404
    if answer.status == 404:
        assert "no such path" in answer.error
        assert answer.json["type"] == "not_found"


async def test_a_known_first_segment_is_never_a_prefix(plain: Service) -> None:
    # Else DELETE /workflows/1/tokens/5 would end a token.
    token = await plain.ok("POST", "/tokens", json={"scopes": ["user"]})
    answer = await plain.call("DELETE", f"/tokens/1/tokens/{token['id']}")
    assert answer.status == 404


async def test_another_method_is_405_with_allow(plain: Service) -> None:
    answer = await plain.call("PUT", "/tokens")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert "accepted: GET, POST" in answer.error


async def test_segments_are_decoded_after_splitting(plain: Service) -> None:
    answer = await plain.call("DELETE", "/tokens/a%2Fb")
    assert answer.status == 404
    assert answer.error == "no such token: a/b"


async def test_head_is_get_without_a_body(plain: Service) -> None:
    answer = await plain.call("HEAD", "/server")
    assert (answer.status, answer.content) == (200, b"")


async def test_a_segment_that_is_no_text_is_refused(plain: Service) -> None:
    import asyncio

    reader, writer = await asyncio.open_connection(*plain.base_url.removeprefix("http://").split(":"))
    for segment in ("%FF", "a%00b"):
        head = f"DELETE /tokens/{segment} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {plain.token}\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"400"
        while (await reader.readline()).strip():
            pass
        assert b"id: " in await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()


async def test_every_answer_has_a_request_id(plain: Service) -> None:
    assert len((await plain.call("GET", "/server")).headers["X-Request-Id"]) == 16
    answer = await plain.call("GET", "/nowhere", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["X-Request-Id"] == "mine-1"
    answer = await plain.call("GET", "/server", headers={"X-Request-Id": "a b"})
    assert answer.headers["X-Request-Id"] != "a b"


async def test_an_unexpected_error_shows_an_id_and_nothing_else(
    plain: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_given: Any, **_named: Any) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("lading.api.services.tokens.list_tokens", broken)
    answer = await plain.call("GET", "/tokens", headers={"X-Request-Id": "find-me"})
    assert answer.status == 500
    assert "42" not in answer.error
    assert "find-me" in answer.error
    assert any("the secret is 42" in (record.exc_text or "") for record in caplog.records)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"scopes": [', "not valid JSON"),
        (b"\xff{}", "not valid UTF-8: byte 0"),
        (b'{"scopes": ["user"], "label": "a\\u0000b"}', "label: "),
        (b'{"scopes": ["user"], "label": "\\ud800"}', "label: "),
        (b'{"scopes": ["user"], "expires_seconds": NaN}', "NaN"),
        (b'{"scopes": ["user"], "expires_seconds": -Infinity}', "-Infinity"),
        (b'{"scopes": ["user"], "expires_seconds": 1e999}', "expires_seconds: "),
        (b'{"scopes": ["user"], "expires_seconds": 9223372036854775808}', "expires_seconds: "),
        (b'{"x": %s}' % (b"9" * 5000), "beyond 64 bits"),
        (b'{"x": %s1%s}' % (b"[" * 64, b"]" * 64), "64 levels"),
        (b"[" * 100_000, "64 levels"),
        (b'{"scopes": ["user"], "scopes": ["admin"]}', "'scopes' twice"),
        (b"[]", "Expected `object`"),
        (b'{"scopes": ["user"], "colour": 1}', "colour"),
        (b'{"scopes": "user"}', "scopes: "),
        (b"{}", "scopes"),
        (b"", "scopes"),
    ],
)
async def test_what_breaks_the_border_rule_is_named(plain: Service, body: bytes, told: str) -> None:
    answer = await plain.call("POST", "/tokens", data=body)
    assert answer.status == 400, answer.content
    assert told in answer.error


async def test_the_largest_of_everything_passes_the_border(plain: Service) -> None:
    text = "é" * 100 + "\\ud83d\\ude00"
    body = '{"scopes": ["user"], "label": "%s", "expires_seconds": 3e9}' % text  # noqa: UP031
    assert (await plain.ok("POST", "/tokens", data=body.encode()))["label"].endswith("😀")


@pytest.mark.parametrize("body", [None, b"", b"{}"])
async def test_paths_that_need_no_body_take_an_empty_one(plain: Service, body: bytes | None) -> None:
    token = await plain.ok("POST", "/tokens", json={"scopes": ["user"]})
    revoked = await plain.ok("DELETE", f"/tokens/{token['id']}", data=body)
    assert revoked["revoked_at"]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_limit_is_413(plain: Service, is_chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    data: Any = pieces() if is_chunked else b" " * 2_621_440
    answer = await plain.call("POST", "/tokens", data=data)
    assert answer.status == 413
    assert "1048576 bytes" in answer.error


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("skip=0.0&limit=1&all=true", 200, ""),
        ("skip=+1&all=0&unknown=%00", 200, ""),
        ("skip=-1", 400, "skip: '-1' is not accepted; accepted is an integer of at least 0."),
        ("skip=1.5", 400, "skip: "),
        ("skip=1_0", 400, "skip: "),
        ("skip=99999999999999999999", 400, "skip: "),
        ("limit=", 400, "limit: "),
        ("all=maybe", 400, "all: 'maybe' is not accepted; accepted are true and false."),
        ("all=%FF", 400, "UTF-8"),
    ],
)
async def test_queries_are_converted_or_named(plain: Service, query: str, status: int, told: str) -> None:
    from yarl import URL

    url = URL(f"{plain.base_url}/tokens?{query.replace('+', '%2B')}", encoded=True)
    async with plain.session.get(url, headers={"Authorization": f"Bearer {plain.token}"}) as response:
        document = await response.json()
    assert response.status == status
    assert told in document.get("errorMessage", "")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.0.1"])
async def test_a_foreign_host_header_is_refused(plain: Service, host: str) -> None:
    answer = await plain.call("GET", "/server", headers={"Host": host})
    assert answer.status == 403
    assert "Host" in answer.error


async def test_local_host_headers_are_accepted_and_foreign_pages_are_not(plain: Service) -> None:
    for host in ("localhost", "LOCALHOST:81", "[::1]:8080", "127.0.0.2"):
        assert (await plain.call("GET", "/server", headers={"Host": host})).status == 200
    answer = await plain.call("GET", "/server", headers={"Origin": "https://evil.example"})
    assert answer.status == 403


async def test_every_route_is_in_the_document_and_on_the_page(plain: Service) -> None:
    from lading.api.app import ROUTES

    document = await plain.ok("GET", "/openapi.json", token=None)
    page = (await plain.call("GET", "/docs", token=None)).content.decode()
    identifiers = set()
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        identifiers.add(operation["operationId"])
        assert f'id="{route.operation_id}"' in page
    assert len(identifiers) == len(ROUTES)
    # To OpenAPI two paths that differ in names of parameters only are the same path.
    shapes = [re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]]
    assert len(set(shapes)) == len(shapes)
    references = set(_references(document))
    for reference in references:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "<script" not in page


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for member in node.values() for found in _references(member)]
    if isinstance(node, list):
        return [found for member in node for found in _references(member)]
    return []


async def test_metrics_count_by_route(plain: Service) -> None:
    await plain.call("DELETE", "/tokens/77")
    await plain.call("GET", "/nonsense/77")
    text = (await plain.call("GET", "/metrics")).content.decode()
    assert 'lading_requests_total{method="DELETE",path="/tokens/{id}",status="404"} 1' in text
    assert 'lading_requests_total{method="-",path="(unknown)",status="404"} 1' in text
    assert "/77" not in text
