"""What holds between documents: references that must lead somewhere, and what may not be removed.

A compute node that still holds attempts, an allocation that was asked for and is not over: their
rows are the only knowledge of something that runs. Removing them would leave it running unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lading.api.services.documents.collections import (
    COMPUTE_NODES,
    JOB_PROCESS_STATS,
    JOBS,
    RESULTS,
    SCHEDULED_COMPUTE_NODES,
    SCHEDULERS,
    Collection,
)
from lading.api.services.documents.reading import find_row
from lading.api.services.workflows import Steps, workflow_key
from lading.api.storage.statements import Effects, Statement
from lading.toolkit.errors import BadInput, Conflict, NotFound


def check_references(workflow: Any, collection: Collection, document: Mapping[str, Any]) -> Steps:
    """Refuse a document that names a job or scheduler config which does not exist."""
    if collection in (RESULTS, JOB_PROCESS_STATS) and "job_key" in document:
        yield from _referenced(workflow, JOBS, "job_key", document["job_key"])
    elif collection is SCHEDULED_COMPUTE_NODES and "scheduler_config_id" in document:
        yield from scheduler_row(workflow, "scheduler_config_id", document["scheduler_config_id"])


def scheduler_row(workflow: Any, field: str, config_id: str) -> Steps:
    """Return the row of the scheduler config that an `_id` names. Raises BadInput."""
    base = config_id.partition("__")[0]
    if "/" not in config_id or base not in SCHEDULERS:
        accepted = ", ".join(f"{name}__{workflow_key(workflow)}/KEY" for name in SCHEDULERS)
        raise BadInput(f"{field}: {config_id!r} is no _id of a scheduler config; accepted are {accepted}.")
    return (yield from _referenced(workflow, SCHEDULERS[base], field, config_id))


def _referenced(workflow: Any, collection: Collection, field: str, key: str) -> Steps:
    try:
        return (yield from find_row(workflow, collection, key))
    except NotFound as error:
        raise BadInput(f"{field}: {error}") from None


def check_removable(workflow: Any, collection: Collection, row_id: int | None, key: str | None) -> Steps:
    """Refuse the removal of a row (None: of all) that stands for something that is still there."""
    if collection is COMPUTE_NODES:
        text = (
            "SELECT 1 AS found FROM attempt e JOIN compute_node n ON n.id = e.compute_node_id "
            "WHERE n.workflow_id = :workflow_id AND e.state <> 'ended'{one}"
        )
        one, reason = " AND n.id = :id", "still holds jobs: drain it, or declare it lost, first"
    elif collection is SCHEDULED_COMPUTE_NODES:
        text = (
            "SELECT 1 AS found FROM scheduled_compute_node e WHERE e.workflow_id = :workflow_id "
            "AND e.launch_id IS NOT NULL AND e.status <> 'complete'{one}"
        )
        one, reason = " AND e.id = :id", "is not over: cancel it first"
    elif collection.kind is not None:
        text = (
            "SELECT 1 AS found FROM launch e JOIN scheduler_config c ON c.id = e.scheduler_id "
            "WHERE e.workflow_id = :workflow_id AND c.kind = :kind "
            "AND e.state IN ('stored', 'submitting'){one}"
        )
        one, reason = " AND c.id = :id", "is being submitted just now: try again when that is over"
    else:
        return
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    if collection.kind is not None:
        parameters["kind"] = collection.kind
    if row_id is not None:
        parameters["id"] = row_id
    found = yield Statement(text.replace("{one}", one if row_id is not None else "") + " LIMIT 1", parameters)
    if found:
        named = f"{collection.singular} {key}" if key is not None else f"a {collection.singular}"
        raise Conflict(f"{named} {reason}.")


def forget(workflow: Any, collection: Collection, row_id: int | None, now_ms: int, effects: Effects) -> Steps:
    """Remove what leads to a row (None: to all of its collection) before the row goes."""
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    if row_id is not None:
        parameters["id"] = row_id
    if collection.edges:
        one = " AND to_id = :id" if row_id is not None else ""
        yield Statement(
            f"DELETE FROM edge WHERE workflow_id = :workflow_id AND name IN_LIST(:names){one}",
            {**parameters, "names": list(collection.edges)},
        )
    if collection is COMPUTE_NODES:
        one = " AND compute_node_id = :id" if row_id is not None else ""
        # An id may be chosen again: what is left of the old node must not become the new one's.
        for table in ("attempt", "compute_node_stats"):
            yield Statement(
                f"UPDATE {table} SET compute_node_id = NULL WHERE workflow_id = :workflow_id{one}", parameters
            )
        one = one or " AND compute_node_id IS NOT NULL"
        yield Statement(
            f"UPDATE token SET revoked_ms = :now WHERE workflow_id = :workflow_id AND revoked_ms IS NULL{one}",
            {**parameters, "now": now_ms},
        )
        effects.tokens = True
