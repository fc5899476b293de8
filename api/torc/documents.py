"""The collections whose six endpoints are alike: list, add, remove all, get, patch, remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lading.api.context import Call
from lading.api.routing import NODES, PEOPLE, Query, Route
from lading.api.services.documents import collections, events
from lading.api.services.documents.collections import Collection
from lading.api.services.documents.reading import get_document, list_documents
from lading.api.services.documents.writing import (
    add_document,
    modify_document,
    remove_document,
    remove_documents,
)
from lading.api.torc.answers import SORTED_PAGE, now_ms, paging_of, write
from lading.toolkit.wire import torc, torc_answers

KEY_FILTER = Query("_key", str, description="Only the document of that key.")


def filters(*texts: str, integers: Sequence[str] = (), booleans: Sequence[str] = ()) -> tuple[Query, ...]:
    """Declare filters: exact equality."""
    return (
        KEY_FILTER,
        *(Query(name, str) for name in texts),
        *(Query(name, int) for name in integers),
        *(Query(name, bool) for name in booleans),
    )


class Handlers:
    """The six handlers of one collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def list(self, call: Call) -> Any:
        """Return a page."""
        return await list_documents(
            call.services, call.principal, call.path["workflow"], self._collection, paging_of(call)
        )

    async def add(self, call: Call) -> Any:
        """Store a document."""
        document = call.body.filled()
        return await write(
            call,
            lambda effects: add_document(
                call.principal, call.path["workflow"], self._collection, document, now_ms(call), effects
            ),
        )

    async def remove_all(self, call: Call) -> Any:
        """Remove all documents."""
        return await write(
            call,
            lambda effects: remove_documents(
                call.principal, call.path["workflow"], self._collection, now_ms(call), effects
            ),
        )

    async def get(self, call: Call) -> Any:
        """Return a document."""
        return await get_document(
            call.services, call.principal, call.path["workflow"], self._collection, call.path["key"]
        )

    async def modify(self, call: Call) -> Any:
        """Patch a document."""
        sent = call.body.sent()
        return await write(
            call,
            lambda effects: modify_document(
                call.principal,
                call.path["workflow"],
                self._collection,
                call.path["key"],
                sent,
                now_ms(call),
                effects,
            ),
        )

    async def remove(self, call: Call) -> Any:
        """Remove a document."""
        return await write(
            call,
            lambda effects: remove_document(
                call.principal,
                call.path["workflow"],
                self._collection,
                call.path["key"],
                now_ms(call),
                effects,
            ),
        )


class EventHandlers(Handlers):
    """Events are stamped and numbered by the server."""

    async def add(self, call: Call) -> Any:
        """Append an event."""
        return await write(
            call,
            lambda effects: events.add_event(
                call.principal, call.path["workflow"], call.body, now_ms(call), effects
            ),
        )

    async def modify(self, call: Call) -> Any:
        """Patch an event."""
        return await write(
            call,
            lambda _effects: events.modify_event(
                call.principal, call.path["workflow"], call.path["key"], call.body
            ),
        )


def routes_of(
    collection: Collection,
    model: Any,
    singular: str,
    plural: str,
    queries: tuple[Query, ...],
    *,
    remove_all: str | None = None,
    from_nodes: bool = False,
) -> tuple[Route, ...]:
    """Return the six routes; `singular` and `plural` are the published operations' endings."""
    handlers = EventHandlers(collection) if collection is collections.EVENTS else Handlers(collection)
    base = f"/workflows/{{workflow}}/{collection.name}"
    one = base + "/{key}"
    answer = model if model is not dict else None
    page = torc_answers.Page[model] if model is not dict else torc_answers.Page[dict[str, Any]]
    scopes = NODES if from_nodes else PEOPLE
    what, tags = collection.singular, (collection.name,)
    return (
        Route("GET", base, f"list_{plural}", handlers.list, f"List documents: {what}.",
              response=page, query=SORTED_PAGE + queries, tags=tags),
        Route("POST", base, f"add_{singular}", handlers.add, f"Store a document: {what}.",
              body=model, response=answer, creates=True, scopes=scopes, tags=tags),
        Route("DELETE", base, remove_all or f"delete_{plural}", handlers.remove_all,
              f"Remove all documents: {what}.", response=torc_answers.Message, tags=tags),
        Route("GET", one, f"get_{singular}", handlers.get, f"Return a document: {what}.",
              response=answer, tags=tags),
        Route("PUT", one, f"modify_{singular}", handlers.modify, f"Patch a document: {what}.",
              body=model, response=answer, tags=tags),
        Route("DELETE", one, f"remove_{singular}", handlers.remove, f"Remove a document: {what}.",
              response=answer, tags=tags),
    )  # fmt: skip


ROUTES: tuple[Route, ...] = (
    *routes_of(collections.AWS_SCHEDULERS, torc.AwsScheduler, "aws_scheduler", "aws_schedulers",
               filters("name")),
    *routes_of(collections.COMPUTE_NODES, torc.ComputeNode, "compute_node", "compute_nodes",
               filters("hostname", booleans=["is_active"])),
    *routes_of(collections.COMPUTE_NODE_STATS, torc.ComputeNodeStats, "compute_node_stats",
               "compute_node_stats", filters("hostname"), from_nodes=True),
    *routes_of(collections.EVENTS, dict, "event", "events", filters("category")),
    *routes_of(collections.FILES, torc.File, "file", "files", filters("name", "path")),
    *routes_of(collections.JOB_PROCESS_STATS, torc.JobProcessStats, "job_process_stats",
               "job_process_stats", filters("job_key", integers=["run_id"]), from_nodes=True),
    *routes_of(collections.LOCAL_SCHEDULERS, torc.LocalScheduler, "local_scheduler", "local_schedulers",
               filters("memory", integers=["num_cpus"])),
    *routes_of(collections.RESOURCE_REQUIREMENTS, torc.ResourceRequirements, "resource_requirements",
               "resource_requirements",
               filters("name", "memory", "runtime", integers=["num_cpus", "num_gpus", "num_nodes"])),
    *routes_of(collections.RESULTS, torc.Result, "result", "results",
               filters("job_key", "status", integers=["run_id", "return_code"])),
    *routes_of(collections.SCHEDULED_COMPUTE_NODES, torc.ScheduledComputeNode, "scheduled_compute_node",
               "scheduled_compute_nodes", filters("scheduler_id", "scheduler_config_id", "status")),
    *routes_of(collections.SLURM_SCHEDULERS, torc.SlurmScheduler, "slurm_scheduler", "slurm_schedulers",
               filters("name", "account", "gres", "mem", "partition", "qos", "tmp", "walltime",
                       integers=["nodes"])),
    *routes_of(collections.USER_DATA, torc.UserData, "user_data", "user_data",
               filters("name", booleans=["is_ephemeral"])),
)  # fmt: skip
