"""Our own paths beside torc's: additive, in the same style."""

from __future__ import annotations

from typing import Any

from lading.api.extensions import admin, events, tokens
from lading.api.extensions.engine import ROUTES as ENGINE_ROUTES
from lading.api.extensions.scripts import ROUTES as SCRIPT_ROUTES
from lading.api.routing import ADMINISTRATORS, Query, Route
from lading.api.services.identity import Scope
from lading.toolkit.wire.submissions import NodeTokenResponse

_OWNERS = frozenset({Scope.USER, Scope.ADMIN})

ROUTES: tuple[Route, ...] = (
    *ENGINE_ROUTES,
    *SCRIPT_ROUTES,
    Route(
        "GET", "/workflows/{workflow}/events/stream", "stream_events", events.stream,
        "Send the workflow's events as server-sent events, old ones first; resumes after Last-Event-ID.",
        query=(Query("after", int, 0, minimum=0, description="Sequence number of the last event seen."),),
        tags=("events",), content_type="text/event-stream",
    ),
    Route(
        "GET", "/tokens", "list_tokens", tokens.list_all, "List tokens, without their secrets.",
        response=dict[str, Any], tags=("tokens",),
        query=(
            Query("skip", int, 0, minimum=0),
            Query("limit", int, tokens.MOST_PER_PAGE, minimum=0),
            Query("all", bool, default=False, description="Revoked ones too."),
        ),
    ),
    Route(
        "POST", "/tokens", "create_token", tokens.create, "Make a token; its secret is shown this once.",
        body=tokens.TokenRequest, scopes=_OWNERS, tags=("tokens",),
    ),
    Route(
        "DELETE", "/tokens/{id}", "revoke_token", tokens.revoke, "End a token, within a second.",
        scopes=_OWNERS, tags=("tokens",),
    ),
    Route(
        "POST", "/workflows/{workflow}/scheduled_compute_nodes/{key}/node_token", "create_node_token",
        tokens.create_for_allocation, "Make the token of a node's file, valid until the row is complete.",
        response=NodeTokenResponse, scopes=_OWNERS, tags=("tokens",),
    ),
    Route(
        "GET", "/server", "get_server", admin.describe, "Describe the server and what is wrong with it.",
        response=dict[str, Any], tags=("server",),
    ),
    Route(
        "POST", "/shutdown", "shutdown_server", admin.shutdown, "Stop the server.",
        scopes=ADMINISTRATORS, tags=("server",),
    ),
)  # fmt: skip
