"""Appending to a workflow's event log, outside the engine's own ledger.

The sequence is a counter on the workflow's row, which the caller holds locked: so it has no gaps
and a stream that has seen n has seen everything up to n.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import orjson

from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Effects, Many, Rows, Statement

INSERT_EVENT = (
    "INSERT INTO event (id, workflow_id, sequence, timestamp, category, type, body) "
    "VALUES (:id, :workflow_id, :sequence, :timestamp, :category, :type, :body)"
)


def event_parameters(
    event: Mapping[str, Any], event_id: int, workflow_id: int, sequence: int, now_ms: int
) -> dict[str, Any]:
    """Bind one event; category and type get columns of their own, the rest is carried."""
    category, kind = event.get("category"), event.get("type")
    return {
        "id": event_id,
        "workflow_id": workflow_id,
        "sequence": sequence,
        "timestamp": now_ms,
        "category": category if isinstance(category, str) else None,
        "type": kind if isinstance(kind, str) else None,
        "body": orjson.dumps(event).decode(),
    }


def append(
    workflow: Any, events: Sequence[Mapping[str, Any]], now_ms: int, effects: Effects
) -> Generator[Statement | Many, Rows, list[int]]:
    """Append events to a workflow whose row is locked; return their ids."""
    if not events:
        return []
    rows = yield Statement(
        "UPDATE workflow SET event_sequence = event_sequence + :n WHERE id = :id RETURNING event_sequence",
        {"n": len(events), "id": workflow["id"]},
    )
    first = rows[0]["event_sequence"] - len(events) + 1
    ids = yield from take_ids(len(events))
    yield Many(
        INSERT_EVENT,
        [
            event_parameters(event, ids[offset], workflow["id"], first + offset, now_ms)
            for offset, event in enumerate(events)
        ],
    )
    effects.events.add(workflow["id"])
    return ids
