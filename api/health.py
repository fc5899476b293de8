"""Is the server well: for load balancers, for Prometheus, for the person who runs it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from lading.api.context import Call
from lading.api.routing import Route
from lading.api.services.server import check_database
from lading.api.state import STATE
from lading.toolkit.errors import Unavailable


async def health(call: Call) -> dict[str, Any]:
    """Answer when the database does."""
    try:
        await check_database(call.services.database)
    except Unavailable as error:
        raise Unavailable(f"The database does not answer: {error}") from error
    # The id, so that a client knows whose token this server takes before it sends one.
    return {"status": "ok", "database": "ok", "server_id": call.services.server_id}


async def metrics(call: Call) -> web.Response:
    """Return counts and durations as Prometheus text."""
    state = call.request.app[STATE]
    text = state.metrics.render(len(state.degraded))
    return web.Response(
        body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/health", "get_health", health, "Say whether the server and its database answer.",
        public=True, tags=("server",),
    ),
    Route(
        "GET", "/metrics", "get_metrics", metrics, "Return Prometheus metrics as text.",
        tags=("server",), content_type="text/plain",
    ),
)  # fmt: skip
