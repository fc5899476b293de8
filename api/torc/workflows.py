"""Workflows with their config and status, and questions about a whole workflow."""

from __future__ import annotations

import math
from typing import Any

from lading import __version__
from lading.api.context import Call
from lading.api.routing import ANYBODY, Query, Route
from lading.api.services.documents import collections, events, inputs, workflows
from lading.api.services.documents.reading import workflow_row
from lading.api.services.edges import EDGES
from lading.api.services.workflows import workflow_key
from lading.api.torc.answers import PAGE, SORTED_PAGE, now_ms, paging_of, write
from lading.toolkit.errors import NotFound
from lading.toolkit.wire import torc, torc_answers

TORC_VERSION = "0.6.4"
"""The version of the published API that this dialect speaks."""

_ONE = "/workflows/{key}"
_TAGS = ("workflows",)


async def ping(_call: Call) -> Any:
    """Answer at once, without the database."""
    return {"message": "Lading is alive."}


async def get_version(_call: Call) -> Any:
    """Return the version of the API and our own."""
    return {"version": TORC_VERSION, "lading": __version__}


async def list_workflows(call: Call) -> Any:
    """Return a page of workflows."""
    return await workflows.list_workflows(call.services, call.principal, paging_of(call))


async def add_workflow(call: Call) -> Any:
    """Store a workflow."""
    document = call.body.filled()
    return await write(call, lambda _effects: workflows.add_workflow(call.principal, document, now_ms(call)))


async def get_workflow(call: Call) -> Any:
    """Return a workflow."""
    return await workflows.get_part(
        call.services, call.principal, call.path["key"], workflows.workflow_document
    )


async def modify_workflow(call: Call) -> Any:
    """Patch a workflow."""
    sent = call.body.sent()
    return await write(
        call, lambda _effects: workflows.modify_workflow(call.principal, call.path["key"], sent)
    )


async def remove_workflow(call: Call) -> Any:
    """Remove a workflow with everything in it."""
    return await write(
        call, lambda effects: workflows.remove_workflow(call.principal, call.path["key"], effects)
    )


async def get_config(call: Call) -> Any:
    """Return a workflow's config."""
    return await workflows.get_part(
        call.services, call.principal, call.path["key"], workflows.config_document
    )


async def modify_config(call: Call) -> Any:
    """Patch a workflow's config."""
    sent = call.body.sent()
    return await write(call, lambda _effects: workflows.modify_config(call.principal, call.path["key"], sent))


async def get_status(call: Call) -> Any:
    """Return a workflow's status."""
    return await workflows.get_part(
        call.services, call.principal, call.path["key"], workflows.status_document
    )


async def modify_status(call: Call) -> Any:
    """Patch a workflow's status."""
    sent = call.body.sent()
    return await write(
        call, lambda effects: workflows.modify_status(call.principal, call.path["key"], sent, effects)
    )


async def list_collection_names(call: Call) -> Any:
    """Return the full names of a workflow's collections: documents, vertices, edges."""
    name = workflow_key(await workflow_row(call.services, call.principal, call.path["key"]))
    bases = (*collections.DOCUMENT_NAMES, *collections.VERTEX_NAMES, *EDGES)
    return {"names": [f"{base}__{name}" for base in bases]}


async def get_latest_event_timestamp(call: Call) -> Any:
    """Return the largest timestamp of all events."""
    return await events.latest_timestamp(call.services, call.principal, call.path["key"])


async def get_events_after_timestamp(call: Call) -> Any:
    """Return the events that are newer than a timestamp."""
    try:
        timestamp = float(call.path["timestamp"])
    except ValueError:
        timestamp = math.nan
    if not math.isfinite(timestamp) or abs(timestamp) >= 2**63:
        raise NotFound(f"no such timestamp: {call.path['timestamp']}; accepted are milliseconds.")
    return await events.events_after(
        call.services,
        call.principal,
        call.path["key"],
        timestamp,
        call.query["category"],
        paging_of(call),
    )


async def list_missing_user_data(call: Call) -> Any:
    """Return the user data that jobs consume and nobody has stored."""
    return await inputs.missing_user_data(call.services, call.principal, call.path["key"])


async def list_required_existing_files(call: Call) -> Any:
    """Return the files that must exist."""
    return await inputs.required_existing_files(call.services, call.principal, call.path["key"])


async def get_ready_job_requirements(call: Call) -> Any:
    """Return what all ready jobs ask for together."""
    return await inputs.ready_job_requirements(
        call.services, call.principal, call.path["key"], call.query["scheduler_config_id"]
    )


_FILTERS = (
    Query("name", str), Query("user", str), Query("description", str), Query("is_archived", bool),
)  # fmt: skip

ROUTES: tuple[Route, ...] = (
    Route("GET", "/ping", "ping", ping, "Tell that the server answers.",
          response=torc_answers.Message, public=True, scopes=ANYBODY, tags=_TAGS),
    Route("GET", "/version", "get_version", get_version, "Return the version of the API.",
          response=torc_answers.Version, public=True, scopes=ANYBODY, tags=_TAGS),
    Route("GET", "/workflows", "list_workflows", list_workflows, "List workflows.",
          response=torc_answers.Page[torc.Workflow], query=SORTED_PAGE + _FILTERS, tags=_TAGS),
    Route("POST", "/workflows", "add_workflow", add_workflow, "Store an empty workflow.",
          body=torc.Workflow, response=torc.Workflow, creates=True, tags=_TAGS),
    Route("GET", _ONE, "get_workflow", get_workflow, "Return a workflow.",
          response=torc.Workflow, tags=_TAGS),
    Route("PUT", _ONE, "modify_workflow", modify_workflow, "Patch a workflow.",
          body=torc.Workflow, response=torc.Workflow, tags=_TAGS),
    Route("DELETE", _ONE, "remove_workflow", remove_workflow, "Remove a workflow with everything in it.",
          response=torc.Workflow, tags=_TAGS),
    Route("GET", _ONE + "/config", "get_workflow_config", get_config, "Return a workflow's config.",
          response=torc.WorkflowConfig, tags=_TAGS),
    Route("PUT", _ONE + "/config", "modify_workflow_config", modify_config, "Patch a workflow's config.",
          body=torc.WorkflowConfig, response=torc.WorkflowConfig, tags=_TAGS),
    Route("GET", _ONE + "/status", "get_workflow_status", get_status, "Return a workflow's status.",
          response=torc.WorkflowStatus, tags=_TAGS),
    Route("PUT", _ONE + "/status", "modify_workflow_status", modify_status, "Patch a workflow's status.",
          body=torc.WorkflowStatus, response=torc.WorkflowStatus, tags=_TAGS),
    Route("GET", _ONE + "/collection_names", "list_collection_names", list_collection_names,
          "Return the names of a workflow's collections.", response=torc_answers.CollectionNames, tags=_TAGS),
    Route("GET", _ONE + "/latest_event_timestamp", "get_latest_event_timestamp",
          get_latest_event_timestamp, "Return the time of the latest event in milliseconds.",
          response=torc_answers.LatestEventTimestamp, tags=_TAGS),
    Route("GET", _ONE + "/events_after_timestamp/{timestamp}", "get_events_after_timestamp",
          get_events_after_timestamp, "Return the events that are newer than a time in milliseconds.",
          response=torc_answers.Page[dict[str, Any]], query=(Query("category", str), *PAGE), tags=_TAGS),
    Route("GET", _ONE + "/missing_user_data", "list_missing_user_data", list_missing_user_data,
          "Return the keys of user data that is consumed and empty.",
          response=torc_answers.MissingUserData, tags=_TAGS),
    Route("GET", _ONE + "/required_existing_files", "list_required_existing_files",
          list_required_existing_files, "Return the ids of the files that must exist.",
          response=torc_answers.RequiredExistingFiles, tags=_TAGS),
    Route("GET", _ONE + "/ready_job_requirements", "get_ready_job_requirements",
          get_ready_job_requirements, "Return what all ready jobs ask for together.",
          response=torc_answers.ReadyJobRequirements,
          query=(Query("scheduler_config_id", str, description="The _id of a scheduler config."),),
          tags=_TAGS),
)  # fmt: skip
