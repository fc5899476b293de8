"""Tokens over HTTP: people's, and those of nodes' files."""

from __future__ import annotations

from typing import Any

import msgspec

from lading.api.context import Call
from lading.api.services import tokens
from lading.toolkit.clock import to_milliseconds
from lading.toolkit.wire.submissions import NodeTokenResponse

MOST_PER_PAGE = 100_000


class TokenRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /tokens`."""

    scopes: list[str]
    """One of user, read, admin, node."""
    user: str | None = None
    workflow: str | None = None
    """Key; given exactly when the scope is node."""
    expires_seconds: float | None = None
    label: str = ""


def _now(call: Call) -> int:
    return to_milliseconds(call.services.clock.wall())


async def create(call: Call) -> dict[str, Any]:
    """Make a token and show it this once."""
    body: TokenRequest = call.body
    return await tokens.create(
        call.services.database,
        call.principal,
        _now(call),
        scopes=body.scopes,
        user=body.user,
        workflow=body.workflow,
        expires_seconds=body.expires_seconds,
        label=body.label,
    )


async def list_all(call: Call) -> dict[str, Any]:
    """Return a page of tokens without their secrets."""
    skip, limit = call.query["skip"], min(call.query["limit"], MOST_PER_PAGE)
    items, total = await tokens.list_tokens(
        call.services.database, call.principal, include_revoked=call.query["all"], skip=skip, limit=limit
    )
    return {
        "items": items,
        "skip": skip,
        "max_limit": MOST_PER_PAGE,
        "count": len(items),
        "total_count": total,
        "has_more": bool(items) and skip + len(items) < total,
    }


async def revoke(call: Call) -> dict[str, Any]:
    """End a token."""
    return await tokens.revoke(call.services.database, call.principal, call.path["id"], _now(call))


async def create_for_allocation(call: Call) -> NodeTokenResponse:
    """Make the token that opens registration for one allocation row."""
    secret = await tokens.create_for_allocation(
        call.services.database, call.principal, call.path["workflow"], call.path["key"], _now(call)
    )
    return NodeTokenResponse(token=secret, server_id=call.services.server_id)
