"""The workflow's own document, its config and its status: three documents, one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from lading.api.services.documents.reading import Paging, envelope, sort_terms
from lading.api.services.documents.writing import IDENTITY, check_same_key
from lading.api.services.identity import Principal, Scope
from lading.api.services.job_documents import revision
from lading.api.services.jobs import check_revision
from lading.api.services.resources import Services
from lading.api.services.specifications import insert_workflow
from lading.api.services.workflows import Steps, find_workflow, lock_workflow, workflow_key
from lading.api.storage import tables
from lading.api.storage.documents import select_page
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.domain.spec import WorkflowConfig
from lading.toolkit.errors import BadInput

_COLUMNS = {
    "name": "name",
    "user": "user_name",
    "description": "description",
    "timestamp": "timestamp",
    "is_archived": "is_archived",
}
"""Member of the document -> column."""
_SORTABLE: Mapping[str, tuple[str, ...]] = {
    **{name: (column,) for name, column in _COLUMNS.items()},
    "_key": ("id", "key"),
    "_id": ("id", "key"),
    "_rev": ("rev",),
}


def default_config() -> dict[str, Any]:
    """Return the config document of a workflow that says nothing."""
    return {name: value for name, value in asdict(WorkflowConfig()).items() if value is not None}


def workflow_document(row: Any) -> dict[str, Any]:
    """Encode a workflow's row."""
    key = workflow_key(row)
    return {
        "name": row["name"],
        "user": row["user_name"],
        "description": row["description"],
        "timestamp": row["timestamp"],
        "is_archived": bool(row["is_archived"]),
        "_key": key,
        "_id": f"workflows/{key}",
        "_rev": revision(row["rev"]),
    }


def config_document(row: Any) -> dict[str, Any]:
    """Encode the config in a workflow's row."""
    key = workflow_key(row)
    return {
        **orjson.loads(row["config"]),
        "_key": key,
        "_id": f"workflow_configs/{key}",
        "_rev": revision(row["config_rev"]),
    }


def status_document(row: Any) -> dict[str, Any]:
    """Encode the status in a workflow's row."""
    key = workflow_key(row)
    document = {
        "run_id": row["run_id"],
        "is_canceled": bool(row["is_canceled"]),
        "scheduled_compute_node_ids": orjson.loads(row["scheduled_compute_node_ids"]),
        "auto_tune_status": orjson.loads(row["auto_tune_status"]),
        "_key": key,
        "_id": f"workflow_statuses/{key}",
        "_rev": revision(row["status_rev"]),
    }
    if row["completion_script_claimed"] is not None:
        document["has_detected_need_to_run_completion_script"] = bool(row["completion_script_claimed"])
    return document


async def list_workflows(services: Services, principal: Principal, paging: Paging) -> dict[str, Any]:
    """Return a page of the workflows that the caller may see."""
    filters = {_COLUMNS[name]: value for name, value in paging.filters.items() if value is not None}
    if principal.scope is Scope.NODE:
        filters["id"] = principal.workflow_id
    elif not principal.sees_all:
        filters["owner"] = principal.user
    page = await select_page(
        services.orm,
        tables.Workflow,
        filters,
        sort_terms(paging, _SORTABLE),
        workflow_document,
        skip=paging.skip,
        limit=paging.capped,
    )
    return envelope(page.items, paging.skip, page.total)


def add_workflow(principal: Principal, document: Mapping[str, Any], now_ms: int) -> Steps:
    """Store an empty workflow with its default config; returns its document."""
    row = yield from insert_workflow(
        principal,
        key=document.get("_key"),
        name=document.get("name", ""),
        user=document.get("user", ""),
        description=document.get("description", ""),
        is_archived=document.get("is_archived", False),
        config=default_config(),
        now_ms=now_ms,
        timestamp=document.get("timestamp", ""),
    )
    return workflow_document(row)


def modify_workflow(principal: Principal, key: str, sent: Mapping[str, Any]) -> Steps:
    """Patch a workflow's document."""
    row = yield from lock_workflow(principal, key)
    check_same_key(sent, workflow_key(row))
    check_revision(sent.get("_rev"), row["rev"])
    previous = revision(row["rev"])
    changes = {
        column: sent[name] for name, column in _COLUMNS.items() if name in sent and sent[name] != row[column]
    }
    if changes:
        row = yield from _update(row, changes, "rev")
    return {**workflow_document(row), "_oldRev": previous}


def remove_workflow(principal: Principal, key: str, effects: Effects) -> Steps:
    """Remove a workflow with everything in it; returns its document as it was."""
    row = yield from lock_workflow(principal, key)
    yield Statement("DELETE FROM workflow WHERE id = :id", {"id": row["id"]})
    # Whoever waits on it looks again and finds nothing; its nodes' tokens are gone with it.
    effects.finished.add(row["id"])
    effects.tokens = True
    return workflow_document(row)


async def get_part(services: Services, principal: Principal, key: str, encode: Any) -> dict[str, Any]:
    """Return one of the three documents of a workflow's row."""

    def work(_effects: Effects) -> UseCase:
        return encode((yield from find_workflow(principal, key)))

    document: dict[str, Any] = await services.database.read(work)
    return document


def modify_config(principal: Principal, key: str, sent: Mapping[str, Any]) -> Steps:
    """Patch a workflow's config; None clears a script. `_rev` is compared where it is given."""
    row = yield from lock_workflow(principal, key)
    check_same_key(sent, workflow_key(row))
    check_revision(sent.get("_rev"), row["config_rev"], required=False)
    stored = orjson.loads(row["config"])
    patched = {name: value for name, value in {**stored, **sent}.items() if name not in IDENTITY}
    patched = {name: value for name, value in patched.items() if value is not None}
    if patched != stored:
        row = yield from _update(row, {"config": orjson.dumps(patched).decode()}, "config_rev")
    return config_document(row)


def modify_status(principal: Principal, key: str, sent: Mapping[str, Any], effects: Effects) -> Steps:
    """Patch a workflow's status. run_id only grows: results of a run are kept under its number."""
    row = yield from lock_workflow(principal, key)
    check_same_key(sent, workflow_key(row))
    check_revision(sent.get("_rev"), row["status_rev"], required=False)
    changes: dict[str, Any] = {}
    if sent["run_id"] != row["run_id"]:
        if sent["run_id"] < row["run_id"]:
            raise BadInput(f"run_id: {sent['run_id']} is below the current {row['run_id']}; it only grows.")
        changes["run_id"] = sent["run_id"]
    if sent["is_canceled"] != bool(row["is_canceled"]):
        changes["is_canceled"] = sent["is_canceled"]
    if sent["auto_tune_status"] != orjson.loads(row["auto_tune_status"]):
        changes["auto_tune_status"] = orjson.dumps(sent["auto_tune_status"]).decode()
    detected = "has_detected_need_to_run_completion_script"
    if detected in sent and sent[detected] != bool(row["completion_script_claimed"]):
        changes["completion_script_claimed"] = sent[detected]
    if changes:
        row = yield from _update(row, changes, "status_rev")
    if changes.get("is_canceled") is True:
        effects.finished.add(row["id"])
    elif changes.get("is_canceled") is False:
        effects.add_ready(row["id"], row["n_ready"] + row["n_scheduled"])
        effects.demand = True
    return status_document(row)


def _update(row: Any, changes: Mapping[str, Any], counter: str) -> Steps:
    assignments = ", ".join(f"{column} = :{column}" for column in changes)
    rows = yield Statement(
        f"UPDATE workflow SET {assignments}, {counter} = {counter} + 1 WHERE id = :id RETURNING *",
        {**changes, "id": row["id"]},
    )
    return rows[0]
