"""Reading documents: one by its key, lists page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lading.api.services.documents.collections import JOBS, Collection, plain_key
from lading.api.services.identity import Principal
from lading.api.services.job_documents import job_document
from lading.api.services.resources import Services
from lading.api.services.workflows import Steps, find_workflow, workflow_key
from lading.api.storage.documents import Term, select_page
from lading.api.storage.keys import key_filter
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import BadInput, NotFound

MAXIMUM_PAGE = 100_000


@dataclass(frozen=True, slots=True)
class Paging:
    """What a list was asked for."""

    skip: int = 0
    limit: int = MAXIMUM_PAGE
    sort_by: str | None = None
    """Members, separated by commas."""
    reverse: bool = False
    filters: Mapping[str, Any] = field(default_factory=dict)
    """Member -> the value it must equal."""

    @property
    def capped(self) -> int:
        """Items on the page at most."""
        return min(self.limit, MAXIMUM_PAGE)

    @property
    def sort_names(self) -> list[str]:
        """Members to sort by; the text `null` stands for none, as the published default."""
        if self.sort_by is None or self.sort_by.strip() in {"", "null"}:
            return []
        return [name.strip() for name in self.sort_by.split(",") if name.strip()]


def envelope(items: Sequence[Any], skip: int, total: int) -> dict[str, Any]:
    """Return a page; `has_more` is false on an empty one, since clients go on until it is."""
    count = len(items)
    return {
        "items": items,
        "skip": skip,
        "max_limit": MAXIMUM_PAGE,
        "count": count,
        "total_count": total,
        "has_more": count > 0 and skip + count < total,
    }


async def workflow_row(services: Services, principal: Principal, workflow: str) -> Any:
    """Return a workflow's row for a use case that only reads."""

    def work(_effects: Effects) -> UseCase:
        return (yield from find_workflow(principal, workflow))

    return await services.database.read(work)


def find_row(workflow: Any, collection: Collection, key: str) -> Steps:
    """Return a document's row by bare key or `_id`. Raises NotFound."""
    plain = plain_key(key, collection.name, workflow_key(workflow), collection.singular)
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    condition = key_filter(plain, parameters)
    if collection.kind is not None:
        parameters["kind"] = collection.kind
        condition += " AND kind = :kind"
    rows = yield Statement(
        f"SELECT * FROM {collection.table} WHERE workflow_id = :workflow_id AND {condition}", parameters
    )
    if not rows:
        raise NotFound(f"no such {collection.singular}: {key}")
    return rows[0]


async def get_document(
    services: Services, principal: Principal, workflow: str, collection: Collection, key: str
) -> dict[str, Any]:
    """Return one document."""

    def work(_effects: Effects) -> UseCase:
        row = yield from find_workflow(principal, workflow)
        found = yield from find_row(row, collection, key)
        return document_of(collection, found, workflow_key(row))

    document: dict[str, Any] = await services.database.read(work)
    return document


async def list_documents(
    services: Services, principal: Principal, workflow: str, collection: Collection, paging: Paging
) -> dict[str, Any]:
    """Return a page of a collection."""
    row = await workflow_row(services, principal, workflow)
    if collection.kind is not None:
        return await _list_in_memory(services, row, collection, paging)
    filters = {name: value for name, value in paging.filters.items() if value is not None}
    key = filters.pop("_key", None)
    name = workflow_key(row)
    page = await select_page(
        services.orm,
        collection.model,
        {"workflow_id": row["id"], **filters},
        sort_terms(paging, sortable(collection)),
        lambda found: document_of(collection, found, name),
        skip=paging.skip,
        limit=paging.capped,
        key=key,
    )
    return envelope(page.items, paging.skip, page.total)


def document_of(collection: Collection, row: Any, workflow: str) -> dict[str, Any]:
    """Return a row as its document; jobs have a writer of their own."""
    return job_document(row, workflow) if collection is JOBS else collection.document(row, workflow)


_JOB_MEMBERS = (
    "name", "command", "status", "cancel_on_blocking_job_failure", "supports_termination",
    "invocation_script", "priority", "retries", "workdir", "num_cpus", "num_gpus", "num_nodes",
    "memory_bytes", "runtime_seconds", "scheduler_config_id",
)  # fmt: skip
_IDENTITY = {"_key": ("id", "key"), "_id": ("id", "key"), "_rev": ("rev",)}


def sortable(collection: Collection) -> dict[str, tuple[str, ...]]:
    """Return member -> the columns to sort by."""
    own: Mapping[str, tuple[str, ...]]
    if collection is JOBS:
        own = {name: (name,) for name in _JOB_MEMBERS}
    else:
        own = {member.name: (member.name,) for member in collection.members}
    if collection.name == "events":
        own = {**own, "category": ("category",), "type": ("type",)}
    return {**own, **_IDENTITY}


def sort_terms(paging: Paging, accepted: Mapping[str, tuple[str, ...]]) -> list[Term]:
    """Return the order that was asked for. Raises BadInput for a name that nothing can be sorted by."""
    terms = []
    for name in paging.sort_names:
        if name not in accepted:
            raise BadInput(f"sort_by: {name!r} is not accepted; accepted are {', '.join(sorted(accepted))}.")
        terms += [Term(column, paging.reverse) for column in accepted[name]]
    return terms or ([Term("id", descending=True)] if paging.reverse else [])


async def _list_in_memory(
    services: Services, workflow: Any, collection: Collection, paging: Paging
) -> dict[str, Any]:
    """Page through scheduler configs: few, and most of their members are carried in one column."""
    name = workflow_key(workflow)
    found = await select_page(
        services.orm,
        collection.model,
        {"workflow_id": workflow["id"], "kind": collection.kind},
        [],
        lambda row: collection.document(row, name),
        skip=0,
        limit=MAXIMUM_PAGE,
    )
    documents = found.items
    for member, wanted in paging.filters.items():
        if wanted is not None:
            documents = [document for document in documents if document.get(member) == wanted]
    for member in reversed(paging.sort_names):
        _check_sortable(member, collection)
        documents.sort(key=_ranked(member), reverse=paging.reverse)
    if paging.reverse and not paging.sort_names:
        documents.reverse()
    page = documents[paging.skip : paging.skip + paging.capped]
    return envelope(page, paging.skip, len(documents))


SCHEDULER_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "local_schedulers": ("name", "memory", "num_cpus"),
    "slurm_schedulers": (
        "name", "account", "gres", "mem", "nodes", "ntasks_per_node", "partition", "qos", "tmp",
        "walltime", "extra", "cpus", "gpus", "exclusive", "constraint", "exclude", "reservation", "array",
        "site", "set_up", "on_cannot_start", "submit",
    ),
    "aws_schedulers": ("name",),
}  # fmt: skip
ADDITIVE_MEMBERS = (
    "max_allocations", "min_allocations", "max_parallel_jobs", "idle_minutes", "cpu_affinity_cpus_per_job",
)  # fmt: skip


def _check_sortable(member: str, collection: Collection) -> None:
    accepted = {*SCHEDULER_MEMBERS[collection.name], *ADDITIVE_MEMBERS, "_key", "_id", "_rev"}
    if member not in accepted:
        raise BadInput(f"sort_by: {member!r} is not accepted; accepted are {', '.join(sorted(accepted))}.")


def _ranked(member: str) -> Callable[[Mapping[str, Any]], tuple[bool, Any]]:
    def rank(document: Mapping[str, Any]) -> tuple[bool, Any]:
        value = document.get(member)
        if member in {"_key", "_id"}:
            key = document["_key"]
            return (not key.isdigit(), int(key) if key.isdigit() else key)
        return (value is not None, value if value is not None else 0)

    return rank
