"""Documents beside what they are connected to: one row for each edge.

skip and limit count rows, not documents, and the total is that of all rows: so a client that goes on
with `skip + count` until `has_more` is false gets every row once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lading.api.services.documents.collections import JOBS, Collection, Form
from lading.api.services.documents.reading import Paging, document_of, envelope
from lading.api.services.edges import EDGES, EdgeCollection, columns, edge_document, matching, parameters_of
from lading.api.services.identity import Principal
from lading.api.services.resources import Services
from lading.api.services.workflows import Steps, find_workflow, workflow_key
from lading.api.storage.keys import key_filter
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import BadInput

Direction = Literal["outbound", "inbound"]

_JOB_COLUMNS = frozenset({"name", "command", "status", "invocation_script", "workdir"})


async def join(
    services: Services,
    principal: Principal,
    workflow: str,
    direction: Direction,
    collection: str,
    edge: str,
    filters: Mapping[str, Any],
    paging: Paging,
) -> dict[str, Any]:
    """Return a page of rows {from, to, edge} for the documents of a collection that equal the filters."""
    joined = _edge_collection(edge)
    near = _near(joined, direction, collection)

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        name = workflow_key(owner)
        alias = "f" if direction == "outbound" else "t"
        parameters = parameters_of(owner, joined)
        condition = yield from _condition(owner, near, filters, alias, parameters)
        found = f"{matching(joined)}{condition}"
        counted = yield Statement(f"SELECT count(*) AS total {found}", parameters)
        rows = yield Statement(
            f"SELECT {columns(joined)} {found} ORDER BY {alias}.id, e.id LIMIT :limit OFFSET :skip",
            {**parameters, "limit": paging.capped, "skip": paging.skip},
        )
        sources = yield from _documents(joined.sources, [row["from_id"] for row in rows], name)
        targets = yield from _documents(joined.targets, [row["to_id"] for row in rows], name)
        items = [
            {
                "from": sources[row["from_id"]],
                "to": targets[row["to_id"]],
                "edge": edge_document(joined, row, name),
            }
            for row in rows
        ]
        return envelope(items, paging.skip, counted[0]["total"])

    answer: dict[str, Any] = await services.database.read(work)
    return answer


def _edge_collection(name: str) -> EdgeCollection:
    if name not in EDGES:
        raise BadInput(f"edge: {name!r} is no edge collection; accepted are {', '.join(EDGES)}.")
    return EDGES[name]


def _near(edge: EdgeCollection, direction: Direction, name: str) -> Collection:
    ends = edge.sources if direction == "outbound" else edge.targets
    for collection in ends:
        if collection.name == name:
            return collection
    accepted = ", ".join(collection.name for collection in ends)
    where = "start" if direction == "outbound" else "end"
    raise BadInput(f"collection: {name!r} is not where {edge.name!r} edges {where}; accepted: {accepted}.")


def _condition(
    workflow: Any, near: Collection, filters: Mapping[str, Any], alias: str, parameters: dict[str, Any]
) -> Steps:
    """Return the SQL that selects the documents, and bind its parameters."""
    condition = ""
    if near.kind is not None:
        parameters["kind"] = near.kind
        condition = f" AND {alias}.kind = :kind"
    if not filters:
        return condition
    if set(filters) == {"_key"} and isinstance(filters["_key"], str):
        return f"{condition} AND {key_filter(filters['_key'], parameters, alias=alias)}"
    if all(_is_column(near, name) and isinstance(value, str) for name, value in filters.items()):
        parameters.update({f"filter_{name}": value for name, value in filters.items()})
        return condition + "".join(f" AND {alias}.{name} = :filter_{name}" for name in filters)
    # Any other member may be asked for: then the documents themselves are compared.
    rows = yield Statement(
        f"SELECT * FROM {near.table} WHERE workflow_id = :workflow_id", {"workflow_id": workflow["id"]}
    )
    name = workflow_key(workflow)
    absent = object()
    parameters["matches"] = [
        row["id"]
        for row in rows
        if (near.kind is None or row["kind"] == near.kind)
        and all(
            document_of(near, row, name).get(member, absent) == value for member, value in filters.items()
        )
    ]
    return f"{condition} AND {alias}.id IN_LIST(:matches)"


def _is_column(collection: Collection, name: str) -> bool:
    """Whether a member is a text in a column of its own, to be compared by the database."""
    if collection is JOBS:
        return name in _JOB_COLUMNS
    member = collection.member(name)
    return member is not None and member.form is Form.PLAIN and collection.holds_text(name)


def _documents(collections: tuple[Collection, ...], ids: list[int], workflow: str) -> Steps:
    """Return id -> document; collections that share a table are told apart by its `kind`."""
    rows = yield Statement(
        f"SELECT * FROM {collections[0].table} WHERE id IN_LIST(:ids)", {"ids": list(dict.fromkeys(ids))}
    )
    by_kind = {collection.kind: collection for collection in collections}
    return {
        row["id"]: document_of(by_kind[row["kind"]] if len(by_kind) > 1 else collections[0], row, workflow)
        for row in rows
    }
