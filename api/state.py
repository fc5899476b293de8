"""What one running server knows of itself: whether it stops, what is degraded, what it counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from lading.api.metrics import Metrics


@dataclass(slots=True)
class ServerState:
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once: event streams end, new requests are refused."""
    degraded: dict[str, str] = field(default_factory=dict)
    """Part of the server -> one sentence for the person who runs it."""
    metrics: Metrics = field(default_factory=Metrics)
    request_stop: Callable[[], None] | None = None
    """Ends the process that serves; None where a server is embedded in a test."""


STATE: web.AppKey[ServerState] = web.AppKey("state", ServerState)
