"""Events: free-form objects, stamped by the server's clock and numbered by the workflow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from lading.api.services import events
from lading.api.services.documents.collections import EVENTS, plain_key
from lading.api.services.documents.reading import MAXIMUM_PAGE, Paging, envelope, find_row
from lading.api.services.documents.writing import IDENTITY, check_same_key, new_identity
from lading.api.services.identity import Principal
from lading.api.services.job_documents import revision
from lading.api.services.jobs import check_revision
from lading.api.services.resources import Services
from lading.api.services.workflows import Steps, find_workflow, lock_workflow, workflow_key
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import BadInput

_STAMPED = IDENTITY | {"timestamp"}


def add_event(
    principal: Principal, workflow: str, sent: Mapping[str, Any], now_ms: int, effects: Effects
) -> Steps:
    """Append an event; its `timestamp` is the server's, whatever the body says."""
    row = yield from lock_workflow(principal, workflow)
    body = {name: value for name, value in sent.items() if name not in _STAMPED}
    key = sent.get("_key")
    if key is not None and not isinstance(key, str):
        raise BadInput(f"_key: {key!r} is not a key; accepted is a text.")
    chosen = (yield from new_identity(row, EVENTS, key)) if key is not None else None
    [event_id] = yield from events.append(row, [body], now_ms, effects)
    if chosen is not None:
        yield Statement(
            "UPDATE event SET id = :chosen, key = :key WHERE id = :id",
            {"chosen": chosen[0], "key": chosen[1], "id": event_id},
        )
        event_id = chosen[0]
    rows = yield Statement("SELECT * FROM event WHERE id = :id", {"id": event_id})
    return EVENTS.document(rows[0], workflow_key(row))


def modify_event(principal: Principal, workflow: str, key: str, sent: Mapping[str, Any]) -> Steps:
    """Patch an event; its timestamp is the server's and stays."""
    owner = yield from lock_workflow(principal, workflow)
    row = yield from find_row(owner, EVENTS, key)
    name = workflow_key(owner)
    for member in ("_key", "_rev"):
        if sent.get(member) is not None and not isinstance(sent[member], str):
            raise BadInput(f"{member}: {sent[member]!r} is not accepted; accepted is a text.")
    check_same_key(sent, plain_key(key, EVENTS.name, name, EVENTS.singular))
    check_revision(sent.get("_rev"), row["rev"])
    previous = revision(row["rev"])
    body = orjson.loads(row["body"])
    patched = {**body, **{member: value for member, value in sent.items() if member not in _STAMPED}}
    if patched != body:
        category, kind = patched.get("category"), patched.get("type")
        rows = yield Statement(
            "UPDATE event SET body = :body, category = :category, type = :type, rev = rev + 1 "
            "WHERE id = :id RETURNING *",
            {
                "body": orjson.dumps(patched).decode(),
                "category": category if isinstance(category, str) else None,
                "type": kind if isinstance(kind, str) else None,
                "id": row["id"],
            },
        )
        row = rows[0]
    return {**EVENTS.document(row, name), "_oldRev": previous}


async def latest_timestamp(services: Services, principal: Principal, workflow: str) -> dict[str, Any]:
    """Return the largest timestamp in milliseconds, None without events."""

    def work(_effects: Effects) -> UseCase:
        row = yield from find_workflow(principal, workflow)
        rows = yield Statement(
            "SELECT max(timestamp) AS latest FROM event WHERE workflow_id = :id", {"id": row["id"]}
        )
        return {"timestamp": rows[0]["latest"]}

    answer: dict[str, Any] = await services.database.read(work)
    return answer


async def events_after(
    services: Services,
    principal: Principal,
    workflow: str,
    timestamp: float,
    category: str | None,
    paging: Paging,
) -> dict[str, Any]:
    """Return the events that are strictly newer, oldest first: the last one is where to go on."""

    def work(_effects: Effects) -> UseCase:
        row = yield from find_workflow(principal, workflow)
        parameters: dict[str, Any] = {"workflow_id": row["id"], "timestamp": math.floor(timestamp)}
        matching = "FROM event WHERE workflow_id = :workflow_id AND timestamp > :timestamp"
        if category is not None:
            matching += " AND category = :category"
            parameters["category"] = category
        counted = yield Statement(f"SELECT count(*) AS total {matching}", parameters)
        rows = yield Statement(
            f"SELECT * {matching} ORDER BY timestamp, sequence LIMIT :limit OFFSET :skip",
            {**parameters, "limit": min(paging.limit, MAXIMUM_PAGE), "skip": paging.skip},
        )
        name = workflow_key(row)
        items = [EVENTS.document(found, name) for found in rows]
        return envelope(items, paging.skip, counted[0]["total"])

    answer: dict[str, Any] = await services.database.read(work)
    return answer
