"""Verbs on the stored documents: the same few for every collection, edges, joins, pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from lading.toolkit.client.calls import Calls, Document
from lading.toolkit.client.session import Call, QueryValue, path_of


class DocumentVerbs(Calls):
    """A part of the client. A collection is named by its base name: `files`, `user_data`, `jobs`."""

    def list_documents(
        self, workflow: str, collection: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield the documents of a collection; filters are exact, `sort_by` and `skip` are known."""
        return self._pages(path_of("workflows", workflow, collection), Document, limit, filters)

    async def get_document(self, workflow: str, collection: str, key: str) -> Document:
        """Return one document."""
        return await self._get("workflows", workflow, collection, key)

    async def add_document(self, workflow: str, collection: str, document: Mapping[str, Any]) -> Document:
        """Store a document, and return it with its key."""
        return await self._create(path_of("workflows", workflow, collection), document, None)

    async def modify_document(
        self, workflow: str, collection: str, key: str, changes: Mapping[str, Any]
    ) -> Document:
        """Replace the members that are given; `None` clears one. Refused if somebody else was faster."""
        stored = await self.get_document(workflow, collection, key)
        body = {**changes, "_key": stored["_key"], "_rev": stored["_rev"]}
        # Members that the collection requires are sent again as they are.
        body = {name: stored[name] for name in _REQUIRED.get(collection, ()) if name in stored} | body
        return await self._replace(path_of("workflows", workflow, collection, key), body)

    async def delete_document(self, workflow: str, collection: str, key: str) -> Document:
        """Delete a document with its edges, and return it as it was."""
        return await self._delete("workflows", workflow, collection, key)

    async def delete_documents(self, workflow: str, collection: str) -> Document:
        """Delete all documents of a collection."""
        return await self._delete("workflows", workflow, collection)

    # ---- edges

    def list_edges(self, workflow: str, name: str, /, *, limit: int | None = None) -> AsyncIterator[Document]:
        """Yield the edges of a name, such as `blocks` or `consumes`."""
        return self._pages(path_of("workflows", workflow, "edges", name), Document, limit, {})

    async def add_edge(self, workflow: str, name: str, from_id: str, to_id: str) -> Document:
        """Make an edge between two documents, named by their `_id`s."""
        path = path_of("workflows", workflow, "edges", name)
        return await self._create(path, {"_from": from_id, "_to": to_id}, None)

    async def collection_names(self, workflow: str) -> list[str]:
        """Return the full names of all collections of a workflow."""
        return [str(name) for name in (await self._get("workflows", workflow, "collection_names"))["names"]]

    def join(
        self,
        workflow: str,
        collection: str,
        edge: str,
        /,
        *,
        direction: Literal["outbound", "inbound"] = "outbound",
        skip: int = 0,
        limit: int | None = None,
        **filters: Any,
    ) -> AsyncIterator[Document]:
        """Yield one row (`from`, `to`, `edge`) for each edge of the documents that equal the filters."""
        path = path_of("workflows", workflow, f"join_by_{direction}_edge", collection, edge)
        return self._pages(path, Document, limit, {"skip": skip}, method="POST", body=filters)

    async def dot_graph(self, workflow: str, name: str) -> str:
        """Return a graph in the DOT language: `job_job_dependencies` or another of the three."""
        return str((await self._get("workflows", workflow, "dot_graph", name))["graph"])

    # ---- what belongs to a job

    async def assign_resource_requirements(self, workflow: str, job: str, requirements: str) -> Document:
        """Connect a job to requirements; counts from the next start on."""
        path = path_of("workflows", workflow, "jobs", job, "resource_requirements", requirements)
        return await self._session.fetch(Call("PUT", path, repeatable=True), Document)

    def list_job_user_data(
        self, workflow: str, job: str, /, *, relation: Literal["stores", "consumes"]
    ) -> AsyncIterator[Document]:
        """Yield the user data that a job stores or consumes."""
        path = path_of("workflows", workflow, "jobs", job, f"user_data_{relation}")
        return self._pages(path, Document, None, {})


_REQUIRED = {
    "files": ("path",),
    "jobs": ("command",),
    # What is left out gets its default, also in a change: `qos` would become `normal`.
    "slurm_schedulers": ("account", "nodes", "qos"),
}
