"""Verbs on a workflow's life: make, start, restart, reset, tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lading.toolkit.client.calls import BULK_TIMEOUT_SECONDS, Calls, Document
from lading.toolkit.client.session import Call, path_of
from lading.toolkit.wire.extensions import RestartRequest, RestartResponse, StartRequest


class LifeVerbs(Calls):
    """A part of the client."""

    async def create_empty_workflow(self, document: Mapping[str, Any]) -> Document:
        """Store a workflow without jobs; members are `name`, `user`, `description`, `_key`."""
        return await self._create(path_of("workflows"), document, None)

    async def modify_workflow(self, workflow: str, changes: Mapping[str, Any]) -> Document:
        """Replace the members that are given. Refused if somebody else was faster."""
        path = path_of("workflows", workflow)
        stored = await self._session.fetch(Call("GET", path), Document)
        return await self._replace(path, {**changes, "_key": stored["_key"], "_rev": stored["_rev"]})

    async def start_workflow(self, workflow: str, request: StartRequest | None = None) -> int:
        """Start a workflow from its beginning, and return the number of the run."""
        path = path_of("workflows", workflow, "start")
        answer = await self._create(path, request or StartRequest(), None, BULK_TIMEOUT_SECONDS)
        return int(answer["run_id"])

    async def restart_workflow(self, workflow: str, request: RestartRequest | None = None) -> RestartResponse:
        """Run again what is out of date or never ended; a dry run only says what that is, and why."""
        call = Call(
            "POST",
            path_of("workflows", workflow, "restart"),
            body=request or RestartRequest(),
            timeout=BULK_TIMEOUT_SECONDS,
            repeatable=request is not None and request.dry_run,
        )
        return await self._session.fetch(call, RestartResponse)

    async def cancel_workflow(self, workflow: str) -> Document:
        """Cancel the running jobs and claim no more."""
        call = Call("PUT", path_of("workflows", workflow, "cancel"), repeatable=True)
        return await self._session.fetch(call, Document)

    async def reset_workflow_status(self, workflow: str) -> Document:
        """Forget that the workflow was canceled."""
        return await self._repeatable_post("workflows", workflow, "reset_status")

    async def reset_job_status(self, workflow: str, *, failed_only: bool = False) -> Document:
        """Make all jobs uninitialized, or those that failed in this run and what is behind them."""
        path = path_of("workflows", workflow, "reset_job_status")
        call = Call("POST", path, {"failed_only": failed_only}, repeatable=True, timeout=BULK_TIMEOUT_SECONDS)
        return await self._session.fetch(call, Document)

    async def initialize_jobs(self, workflow: str) -> Document:
        """Evaluate dependencies: jobs become ready or blocked."""
        path = path_of("workflows", workflow, "initialize_jobs")
        call = Call("POST", path, repeatable=True, timeout=BULK_TIMEOUT_SECONDS)
        return await self._session.fetch(call, Document)

    async def finish_auto_tune(self, workflow: str) -> Document:
        """Write what the measured jobs took into their requirements, and enable the others."""
        path = ("workflows", workflow, "process_auto_tune_resource_requirements_results")
        return await self._post(*path)

    async def specification_example(self) -> Document:
        """Return a specification of two jobs, as an example."""
        return await self._get("workflow_specifications", "example")

    async def specification_template(self) -> Document:
        """Return an empty specification with every field of the config."""
        return await self._get("workflow_specifications", "template")
