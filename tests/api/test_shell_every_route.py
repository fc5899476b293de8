"""Every route with nonsense in every place: refused in words, never with a 5xx, always in the envelope."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lading.api.app import ROUTES
from lading.api.routing import Route
from tests.lib.service import Service

SEGMENTS = (
    "1",
    "x",
    "0",
    "99999999999999999999999999",
    "a%2Fb",
    "%27%3B--",
    "%C3%A9",
    "-1",
    "jobs__1%2F2",
    "%20",
)
BODIES: tuple[bytes | None, ...] = (
    None,
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b'{"x": 1}',
    b'{"name": {"deep": []}, "_key": 5, "_rev": [], "status": null, "jobs": 3, "edges": "no"}',
    b'{"name": "n", "command": "c", "from": "x/1", "to": "y/2", "_from": "z", "_to": 7, "data": {}}',
)
QUERIES = ("", "?skip=1&limit=0&sort_by=nonsense&reverse_sort=true&after=9&wait=0&num_workers=1&limit=3")
WITHOUT_END = {"stream_events", "shutdown_server"}


def filled(route: Route, segment: str) -> str:
    return re.sub(r"\{\w+\}", lambda _match: segment, route.path)


@pytest.mark.timeout(120)
async def test_nonsense_never_breaks_the_server(server: Service) -> None:
    workflow = (await server.ok("POST", "/workflows", json={"name": "w"}))["_key"]
    broken: list[Any] = []
    for route in ROUTES:
        if route.operation_id in WITHOUT_END or "{" not in route.path:
            continue
        inside = route.path.startswith(("/workflows/{workflow}/", "/workflows/{key}/"))
        rest = route.path.split("/", 3)[3:]
        for index, segment in enumerate(SEGMENTS):
            path = filled(route, segment)
            if inside:
                path = f"/workflows/{workflow}/" + segment.join(re.split(r"\{\w+\}", rest[0]))
            body = BODIES[index % len(BODIES)] if route.method != "GET" else None
            query = QUERIES[index % 2]
            answer = await server.call(route.method, path + query, data=body)
            if answer.status >= 500 or (answer.status != 200 and not answer.json["errorMessage"]):
                broken.append((route.method, path + query, body, answer.content[:300]))
    assert not broken, "\n".join(map(str, broken))
