"""The console: one screen, read through the client's long poll, so that it is live and quiet at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar, Final, TypeVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.notifications import SeverityLevel
from textual.widgets import DataTable, Footer, Header, Static, TabbedContent, TabPane

from lading.toolkit.cli.events import COLUMNS as EVENT_COLUMNS
from lading.toolkit.cli.job_logs import newest, paths_of
from lading.toolkit.cli.nodes import COLUMNS as NODE_COLUMNS
from lading.toolkit.cli.output import Row, clean
from lading.toolkit.cli.watch import summary
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.starting import directory_of, restart_here, start_here
from lading.toolkit.client.target import Target
from lading.toolkit.console.dialogs import Logs, Question, tail_of
from lading.toolkit.console.tables import (
    JOB_COLUMNS,
    STATUS_COLORS,
    WORKFLOW_COLUMNS,
    Rows,
)
from lading.toolkit.domain.states import JobStatus
from lading.toolkit.errors import LadingError, Unavailable
from lading.toolkit.wire.extensions import Progress, RestartRequest

T = TypeVar("T")

_MOST_ROWS: Final = 500
_MOST_EVENTS: Final = 200
_WAIT_SECONDS: Final = 20.0
_WORKFLOWS_SECONDS: Final = 5.0
# A server with thousands of events a second must not be asked for the tables after each.
_PAUSE_SECONDS: Final = 0.5
_BAR_CELLS: Final = 40
_STATUSES: Final = (None, *(status.value for status in JobStatus))


class Console(App[None]):
    """Workflows on the left, what is in the chosen one on the right."""

    TITLE = "Lading"
    CSS = """
    #list { width: 44; border: round $primary; }
    #state { height: auto; min-height: 3; padding: 0 1; border: round $primary; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    Rows { height: 1fr; }
    Question { align: center middle; }
    .dialog { width: 70; height: auto; padding: 1 2; border: round $warning; background: $surface; }
    .question { margin-bottom: 1; }
    .logs { border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("s", "start", "Start"),
        ("r", "restart", "Restart"),
        ("x", "cancel", "Cancel workflow"),
        ("c", "cancel_job", "Cancel job"),
        ("t", "retry_job", "Retry job"),
        ("l", "logs", "Logs"),
        ("f", "status", "Filter jobs"),
        ("q", "quit", "Quit"),
    ]

    def __init__(self, target: Target, *, workflow: str | None = None) -> None:
        super().__init__()
        self._client = AsyncLading(target)
        self._wanted = workflow
        self._workflow: str | None = None
        self._status: str | None = None
        self.sub_title = target.url

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Header()
        with Horizontal():
            yield Rows(WORKFLOW_COLUMNS, id="list")
            with Vertical():
                yield Static("No workflow.", id="state")
                with TabbedContent():
                    with TabPane("Jobs", id="jobs-pane"):
                        yield Rows(JOB_COLUMNS, id="jobs")
                    with TabPane("Nodes", id="nodes-pane"):
                        yield Rows(NODE_COLUMNS, id="nodes")
                    with TabPane("Events", id="events-pane"):
                        yield Rows(EVENT_COLUMNS, id="events")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to read."""
        self.query_one("#list").border_title = "Workflows"
        self._watch_workflows()

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self._client.close()

    # ---- reading

    @work(exclusive=True, group="workflows")
    async def _watch_workflows(self) -> None:
        while True:
            await self._reading(self._read_workflows)
            await asyncio.sleep(_WORKFLOWS_SECONDS)

    async def _read_workflows(self) -> None:
        found = await _all(self._client.list_workflows(is_archived=False, limit=_MOST_ROWS))
        table = self.query_one("#list", Rows)
        table.show(found)
        keys = [str(item["_key"]) for item in found]
        if not found:
            self._forget()
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            if wanted in keys:
                table.move_cursor(row=keys.index(wanted))
            else:
                self._say(f"There is no workflow {wanted!r} on this server.", severity="error")

    def _forget(self) -> None:
        """Show nothing: the last workflow was deleted."""
        self.workers.cancel_group(self, "workflow")
        self._workflow = None
        self.query_one("#state", Static).update("No workflow.")
        for name in ("jobs", "nodes", "events"):
            self.query_one(f"#{name}", Rows).show([])

    @on(DataTable.RowHighlighted, "#list")
    def _choose(self) -> None:
        chosen = self.query_one("#list", Rows).chosen
        key = str(chosen["_key"]) if chosen else None
        if key is not None and key != self._workflow:
            self._workflow = key
            self._watch(key)

    @work(exclusive=True, group="workflow")
    async def _watch(self, workflow: str) -> None:
        """Read one workflow whenever something happened in it; the next choice ends this."""
        after: int | None = None

        async def read() -> None:
            nonlocal after
            # The sequence is read before the tables: a change in between ends the next wait at once.
            progress = await self._client.progress(workflow, after=after, wait_seconds=_WAIT_SECONDS)
            await self._read_tables(workflow, progress)
            after = progress.sequence

        while True:
            await self._reading(read)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read_tables(self, workflow: str, progress: Progress) -> None:
        jobs = await _all(self._client.list_jobs(workflow, limit=_MOST_ROWS, status=self._status))
        nodes = await _all(self._client.list_compute_nodes(workflow, limit=_MOST_ROWS))
        events = await _all(
            self._client.list_events(workflow, limit=_MOST_EVENTS, sort_by="timestamp", reverse_sort=True)
        )
        self.query_one("#state", Static).update(_state(progress, self._status, len(jobs)))
        for name, rows in {"jobs": jobs, "nodes": nodes, "events": events}.items():
            self.query_one(f"#{name}", Rows).show(rows)

    async def _reading(self, read: Callable[[], Awaitable[None]]) -> None:
        """Read once; say what went wrong, for the next time may go well."""
        try:
            await read()
        except LadingError as error:
            self._say(str(error), severity="warning" if isinstance(error, Unavailable) else "error")
            await asyncio.sleep(_WORKFLOWS_SECONDS)

    # ---- keys

    def action_status(self) -> None:
        """Show the jobs of the next status, after the last one all."""
        self._status = _STATUSES[(_STATUSES.index(self._status) + 1) % len(_STATUSES)]
        if self._workflow is not None:
            self._watch(self._workflow)

    def action_start(self) -> None:
        """Start the workflow from its beginning."""

        async def start(workflow: str) -> str:
            directory = await directory_of(self._client, workflow)
            run_id = await start_here(self._client, workflow, directory)
            return f"Workflow {workflow} is started (run {run_id})."

        if (workflow := self._workflow) is not None:
            self._ask(f"Start workflow {workflow} from its beginning, as a new run?", lambda: start(workflow))

    @work(group="actions")
    async def action_restart(self) -> None:
        """Say what would run again, then ask."""
        if (workflow := self._workflow) is None:
            return

        async def restart(*, dry_run: bool) -> int:
            directory = await directory_of(self._client, workflow)
            request = RestartRequest(dry_run=dry_run)
            return len((await restart_here(self._client, workflow, directory, request)).jobs)

        async def act() -> str:
            return f"Workflow {workflow} is restarted; jobs that run again: {await restart(dry_run=False)}."

        try:
            number = await restart(dry_run=True)
        except LadingError as error:
            self._say(str(error), severity="error")
            return
        self._ask(f"Restart workflow {workflow}? Jobs that will run again: {number}.", act)

    def action_cancel(self) -> None:
        """Cancel the workflow."""

        async def cancel(workflow: str) -> str:
            await self._client.cancel_workflow(workflow)
            return f"Workflow {workflow} is canceled."

        if (workflow := self._workflow) is not None:
            self._ask(f"Cancel workflow {workflow} and all its running jobs?", lambda: cancel(workflow))

    def action_cancel_job(self) -> None:
        """Cancel the job under the cursor."""
        self._ask_about_job("Cancel job {}?", self._client.cancel_job, "Job {} is canceled.")

    def action_retry_job(self) -> None:
        """Let the job under the cursor run again."""
        self._ask_about_job("Let job {} run again?", self._client.retry_job, "Job {} will run again.")

    def _ask_about_job(
        self, question: str, call: Callable[[str, str], Awaitable[object]], outcome: str
    ) -> None:
        workflow, job = self._workflow, self.query_one("#jobs", Rows).chosen
        if workflow is None or job is None:
            return
        # The title is put in last: a name may hold braces itself.
        title, key = _title(job), str(job["_key"])

        async def act() -> str:
            await call(workflow, key)
            return outcome.format(title)

        self._ask(question.format(title), act)

    @work(group="actions")
    async def action_logs(self) -> None:
        """Show what the job under the cursor wrote in its last attempt."""
        workflow, job = self._workflow, self.query_one("#jobs", Rows).chosen
        if workflow is None or job is None:
            return
        try:
            found = await _all(self._client.list_attempts(workflow, job_key=str(job["_key"])))
        except LadingError as error:
            self._say(str(error), severity="error")
            return
        last = newest(found)
        paths = [] if last is None else list(paths_of(last))
        if not paths:
            self._say(f"Job {_title(job)} has written nothing yet.")
            return
        texts = [f"==> {path} <==\n{await asyncio.to_thread(tail_of, path)}" for path in paths]
        self.push_screen(Logs(f"Job {_title(job)}", "\n".join(texts)))

    @work(group="actions")
    async def _ask(self, question: str, act: Callable[[], Awaitable[str]]) -> None:
        """Ask, and act on a yes."""
        if not await self.push_screen_wait(Question(question)):
            return
        try:
            self._say(await act())
        except LadingError as error:
            self._say(str(error), severity="error")

    def _say(self, text: str, *, severity: SeverityLevel = "information") -> None:
        self.notify(clean(text), severity=severity, markup=False)


async def _all(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


def _title(job: Row) -> str:
    return f"{job['_key']} ({job.get('name') or 'unnamed'})"


def _state(progress: Progress, status: str | None, shown: int) -> Text:
    """Return how far a workflow is: a bar, numbers, and why it stands still if it does."""
    total = sum(progress.counts.values())
    text = Text()
    filled = 0
    for name, color in STATUS_COLORS.items():
        cells = _BAR_CELLS * progress.counts.get(name, 0) // max(total, 1)
        text.append("━" * cells, style=color)
        filled += cells
    text.append("━" * (_BAR_CELLS - filled), style="dim")
    text.append(f"  {summary(progress)}  run {progress.run_id}, {progress.active_nodes} nodes")
    if progress.is_canceled:
        text.append("  canceled", style="yellow")
    of = progress.counts.get(status, 0) if status else total
    if status or shown < of:
        text.append(f"\nShown: {shown} of {of} jobs" + (f" that are {status}" if status else ""), style="dim")
    for reason in progress.reasons[:3]:
        text.append(f"\n{clean(reason)}", style="yellow")
    return text
