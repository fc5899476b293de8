"""One `lading run` from the first process to the last: server, workflow, submitter, progress, end."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from lading.toolkit.cli.output import note
from lading.toolkit.cli.report import RunReport, gather_report
from lading.toolkit.cli.run_folder import RunFolder
from lading.toolkit.cli.supervision import Interruptions, Supervised
from lading.toolkit.cli.watch import display_for, follow
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.server_process import Child
from lading.toolkit.client.session import Patience
from lading.toolkit.client.starting import start_here
from lading.toolkit.client.target import Target
from lading.toolkit.clock import SystemClock
from lading.toolkit.domain.states import AllocationState
from lading.toolkit.errors import LadingError, NotFound

T = TypeVar("T")

LEAVE_SECONDS: Final = 60.0
"""How long runners may take to stop their jobs, report and leave before they are killed."""
_STEP_SECONDS: Final = 1.0
# Rows are closed by the submitter; a finished run does not wait long for that alone.
_CLOSE_SECONDS: Final = 5.0
# The server may be started again meanwhile.
_PATIENCE: Final = Patience(tries=40, first_ceiling=0.1, last_ceiling=2.0)


class Interrupted(Exception):
    """A person wants the run to stop."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is to be run, checked and complete."""

    document: Mapping[str, Any]
    folder: RunFolder
    directory: Path
    database: str
    fail_fast: bool = False
    stop_at: float | None = None
    """When the allocation that we run in is about to end, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    report: RunReport | None
    interrupted: bool


async def run_plan(plan: RunPlan) -> RunEnd:
    """Run a plan to its end; everything that was started has ended when this returns."""
    return await _Run(plan).run()


class _Run:
    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._folder = plan.folder
        self._interruptions = Interruptions()
        self._server_child = Child("lading.api", self._server_arguments(0), self._folder.log("server"))
        self._server = Supervised(self._server_child, "server", ready=True)
        arguments = ["--server-file", str(self._folder.server_file)]
        arguments += ["--state-directory", str(self._folder.submitter_state)]
        submitter = Child("lading.toolkit.submitter", arguments, self._folder.log("submitter"))
        self._submitter = Supervised(submitter, "submitter", ready=False)
        self._key: str | None = None

    async def run(self) -> RunEnd:
        if self._plan.stop_at is not None:
            left = max(0.0, self._plan.stop_at - SystemClock().wall())
            asyncio.get_running_loop().call_later(left, self._stop_in_time)
        try:
            await self._unless_interrupted(self._server.start())
            target = Target.from_server_file(self._folder.server_file)
            # Whoever has the address, a browser for one, finds the server again after a restart.
            self._server_child.arguments = self._server_arguments(urlsplit(target.url).port or 0)
            async with AsyncLading(target, patience=_PATIENCE) as client:
                return await self._with_server(client)
        except Interrupted:
            return RunEnd(None, interrupted=True)
        finally:
            # The submitter first: it says good-bye to the server.
            await self._submitter.stop(signal_number=signal.SIGTERM)
            await self._server.stop()

    def _stop_in_time(self) -> None:
        if not self._interruptions.first.is_set():
            note("The allocation is about to end.")
            self._interruptions.first.set()

    async def _with_server(self, client: AsyncLading) -> RunEnd:
        interrupted = False
        try:
            await self._unless_interrupted(self._start(client))
            await self._unless_interrupted(self._follow(client))
        except Interrupted:
            interrupted = True
            if self._key is None:
                return RunEnd(None, interrupted=True)
        except LadingError:
            # Nobody is left to tell the runners; they must not go on behind the person's back.
            await asyncio.to_thread(self._folder.kill_runners)
            raise
        if interrupted:
            note(
                "Stopping: no job is started any more, running ones are told to end. Ctrl-C again kills them."
            )
        left = await self._leave(client, cancel=interrupted)
        if interrupted:
            # What is left must not go on beside the next run in this folder.
            await self._cancel_quietly(client, self._workflow())
        if not left and self._interruptions.second.is_set():
            return RunEnd(None, interrupted=True)
        report = await gather_report(client, self._workflow(), output=self._folder.output)
        return RunEnd(report, interrupted)

    async def _start(self, client: AsyncLading) -> None:
        await self._end_earlier_run(client)
        workflow = await client.create_workflow(
            self._plan.document, idempotency_key=secrets.token_urlsafe(24)
        )
        self._key = str(workflow["_key"])
        self._folder.remember(self._plan.database, self._key)
        await start_here(client, self._key, self._plan.directory)
        await self._submitter.start()

    async def _end_earlier_run(self, client: AsyncLading) -> None:
        """Cancel what a `lading run` that was killed left unfinished in this folder.

        Its server ended with it; this one would take up its jobs beside those of the new run.
        """
        earlier = self._folder.recall()
        if earlier is None or earlier.database != self._plan.database or not earlier.workflow:
            return
        try:
            progress = await client.progress(earlier.workflow)
        except NotFound:
            return
        if not progress.is_complete and not progress.is_canceled:
            note(f"Workflow {earlier.workflow}, left unfinished in this folder, is canceled.")
            await client.cancel_workflow(earlier.workflow)

    async def _cancel_quietly(self, client: AsyncLading, workflow: str) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await client.cancel_workflow(workflow)
        except (LadingError, TimeoutError) as error:
            note(f"Workflow {workflow} could not be marked as canceled: {error}")

    async def _follow(self, client: AsyncLading) -> None:
        display = display_for(str(self._plan.document.get("name") or "workflow"))
        try:
            progress = await follow(client, self._workflow(), display, fail_fast=self._plan.fail_fast)
        finally:
            display.close()
        if not progress.is_complete and not progress.is_canceled:
            note("A job has failed; the others are canceled (--fail-fast).")
            await client.cancel_workflow(self._workflow())

    async def _leave(self, client: AsyncLading, *, cancel: bool) -> bool:
        """Wait until all runners have left, and kill those that stay; return whether they left."""
        leaving = asyncio.ensure_future(self._until_left(client, cancel=cancel))
        impatience = asyncio.ensure_future(self._impatience(cancel=cancel))
        try:
            await asyncio.wait(
                {leaving, impatience}, timeout=LEAVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if leaving.done() and leaving.exception() is None:
                return True
        finally:
            for task in (leaving, impatience):
                task.cancel()
            await asyncio.gather(leaving, impatience, return_exceptions=True)
        note("The runners are killed, with their jobs.")
        # First the submitter: it must not replace what is killed.
        await self._submitter.stop(signal_number=signal.SIGTERM)
        await asyncio.to_thread(self._folder.kill_runners)
        return False

    async def _impatience(self, *, cancel: bool) -> None:
        # A run that has ended by itself leaves at the first Ctrl-C.
        await (self._interruptions.second if cancel else self._interruptions.first).wait()

    async def _until_left(self, client: AsyncLading, *, cancel: bool) -> None:
        told: set[str] = set()
        loop = asyncio.get_running_loop()
        nodes_left_at: float | None = None
        while True:
            if cancel:
                await self._cancel_allocations(client, told)
            progress = await client.progress(self._workflow())
            if progress.active_nodes == 0:
                nodes_left_at = nodes_left_at or loop.time()
                if progress.open_allocations == 0 or loop.time() - nodes_left_at > _CLOSE_SECONDS:
                    return
            else:
                nodes_left_at = None
            await client.progress(self._workflow(), after=progress.sequence, wait_seconds=_STEP_SECONDS)

    async def _cancel_allocations(self, client: AsyncLading, told: set[str]) -> None:
        """Cancel every open allocation once, those that appear meanwhile too."""
        async for allocation in client.list_allocations(self._workflow()):
            key = str(allocation["_key"])
            if allocation.get("status") != AllocationState.COMPLETE and key not in told:
                told.add(key)
                await client.cancel_allocation(self._workflow(), key)

    async def _unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something, unless a person interrupts or a child has ended for good."""
        task = asyncio.ensure_future(work)
        watchers: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._interruptions.first.wait())]
        watchers += [asyncio.ensure_future(child.given_up()) for child in (self._server, self._submitter)]
        try:
            await asyncio.wait({task, *watchers}, return_when=asyncio.FIRST_COMPLETED)
            for watcher in watchers[1:]:
                if watcher.done():
                    watcher.result()
            if task.done():
                return task.result()
            raise Interrupted
        finally:
            for item in (task, *watchers):
                item.cancel()
            await asyncio.gather(task, *watchers, return_exceptions=True)

    def _workflow(self) -> str:
        assert self._key is not None  # noqa: S101 - used after it was stored only
        return self._key

    def _server_arguments(self, port: int) -> list[str]:
        arguments = ["--database", self._plan.database, "--server-file", str(self._folder.server_file)]
        return [*arguments, "--port", str(port)]
