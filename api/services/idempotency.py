"""Creating calls that may be repeated: the same key and body get the answer of the first time.

The answer is stored in the transaction of the use case itself, so that there is no moment in which
the thing exists and the answer is not known, or the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from lading.api.services.identity import Principal, Scope
from lading.api.services.workflows import Steps
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import BadInput, Conflict

KEPT_MS = 24 * 3600 * 1000
LONGEST_KEY = 255


def check_key(key: str) -> None:
    """Refuse a key that is no short line of visible ASCII."""
    if not key or len(key) > LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        raise BadInput(
            f"Idempotency-Key: accepted are 1 to {LONGEST_KEY} visible ASCII characters without spaces."
        )


def once(
    principal: Principal, key: str | None, request_hash: str, now_ms: int, steps: Callable[[], Steps]
) -> Steps:
    """Run `steps`, or return the answer that the same call was given before.

    Used inside a use case: `return (yield from once(principal, call.idempotency_key,
    call.body_hash, now_ms, lambda: steps(effects)))`. Without a key it only runs the steps. The
    answer must be encodable as JSON. Raises Conflict when the key was used for another request.
    """
    if key is None:
        return (yield from steps())
    parameters: dict[str, Any] = {"principal": _identity(principal), "key": key}
    yield Statement(
        "DELETE FROM idempotency WHERE principal = :principal AND idempotency_key = :key "
        "AND created_ms <= :oldest",
        {**parameters, "oldest": now_ms - KEPT_MS},
    )
    [row_id] = yield from take_ids(1)
    # The row comes first: a duplicate that arrives meanwhile waits here for this transaction's end,
    # and then finds the answer, or, if this one failed, takes its place.
    mine = yield Statement(
        "INSERT INTO idempotency (id, principal, idempotency_key, request_hash, response, created_ms) "
        "VALUES (:id, :principal, :key, :hash, '', :now) "
        "ON CONFLICT (principal, idempotency_key) DO NOTHING RETURNING id",
        {**parameters, "id": row_id, "hash": request_hash, "now": now_ms},
    )
    if not mine:
        rows = yield Statement(
            "SELECT request_hash, response FROM idempotency "
            "WHERE principal = :principal AND idempotency_key = :key",
            parameters,
        )
        if rows[0]["request_hash"] != request_hash:
            raise Conflict(f"Idempotency-Key {key!r} was used for another request within the last 24 hours.")
        return orjson.loads(rows[0]["response"])
    answer = yield from steps()
    yield Statement(
        "UPDATE idempotency SET response = :response WHERE id = :id",
        {"id": row_id, "response": msgspec.json.encode(answer).decode()},
    )
    return answer


def forget_old(now_ms: int) -> Callable[[Effects], UseCase]:
    """Return the use case that removes what is older than a day."""

    def work(_effects: Effects) -> UseCase:
        yield Statement("DELETE FROM idempotency WHERE created_ms <= :oldest", {"oldest": now_ms - KEPT_MS})

    return work


def _identity(principal: Principal) -> str:
    # Not the token: the owner's is a new one after each start of the server, and the client that
    # repeats a call because the server died is the very one that must be recognised.
    if principal.scope is Scope.NODE:
        return f"node:{principal.workflow_id}:{principal.allocation_id}:{principal.compute_node_id}"
    return f"user:{principal.user}"
