"""Reading a workflow's events in the order of their sequence, page by page."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from lading.api.services.identity import Principal
from lading.api.services.workflows import find_workflow, workflow_key
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.api.storage.unit_of_work import Database

PAGE = 1000


class EventPage(NamedTuple):
    workflow_id: int
    events: list[tuple[int, dict[str, Any]]]
    """(sequence, document), ascending; a full page of 1000 means that there may be more."""


async def events_after(database: Database, principal: Principal, workflow: str, sequence: int) -> EventPage:
    """Return the next events after a sequence number.

    The sequence is a counter on the locked workflow row: whoever commits has a higher number than
    everyone who committed before, so a reader that goes on from the last one it saw misses none.
    """

    def work(_effects: Effects) -> UseCase:
        found = yield from find_workflow(principal, workflow)
        rows = yield Statement(
            "SELECT id, key, rev, sequence, timestamp, body FROM event "
            "WHERE workflow_id = :workflow_id AND sequence > :sequence ORDER BY sequence LIMIT :limit",
            {"workflow_id": found["id"], "sequence": sequence, "limit": PAGE},
        )
        parent = workflow_key(found)
        return EventPage(found["id"], [(row["sequence"], _document(row, parent)) for row in rows])

    page: EventPage = await database.read(work)
    return page


def _document(row: Any, workflow: str) -> dict[str, Any]:
    key = key_of(row)
    return {
        **orjson.loads(row["body"]),
        "_key": key,
        "_id": f"events__{workflow}/{key}",
        "_rev": str(row["rev"]),
        "timestamp": row["timestamp"],
        "sequence": row["sequence"],
    }
