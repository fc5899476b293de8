"""The verbs of the HTTP API, typed; asynchronous. `lading.toolkit.client.sync` has the other face.

A document of the torc dialect is a dictionary as it travels, `_key`, `_id` and `_rev` included;
the documents of our own dialect are the structures of `lading.toolkit.wire.extensions`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from lading.toolkit.client.calls import BULK_TIMEOUT_SECONDS, Document
from lading.toolkit.client.documents import DocumentVerbs
from lading.toolkit.client.events import Event, EventDecoder
from lading.toolkit.client.life import LifeVerbs
from lading.toolkit.client.session import Call, Patience, QueryValue, path_of
from lading.toolkit.errors import Unavailable
from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS, AttemptDocument, Progress
from lading.toolkit.wire.submissions import AllocationRequest, Planning

__all__ = ["BATCH_SIZE", "AsyncLading", "Document"]

BATCH_SIZE: Final = 10_000
_STREAM_SILENCE_SECONDS: Final = 60.0


class AsyncLading(DocumentVerbs, LifeVerbs):
    """A client of one server. Make it and use it within one event loop."""

    # ---- the service

    async def ping(self) -> Document:
        """Ask whether the server answers."""
        return await self._get("ping")

    async def version(self) -> Document:
        """Return the version of the API."""
        return await self._get("version")

    async def health(self) -> Document:
        """Return how the server and its parts are."""
        return await self._get("health")

    async def shutdown(self) -> Document:
        """Stop the server; running jobs go on until their leases end. Needs an admin token."""
        return await self._post("shutdown")

    # ---- workflows

    async def create_workflow(
        self, specification: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Document:
        """Store a whole specification in one transaction and return the workflow.

        The same `idempotency_key` never makes a second workflow: give one to be able to repeat the
        call after this process has died.
        """
        path = path_of("workflow_specifications")
        return await self._create(path, specification, idempotency_key, BULK_TIMEOUT_SECONDS)

    def list_workflows(
        self, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield workflows; filters are `name`, `user`, `description`, `is_archived`, `sort_by`."""
        return self._pages(path_of("workflows"), Document, limit, filters)

    async def get_workflow(self, workflow: str) -> Document:
        """Return one workflow."""
        return await self._get("workflows", workflow)

    async def delete_workflow(self, workflow: str) -> Document:
        """Delete a workflow with everything in it, and return it as it was."""
        call = Call("DELETE", path_of("workflows", workflow), timeout=BULK_TIMEOUT_SECONDS)
        return await self._session.fetch(call, Document)

    async def workflow_status(self, workflow: str) -> Document:
        """Return the status document: run_id, is_canceled."""
        return await self._get("workflows", workflow, "status")

    async def workflow_config(self, workflow: str) -> Document:
        """Return the config document."""
        return await self._get("workflows", workflow, "config")

    async def change_workflow_config(self, workflow: str, config: Mapping[str, Any]) -> Document:
        """Replace the fields that are given; with a `_rev` only if nobody else changed it since."""
        path = path_of("workflows", workflow, "config")
        call = Call("PUT", path, body=config, repeatable=bool(config.get("_rev")))
        return await self._session.fetch(call, Document)

    async def workflow_specification(self, workflow: str) -> Document:
        """Return the whole workflow as a specification."""
        path = path_of("workflow_specifications", workflow)
        return await self._session.fetch(Call("GET", path, timeout=BULK_TIMEOUT_SECONDS), Document)

    async def progress(
        self, workflow: str, *, after: int | None = None, wait_seconds: float = 0.0
    ) -> Progress:
        """Return how far a workflow is; with `after`, wait until its event sequence exceeds that."""
        wait = min(wait_seconds, MAXIMUM_WAIT_SECONDS)
        path = path_of("workflows", workflow, "progress")
        call = Call("GET", path, {"after": after, "wait": wait}, timeout=wait + 30.0)
        return await self._session.fetch(call, Progress)

    async def planning(self, workflow: str) -> Planning:
        """Return for each scheduler config how many allocations planning wants, and why no more come."""
        return await self._session.fetch(Call("GET", path_of("workflows", workflow, "planning")), Planning)

    async def is_complete(self, workflow: str) -> bool:
        """Say whether every job has ended or is disabled; changes nothing."""
        return (await self.progress(workflow)).is_complete

    async def required_existing_files(self, workflow: str) -> list[str]:
        """Return the keys of the files that some job reads and none writes."""
        answer = await self._get("workflows", workflow, "required_existing_files")
        return [str(name).rpartition("/")[2] for name in answer.get("files", [])]

    async def missing_user_data(self, workflow: str) -> list[str]:
        """Return the keys of the user data that some job reads and that has no content."""
        answer = await self._get("workflows", workflow, "missing_user_data")
        return [str(name).rpartition("/")[2] for name in answer.get("user_data", [])]

    # ---- jobs

    async def add_jobs(self, workflow: str, jobs: Iterable[Mapping[str, Any]]) -> list[Document]:
        """Add jobs in batches; each batch is stored whole or not at all."""
        path = path_of("workflows", workflow, "bulk_jobs")
        rest = iter(jobs)
        stored: list[Document] = []
        while batch := list(islice(rest, BATCH_SIZE)):
            answer = await self._create(path, {"jobs": batch}, None, BULK_TIMEOUT_SECONDS)
            stored += answer["items"]
        return stored

    def list_jobs(
        self, workflow: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield jobs; filters are `name`, `status`, `command`, `sort_by`, `reverse_sort`, `skip`."""
        return self._pages(path_of("workflows", workflow, "jobs"), Document, limit, filters)

    async def get_job(self, workflow: str, job: str) -> Document:
        """Return one job."""
        return await self._get("workflows", workflow, "jobs", job)

    async def cancel_job(self, workflow: str, job: str) -> Document:
        """Cancel a job: a running one is told to end, one that waits will never run."""
        return await self._repeatable_post("workflows", workflow, "jobs", job, "cancel")

    async def retry_job(self, workflow: str, job: str) -> Document:
        """Let an ended job run again."""
        path = path_of("workflows", workflow, "jobs", job, "retry")
        return await self._create(path, None, None)

    async def explain_job(self, workflow: str, job: str) -> list[str]:
        """Return why a job is in its state, in sentences a person can act on."""
        answer = await self._get("workflows", workflow, "jobs", job, "explain")
        return [str(reason) for reason in answer.get("reasons", [])]

    def list_attempts(
        self,
        workflow: str,
        *,
        job_key: str | None = None,
        run_id: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AttemptDocument]:
        """Yield attempts of all jobs, or of one job, or of one run."""
        filters: dict[str, QueryValue] = {"job_key": job_key, "run_id": run_id}
        return self._pages(path_of("workflows", workflow, "attempts"), AttemptDocument, limit, filters)

    def list_results(
        self, workflow: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield results; filters are `job_key`, `run_id`, `return_code`, `status`."""
        return self._pages(path_of("workflows", workflow, "results"), Document, limit, filters)

    def list_files(
        self, workflow: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield files; filters are `name` and `path`."""
        return self._pages(path_of("workflows", workflow, "files"), Document, limit, filters)

    # ---- nodes and allocations

    def list_compute_nodes(
        self, workflow: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield compute nodes; filters are `hostname` and `is_active`."""
        return self._pages(path_of("workflows", workflow, "compute_nodes"), Document, limit, filters)

    async def drain_compute_node(self, workflow: str, node: str) -> Document:
        """Let a node end what it runs and leave."""
        return await self._repeatable_post("workflows", workflow, "compute_nodes", node, "drain")

    async def declare_compute_node_lost(self, workflow: str, node: str) -> Document:
        """End a node's lease by hand: its jobs may run again elsewhere. Only when nothing of it is alive."""
        return await self._repeatable_post("workflows", workflow, "compute_nodes", node, "declare_lost")

    def list_allocations(
        self, workflow: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield allocations; filters are `status`, `scheduler_id`, `scheduler_config_id`."""
        return self._pages(
            path_of("workflows", workflow, "scheduled_compute_nodes"), Document, limit, filters
        )

    async def get_allocation(self, workflow: str, allocation: str) -> Document:
        """Return one allocation."""
        return await self._get("workflows", workflow, "scheduled_compute_nodes", allocation)

    async def request_allocations(
        self, workflow: str, request: AllocationRequest, *, idempotency_key: str | None = None
    ) -> Document:
        """Ask for allocations now; returns the launch's `tag` and the keys of its `allocations`."""
        return await self._create(path_of("workflows", workflow, "allocations"), request, idempotency_key)

    async def ready_job_requirements(self, workflow: str, scheduler_config_id: str | None = None) -> Document:
        """Return what all ready jobs ask for together; with a config, only those that it may run."""
        path = path_of("workflows", workflow, "ready_job_requirements")
        query = {"scheduler_config_id": scheduler_config_id}
        return await self._session.fetch(Call("GET", path, query=query), Document)

    async def cancel_allocation(self, workflow: str, allocation: str) -> Document:
        """End an allocation: its jobs are stopped and reported."""
        path = ("workflows", workflow, "scheduled_compute_nodes", allocation, "cancel")
        return await self._repeatable_post(*path)

    async def drain_allocation(self, workflow: str, allocation: str) -> Document:
        """Let an allocation's nodes finish their jobs, claim no more and leave."""
        path = ("workflows", workflow, "scheduled_compute_nodes", allocation, "drain")
        return await self._repeatable_post(*path)

    # ---- events

    def list_events(
        self, workflow: str, /, *, limit: int | None = None, **filters: QueryValue
    ) -> AsyncIterator[Document]:
        """Yield stored events in their order; filters are `category` and `skip`."""
        return self._pages(path_of("workflows", workflow, "events"), Document, limit, filters)

    async def follow_events(self, workflow: str, *, after: int | None = None) -> AsyncIterator[Event]:
        """Yield events as they happen, without end and without a gap, through restarts of the server."""
        last, failures, pauses, draw = after, 0, Patience(tries=8), random.Random()
        path = path_of("workflows", workflow, "events", "stream")
        while True:
            headers = {"Accept": "text/event-stream"}
            if last is not None:
                headers["Last-Event-ID"] = str(last)
            decoder = EventDecoder()
            try:
                async with self._session.stream(
                    Call("GET", path, timeout=_STREAM_SILENCE_SECONDS), headers
                ) as lines:
                    async for line in lines:
                        failures = 0
                        event = decoder.feed(line.decode("utf-8").rstrip("\r\n"))
                        if event is not None and (last is None or event.sequence > last):
                            last = event.sequence
                            yield event
            except Unavailable:
                if failures >= pauses.tries:
                    raise
            # Also after a stream that ended in order: a server that closes at once must not be hammered.
            failures += 1
            await asyncio.sleep(pauses.pause(failures, draw.random()))

    # ---- tokens

    def list_tokens(self) -> AsyncIterator[Document]:
        """Yield the tokens that exist, without their secrets."""
        return self._pages(path_of("tokens"), Document, None, {})

    async def create_token(
        self,
        scopes: Sequence[str],
        *,
        user: str | None = None,
        workflow: str | None = None,
        expires_seconds: float | None = None,
        label: str | None = None,
    ) -> Document:
        """Make a token; the answer is the only place where its secret is ever shown."""
        fields = {"user": user, "workflow": workflow, "expires_seconds": expires_seconds, "label": label}
        body = {
            "scopes": list(scopes),
            **{name: value for name, value in fields.items() if value is not None},
        }
        # Not repeated: an answer that is kept for repeating would keep the secret too.
        return await self._post("tokens", body=body)

    async def revoke_token(self, token_id: str) -> Document:
        """End a token, within a second."""
        return await self._session.fetch(Call("DELETE", path_of("tokens", token_id)), Document)
