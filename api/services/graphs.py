"""A workflow's dependencies as DOT text, valid whatever its documents are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lading.api.services.documents.collections import FILES, JOBS, USER_DATA, Collection
from lading.api.services.edges import EDGES, columns, edge_document, matching, parameters_of
from lading.api.services.identity import Principal
from lading.api.services.workflows import Steps, find_workflow, workflow_key
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, UseCase, Work
from lading.toolkit.domain.dot import quoted
from lading.toolkit.errors import BadInput

_GRAPHS: Mapping[str, tuple[tuple[str, ...], Collection | None]] = {
    "job_job_dependencies": (("blocks",), None),
    "job_file_dependencies": (("produces", "needs"), FILES),
    "job_user_data_dependencies": (("stores", "consumes"), USER_DATA),
}
"""Name -> its edge collections, and the other collection whose connected documents are shown."""


def dot_graph(principal: Principal, workflow: str, name: str) -> Work:
    """Return the use case that answers {"graph": DOT text}. Raises BadInput for another name."""
    if name not in _GRAPHS:
        raise BadInput(f"name: {name!r} is no graph; accepted are {', '.join(_GRAPHS)}.")
    edge_names, other = _GRAPHS[name]

    def work(_effects: Effects) -> UseCase:
        owner = yield from find_workflow(principal, workflow)
        key = workflow_key(owner)
        edges = []
        for edge_name in edge_names:
            edge = EDGES[edge_name]
            rows = yield Statement(
                f"SELECT {columns(edge)} {matching(edge)} ORDER BY e.id", parameters_of(owner, edge)
            )
            edges += [(edge_name, edge_document(edge, row, key)) for row in rows]
        nodes = yield from _labels(owner, JOBS)
        if other is not None:
            connected = {document["_to"] for _, document in edges}
            labels = yield from _labels(owner, other)
            nodes += [(node, label) for node, label in labels if node in connected]
        return {"graph": _dot(name, nodes, edges)}

    return work


def _labels(workflow: Any, collection: Collection) -> Steps:
    """Return (_id, name or key) of all documents."""
    rows = yield Statement(
        f"SELECT id, key, name FROM {collection.table} WHERE workflow_id = :id ORDER BY id",
        {"id": workflow["id"]},
    )
    prefix = f"{collection.name}__{workflow_key(workflow)}"
    return [(f"{prefix}/{key_of(row)}", row["name"] or key_of(row)) for row in rows]


def _dot(name: str, nodes: list[tuple[str, str]], edges: list[tuple[str, dict[str, Any]]]) -> str:
    lines = [f"strict digraph {name} {{", f"  label={quoted(name)};", '  labelloc="t";']
    lines += [f"  {quoted(node)} [label={quoted(label)}];" for node, label in nodes]
    lines += [
        f"  {quoted(edge['_from'])} -> {quoted(edge['_to'])} [label={quoted(label)}];"
        for label, edge in edges
    ]
    return "\n".join([*lines, "}", ""])
