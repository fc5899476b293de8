"""Is the server well: for load balancers, for Prometheus, for the person who runs it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from lading.api.context import Call
from lading.api.routing import Route
from lading.api.state import STATE
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import Unavailable

_DATABASE_SECONDS = 5.0


def _one(_effects: Effects) -> UseCase:
    rows = yield Statement("SELECT 1 AS one")
    return rows[0]["one"]


async def health(call: Call) -> dict[str, Any]:
    """Answer when the database does."""
    try:
        await call.services.database.read(_one, deadline=_DATABASE_SECONDS)
    except Unavailable as error:
        raise Unavailable(f"The database does not answer: {error}") from error
    return {"status": "ok", "database": "ok"}


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
        "GET", "/metrics", "get_metrics", metrics, "Return Prometheus metrics as text.", tags=("server",),
    ),
)  # fmt: skip
