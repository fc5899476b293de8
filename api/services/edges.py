"""The eleven edge collections: five are rows, six are views over foreign keys.

A view's edge has the id of the row that holds the key: `requires` and `scheduled_bys` the job's,
`returned` the result's, `node_used` and `process_used` the statistics', `executed` the attempt's.
Posting such an edge sets the key, deleting it clears the key; so the two can never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from lading.api.services import blockers
from lading.api.services.documents.collections import (
    COMPUTE_NODE_STATS,
    COMPUTE_NODES,
    FILES,
    JOB_PROCESS_STATS,
    JOBS,
    RESOURCE_REQUIREMENTS,
    RESULTS,
    SCHEDULERS,
    USER_DATA,
    Collection,
    plain_key,
)
from lading.api.services.documents.reading import Paging, envelope, find_row
from lading.api.services.identity import Principal
from lading.api.services.job_documents import revision
from lading.api.services.ledger import Ledger
from lading.api.services.resources import Services
from lading.api.services.workflows import Steps, find_workflow, lock_workflow, workflow_key
from lading.api.storage.keys import check_key, is_integer_key, key_filter, take_ids
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.errors import BadInput, Conflict, NotFound


@dataclass(frozen=True, slots=True)
class EdgeCollection:
    """One of the eleven: which documents it joins, and where it is held."""

    name: str
    sources: tuple[Collection, ...]
    targets: tuple[Collection, ...]
    table: str = "edge"
    from_column: str = "from_id"
    to_column: str = "to_id"
    one_per_target: bool = False
    """At most one edge may lead to a document: a file or user data has one writer."""

    @property
    def is_stored(self) -> bool:
        """Whether its edges are rows."""
        return self.table == "edge"

    @property
    def set_column(self) -> str:
        """The foreign key of a view; the other end is the row that holds it."""
        return self.to_column if self.from_column == "id" else self.from_column


_CONFIGS = tuple(SCHEDULERS.values())
REQUIRES = EdgeCollection(
    "requires", (JOBS,), (RESOURCE_REQUIREMENTS,), "job", "id", "resource_requirements_id"
)
_ALL = (
    EdgeCollection("blocks", (JOBS,), (JOBS,)),
    EdgeCollection("consumes", (JOBS,), (USER_DATA,)),
    EdgeCollection("executed", (COMPUTE_NODES,), (JOBS,), "attempt", "compute_node_id", "job_id"),
    EdgeCollection("needs", (JOBS,), (FILES,)),
    EdgeCollection(
        "node_used", (COMPUTE_NODES,), (COMPUTE_NODE_STATS,), "compute_node_stats", "compute_node_id", "id"
    ),
    EdgeCollection("process_used", (JOBS,), (JOB_PROCESS_STATS,), "job_process_stats", "job_id", "id"),
    EdgeCollection("produces", (JOBS,), (FILES,), one_per_target=True),
    REQUIRES,
    EdgeCollection("returned", (JOBS,), (RESULTS,), "result", "job_id", "id"),
    EdgeCollection("scheduled_bys", (JOBS,), _CONFIGS, "job", "id", "scheduler_id"),
    EdgeCollection("stores", (JOBS,), (USER_DATA,), one_per_target=True),
)
EDGES: Mapping[str, EdgeCollection] = {edge.name: edge for edge in _ALL}
EXECUTED = EDGES["executed"]


def edge_collection(name: str) -> EdgeCollection:
    """Return the collection of that name. Raises NotFound."""
    if name not in EDGES:
        raise NotFound(f"no such edge collection: {name}; accepted are {', '.join(EDGES)}")
    return EDGES[name]


# ---- reading ---------------------------------------------------------------------------------


def matching(edge: EdgeCollection) -> str:
    """Return FROM and WHERE that find the edges; edges to rows that are gone are not there."""
    condition = " AND e.name = :edge" if edge.is_stored else ""
    if edge is EXECUTED:
        condition = " AND e.started_ms IS NOT NULL"
    return (
        f"FROM {edge.table} e JOIN {edge.sources[0].table} f ON f.id = e.{edge.from_column} "
        f"JOIN {edge.targets[0].table} t ON t.id = e.{edge.to_column} "
        f"WHERE e.workflow_id = :workflow_id{condition}"
    )


def columns(edge: EdgeCollection) -> str:
    key, data = ("e.key AS key", "e.data AS data") if edge.is_stored else ("NULL AS key", "NULL AS data")
    run_id = "e.run_id AS run_id" if edge is EXECUTED else "NULL AS run_id"
    kind = "t.kind AS to_kind" if len(edge.targets) > 1 else "NULL AS to_kind"
    return (
        f"e.id AS id, {key}, {data}, {run_id}, {kind}, "
        "f.id AS from_id, f.key AS from_key, t.id AS to_id, t.key AS to_key"
    )


def parameters_of(workflow: Any, edge: EdgeCollection) -> dict[str, Any]:
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    if edge.is_stored:
        parameters["edge"] = edge.name
    return parameters


def edge_document(edge: EdgeCollection, row: Any, workflow: str) -> dict[str, Any]:
    """Encode a row that has `columns`."""
    key = row["key"] if row["key"] is not None else str(row["id"])
    from_key = row["from_key"] if row["from_key"] is not None else row["from_id"]
    to_key = row["to_key"] if row["to_key"] is not None else row["to_id"]
    target = edge.targets[0].name if row["to_kind"] is None else f"{row['to_kind']}_schedulers"
    document: dict[str, Any] = {
        "_from": f"{edge.sources[0].name}__{workflow}/{from_key}",
        "_to": f"{target}__{workflow}/{to_key}",
        "_key": key,
        "_id": f"{edge.name}__{workflow}/{key}",
        # Edges are never changed, only made and removed.
        "_rev": revision(1),
    }
    if row["data"] is not None:
        document["data"] = orjson.loads(row["data"])
    if row["run_id"] is not None:
        document["data"] = {"run_id": row["run_id"]}
    return document


def _find(workflow: Any, edge: EdgeCollection, key: str) -> Steps:
    plain = plain_key(key, edge.name, workflow_key(workflow), "edge")
    parameters = parameters_of(workflow, edge)
    if edge.is_stored:
        condition = key_filter(plain, parameters, alias="e")
    elif is_integer_key(plain):
        parameters["id"] = int(plain)
        condition = "e.id = :id"
    else:
        raise NotFound(f"no such edge: {key}")
    rows = yield Statement(f"SELECT {columns(edge)} {matching(edge)} AND {condition}", parameters)
    if not rows:
        raise NotFound(f"no such edge: {key}")
    return rows[0]


def edge_document_of(workflow: Any, edge: EdgeCollection, row_id: int) -> Steps:
    """Return the document of the edge with that id."""
    parameters = {**parameters_of(workflow, edge), "id": row_id}
    [row] = yield Statement(f"SELECT {columns(edge)} {matching(edge)} AND e.id = :id", parameters)
    return edge_document(edge, row, workflow_key(workflow))


async def list_edges(
    services: Services, principal: Principal, workflow: str, name: str, paging: Paging
) -> dict[str, Any]:
    """Return a page of an edge collection, in the order in which the edges were made."""
    edge = edge_collection(name)

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        parameters = parameters_of(owner, edge)
        counted = yield Statement(f"SELECT count(*) AS total {matching(edge)}", parameters)
        rows = yield Statement(
            f"SELECT {columns(edge)} {matching(edge)} ORDER BY e.id LIMIT :limit OFFSET :skip",
            {**parameters, "limit": paging.capped, "skip": paging.skip},
        )
        items = [edge_document(edge, row, workflow_key(owner)) for row in rows]
        return envelope(items, paging.skip, counted[0]["total"])

    answer: dict[str, Any] = await services.database.read(work)
    return answer


async def get_edge(
    services: Services, principal: Principal, workflow: str, name: str, key: str
) -> dict[str, Any]:
    """Return one edge."""
    edge = edge_collection(name)

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        return edge_document(edge, (yield from _find(owner, edge, key)), workflow_key(owner))

    answer: dict[str, Any] = await services.database.read(work)
    return answer


# ---- writing ---------------------------------------------------------------------------------


def add_edge(
    principal: Principal,
    workflow: str,
    name: str,
    document: Mapping[str, Any],
    now_ms: int,
    effects: Effects,
) -> Steps:
    """Make an edge between two documents that exist; one that is there already is returned as it is."""
    edge = edge_collection(name)
    owner = yield from lock_workflow(principal, workflow)
    source = yield from _end(owner, edge, "_from", document["_from"], edge.sources)
    target = yield from _end(owner, edge, "_to", document["_to"], edge.targets)
    key, data = document.get("_key"), document.get("data")
    if not edge.is_stored:
        if edge is EXECUTED:
            raise BadInput("executed: these edges are the record of start_job and cannot be posted.")
        if key is not None or data:
            raise BadInput(f"{name}: its edges take no _key and no data; accepted are _from and _to.")
        return (yield from _set_foreign_key(owner, edge, source, target))
    rows = yield Statement(
        f"SELECT {columns(edge)} {matching(edge)} AND e.from_id = :from_id AND e.to_id = :to_id",
        {**parameters_of(owner, edge), "from_id": source["id"], "to_id": target["id"]},
    )
    if rows:
        existing = edge_document(edge, rows[0], workflow_key(owner))
        if key not in (None, existing["_key"]) or (data is not None and data != existing.get("data")):
            raise Conflict(f"{name}: there is an edge between the two already, {existing['_id']}.")
        return existing
    if name == "blocks":
        if source["id"] == target["id"]:
            raise BadInput(f"_to: {document['_to']!r} would wait for itself.")
        ledger = Ledger(owner, now_ms, effects)
        row_id = yield from blockers.connect(ledger, source["id"], target["id"])
        yield from ledger.flush()
        yield from _describe(owner, edge, row_id, key, data)
    else:
        row_id = yield from insert_stored_edge(owner, name, source["id"], target["id"])
        yield from _describe(owner, edge, row_id, key, data)
    return (yield from edge_document_of(owner, edge, row_id))


def insert_stored_edge(workflow: Any, name: str, source: int, target: int) -> Steps:
    """Store an edge that is a row, other than `blocks`; returns its id."""
    if EDGES[name].one_per_target:
        rows = yield Statement(
            "SELECT id FROM edge WHERE workflow_id = :workflow_id AND name = :name AND to_id = :to_id LIMIT 1",
            {"workflow_id": workflow["id"], "name": name, "to_id": target},
        )
        if rows:
            raise BadInput(f"_to: another job {name} it already, edge {rows[0]['id']}; remove that first.")
    [row_id] = yield from take_ids(1)
    yield Statement(
        "INSERT INTO edge (id, workflow_id, name, from_id, to_id) "
        "VALUES (:id, :workflow_id, :name, :from_id, :to_id)",
        {"id": row_id, "workflow_id": workflow["id"], "name": name, "from_id": source, "to_id": target},
    )
    return row_id


def _describe(workflow: Any, edge: EdgeCollection, row_id: int, key: str | None, data: Any) -> Steps:
    """Give a new row the key and the data that its maker chose."""
    if key is not None:
        check_key(key)
        parameters: dict[str, Any] = parameters_of(workflow, edge)
        condition = key_filter(key, parameters, alias="e")
        taken = yield Statement(
            f"SELECT e.id FROM edge e WHERE e.workflow_id = :workflow_id AND e.name = :edge AND {condition}",
            parameters,
        )
        if taken:
            raise BadInput(f"_key: {key!r} is in use.")
    if key is not None or data is not None:
        yield Statement(
            "UPDATE edge SET key = :key, data = :data WHERE id = :id",
            {"key": key, "data": None if data is None else orjson.dumps(data).decode(), "id": row_id},
        )


def _end(workflow: Any, edge: EdgeCollection, field: str, given: str, accepted: tuple[Any, ...]) -> Steps:
    """Return the row at one end of a new edge. Raises BadInput for what no edge of this name joins."""
    name = workflow_key(workflow)
    base = given.partition("__")[0]
    for collection in accepted:
        if "/" in given and base == collection.name:
            try:
                return (yield from find_row(workflow, collection, given))
            except NotFound as error:
                raise BadInput(f"{field}: {error}") from None
    forms = ", ".join(f"{collection.name}__{name}/KEY" for collection in accepted)
    raise BadInput(f"{field}: {given!r} cannot be an end of {edge.name!r}; accepted: {forms}.")


def _set_foreign_key(workflow: Any, edge: EdgeCollection, source: Any, target: Any) -> Steps:
    holder, other = (source, target) if edge.from_column == "id" else (target, source)
    column = edge.set_column
    current = holder[column]
    if current is not None and current != other["id"]:
        raise BadInput(
            f"{edge.name}: {edge.name}__{workflow_key(workflow)}/{holder['id']} is there already; remove it first."
        )
    if current is None:
        try:
            yield Statement(
                f"UPDATE {edge.table} SET {column} = :other WHERE id = :id",
                {"other": other["id"], "id": holder["id"]},
            )
        except Conflict:
            raise BadInput(f"{edge.name}: the job has a result of that run already.") from None
    return (yield from edge_document_of(workflow, edge, holder["id"]))


def remove_edge(
    principal: Principal, workflow: str, name: str, key: str, now_ms: int, effects: Effects
) -> Steps:
    """Remove an edge; returns it as it was."""
    edge = edge_collection(name)
    owner = yield from lock_workflow(principal, workflow)
    row = yield from _find(owner, edge, key)
    if name == "blocks":
        ledger = Ledger(owner, now_ms, effects)
        yield from blockers.remove_blocks_edges(ledger, [(row["from_id"], row["to_id"])])
        yield from ledger.flush()
    elif edge.is_stored:
        yield Statement("DELETE FROM edge WHERE id = :id", {"id": row["id"]})
    else:
        yield from _clear(owner, edge, row["id"])
    return edge_document(edge, row, workflow_key(owner))


def remove_edges(principal: Principal, workflow: str, name: str, now_ms: int, effects: Effects) -> Steps:
    """Remove all edges of a collection."""
    edge = edge_collection(name)
    owner = yield from lock_workflow(principal, workflow)
    parameters = parameters_of(owner, edge)
    if name == "blocks":
        rows = yield Statement(
            "SELECT from_id, to_id FROM edge WHERE workflow_id = :workflow_id AND name = :edge ORDER BY id",
            parameters,
        )
        ledger = Ledger(owner, now_ms, effects)
        yield from blockers.remove_blocks_edges(ledger, [(row["from_id"], row["to_id"]) for row in rows])
        yield from ledger.flush()
    elif edge.is_stored:
        yield Statement("DELETE FROM edge WHERE workflow_id = :workflow_id AND name = :edge", parameters)
    else:
        yield from _clear(owner, edge, None)
    return {"message": f"Removed all edges of {name}__{workflow_key(owner)}."}


def _clear(workflow: Any, edge: EdgeCollection, row_id: int | None) -> Steps:
    """Clear the foreign key of one row, or of all."""
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    one = ""
    if row_id is not None:
        parameters["id"] = row_id
        one = " AND id = :id"
    if edge is EXECUTED:
        # The node of an attempt that is not over is the only way to end it.
        running = yield Statement(
            f"SELECT id FROM attempt WHERE workflow_id = :workflow_id AND state <> 'ended' "
            f"AND started_ms IS NOT NULL{one} LIMIT 1",
            parameters,
        )
        if running:
            raise Conflict(f"executed: attempt {running[0]['id']} is still running; cancel its job first.")
        one += " AND state = 'ended'"
    yield Statement(
        f"UPDATE {edge.table} SET {edge.set_column} = NULL WHERE workflow_id = :workflow_id{one}", parameters
    )
