"""Storing, patching and removing documents; each a use case that holds its workflow's lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from lading.api.services import setbacks
from lading.api.services.documents.collections import (
    RESOURCE_REQUIREMENTS,
    SCHEDULED_COMPUTE_NODES,
    Collection,
    plain_key,
)
from lading.api.services.documents.reading import find_row
from lading.api.services.documents.rules import check_references, check_removable, forget
from lading.api.services.identity import Principal
from lading.api.services.initialize import apply_requirements
from lading.api.services.job_documents import revision
from lading.api.services.jobs import check_revision
from lading.api.services.ledger import Ledger
from lading.api.services.workflows import Steps, lock_workflow, workflow_key
from lading.api.storage.keys import chosen_id, key_of, take_ids
from lading.api.storage.statements import Effects, Statement
from lading.toolkit.errors import BadInput

IDENTITY = frozenset({"_key", "_id", "_rev", "_oldRev"})


def add_document(
    principal: Principal,
    workflow: str,
    collection: Collection,
    document: Mapping[str, Any],
    now_ms: int,
    effects: Effects,
) -> Steps:
    """Store a document; `_key` may be chosen, `_id` and `_rev` are the server's. Returns it as stored."""
    row = yield from lock_workflow(principal, workflow)
    effects.demand = effects.demand or _steers_allocations(collection)
    return (yield from insert_document(row, collection, document, now_ms))


def insert_document(workflow: Any, collection: Collection, document: Mapping[str, Any], now_ms: int) -> Steps:
    """Store a document of a locked workflow."""
    yield from check_references(workflow, collection, document)
    row_id, key = yield from new_identity(workflow, collection, document.get("_key"))
    values: dict[str, Any] = {"id": row_id, "workflow_id": workflow["id"], "key": key}
    if collection.kind is not None:
        values["kind"] = collection.kind
    if collection.has_creation_time:
        values["created_ms"] = now_ms
    carried = {}
    for name, value in document.items():
        member = collection.member(name)
        if member is not None:
            values[name] = member.encode(value)
        elif name not in IDENTITY:
            carried[name] = value
    if collection.body is not None:
        values[collection.body] = orjson.dumps(carried).decode()
    columns = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    rows = yield Statement(f"INSERT INTO {collection.table} ({columns}) VALUES ({marks}) RETURNING *", values)
    return collection.document(rows[0], workflow_key(workflow))


def new_identity(workflow: Any, collection: Collection, key: str | None) -> Steps:
    """Return (id, text key or None) for a new document. Raises BadInput for a key in use."""
    if key is None:
        [row_id] = yield from take_ids(1)
        return row_id, None
    return (yield from chosen_id(collection.table, workflow["id"], key, kind=collection.kind))


def check_same_key(document: Mapping[str, Any], key: str) -> None:
    """Refuse a body that names another document than the path."""
    given = document.get("_key")
    if given is not None and given != key:
        raise BadInput(f"_key: {given!r} in the body is not the {key!r} of the path.")


def _steers_allocations(collection: Collection) -> bool:
    """Whether the submitter plans by these documents, and should look again when one changes."""
    return collection.kind is not None or collection is SCHEDULED_COMPUTE_NODES


def modify_document(
    principal: Principal,
    workflow: str,
    collection: Collection,
    key: str,
    sent: Mapping[str, Any],
    now_ms: int,
    effects: Effects,
) -> Steps:
    """Patch a document: what is not sent stays, None clears. Without a change `_rev` stays too."""
    owner = yield from lock_workflow(principal, workflow)
    row = yield from find_row(owner, collection, key)
    name = workflow_key(owner)
    check_same_key(sent, plain_key(key, collection.name, name, collection.singular))
    check_revision(sent.get("_rev"), row["rev"])
    changes = _changes(collection, row, sent)
    previous = revision(row["rev"])
    if changes:
        effects.demand = effects.demand or _steers_allocations(collection)
        if collection.member("paused_reason") is not None:
            # What was refused was refused as it stood: changed, it is tried again.
            changes |= {"paused_reason": None, **setbacks.NONE}
        yield from check_references(owner, collection, {name: sent[name] for name in changes if name in sent})
        assignments = ", ".join(f"{column} = :{column}" for column in changes)
        rows = yield Statement(
            f"UPDATE {collection.table} SET {assignments}, rev = rev + 1 WHERE id = :id RETURNING *",
            {**changes, "id": row["id"]},
        )
        row = rows[0]
        if collection is RESOURCE_REQUIREMENTS:
            yield from apply_requirements(Ledger(owner, now_ms, effects), row)
    document = collection.document(row, name)
    document["_oldRev"] = previous
    return document


def _changes(collection: Collection, row: Any, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return column -> new value for everything that differs from the row."""
    changes: dict[str, Any] = {}
    body = orjson.loads(row[collection.body]) if collection.body is not None else {}
    patched = dict(body)
    for name, value in sent.items():
        if name in IDENTITY:
            continue
        member = collection.member(name)
        if member is None:
            if value is None:
                patched.pop(name, None)
            else:
                patched[name] = value
        elif not member.is_read_only and member.decode(row[name]) != value:
            changes[name] = member.encode(value)
    if patched != body and collection.body is not None:
        changes[collection.body] = orjson.dumps(patched).decode()
    return changes


def remove_document(
    principal: Principal, workflow: str, collection: Collection, key: str, now_ms: int, effects: Effects
) -> Steps:
    """Remove a document with the edges that touch it; returns it as it was."""
    owner = yield from lock_workflow(principal, workflow)
    effects.demand = effects.demand or _steers_allocations(collection)
    row = yield from find_row(owner, collection, key)
    yield from check_removable(owner, collection, row["id"], key_of(row))
    yield from forget(owner, collection, row["id"], now_ms, effects)
    yield Statement(f"DELETE FROM {collection.table} WHERE id = :id", {"id": row["id"]})
    return collection.document(row, workflow_key(owner))


def remove_documents(
    principal: Principal, workflow: str, collection: Collection, now_ms: int, effects: Effects
) -> Steps:
    """Remove all documents of a collection, or none when one of them must stay."""
    owner = yield from lock_workflow(principal, workflow)
    effects.demand = effects.demand or _steers_allocations(collection)
    yield from check_removable(owner, collection, None, None)
    yield from forget(owner, collection, None, now_ms, effects)
    parameters: dict[str, Any] = {"workflow_id": owner["id"]}
    condition = ""
    if collection.kind is not None:
        parameters["kind"] = collection.kind
        condition = " AND kind = :kind"
    yield Statement(f"DELETE FROM {collection.table} WHERE workflow_id = :workflow_id{condition}", parameters)
    return {"message": f"Removed all documents of {collection.name}__{workflow_key(owner)}."}
