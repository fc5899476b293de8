"""What the person who runs the server asks of it."""

from __future__ import annotations

from typing import Any

from lading import __version__
from lading.api.context import Call
from lading.api.services.server import schema_version
from lading.api.state import STATE
from lading.toolkit.errors import Conflict


async def describe(call: Call) -> dict[str, Any]:
    """Return what this server is, and what is wrong with it."""
    services = call.services
    return {
        "server_id": services.server_id,
        "version": __version__,
        "database": services.database.dialect,
        "schema_version": await schema_version(services.database),
        "read_only": services.read_only,
        "authenticated": services.authenticated,
        "degraded": [
            {"part": part, "reason": reason}
            for part, reason in sorted(call.request.app[STATE].degraded.items())
        ],
    }


async def shutdown(call: Call) -> dict[str, Any]:
    """Stop the server after this answer; jobs go on, their reports wait for the next start."""
    request_stop = call.request.app[STATE].request_stop
    if request_stop is None:
        raise Conflict("This server is part of another program and cannot be stopped by itself.")
    request_stop()
    return {"message": "The server stops."}
