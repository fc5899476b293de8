"""Follow a workflow to its end: a bar on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from lading.toolkit.cli.output import clean, console_of, note
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.domain.states import ACTIVE, WORKFLOW_COMPLETE, JobStatus
from lading.toolkit.wire.extensions import Progress

LINE_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 20.0
_LONGEST_PAUSE_SECONDS: Final = 0.2
# Reasons are for a workflow that stands still; one that has just begun has no node yet.
_STILL_SECONDS: Final = 3.0


class Display(Protocol):
    """Shows how far a workflow is."""

    def show(self, progress: Progress) -> None:
        """Show the newest state."""
        ...

    def say(self, message: str) -> None:
        """Print a line that stays."""
        ...

    def close(self) -> None:
        """Leave the terminal as it should be."""
        ...


class BarDisplay:
    """A live bar."""

    def __init__(self, name: str) -> None:
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=console_of(sys.stderr),
            # Jobs write into files; redirecting our own streams would only delay messages.
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=8,
        )
        self._task: TaskID = self._bar.add_task(clean(name), total=None, text="")
        self._bar.start()

    def show(self, progress: Progress) -> None:
        """Move the bar."""
        total = sum(progress.counts.values())
        self._bar.update(self._task, total=total, completed=_finished(progress), text=summary(progress))

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(Text(clean(message)))

    def close(self) -> None:
        """Stop the bar where it is."""
        self._bar.stop()


class LineDisplay:
    """A line at most every ten seconds, for logs."""

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._now = now
        self._next = now() + LINE_SECONDS
        self._shown = ""
        self._last: Progress | None = None

    def show(self, progress: Progress) -> None:
        """Print a line when the last one is long enough ago and something has changed."""
        self._last = progress
        if self._now() >= self._next:
            self._print(progress)

    def say(self, message: str) -> None:
        """Print a line."""
        note(message)

    def close(self) -> None:
        """Print the last state, if it was not."""
        if self._last is not None:
            self._print(self._last)

    def _print(self, progress: Progress) -> None:
        text = f"{self._name}: {_finished(progress)}/{sum(progress.counts.values())} {summary(progress)}"
        if text != self._shown:
            note(text)
            self._shown = text
            self._next = self._now() + LINE_SECONDS


def display_for(name: str) -> Display:
    """Return the display that suits standard error."""
    return BarDisplay(name) if sys.stderr.isatty() else LineDisplay(name)


def summary(progress: Progress) -> str:
    """Return `12 done, 3 running, 4 waiting, 1 failed`, without what is zero."""
    counts = progress.counts
    done = max(0, counts.get(JobStatus.DONE, 0) - progress.num_failed)
    running = sum(counts.get(status, 0) for status in ACTIVE)
    waiting = sum(counts.values()) - _finished(progress) - running
    parts = [
        (done, "done"),
        (running, "running"),
        (waiting, "waiting"),
        (progress.num_failed, "failed"),
        (counts.get(JobStatus.CANCELED, 0), "canceled"),
    ]
    return ", ".join(f"{number} {word}" for number, word in parts if number) or "nothing to do"


async def follow(
    client: AsyncLading, workflow: str, display: Display, *, fail_fast: bool = False
) -> Progress:
    """Return when all jobs have ended, the workflow is canceled, or (`fail_fast`) a job has failed."""
    progress = await client.progress(workflow)
    began = still_since = time.monotonic()
    told: list[str] = []
    while True:
        display.show(progress)
        if progress.is_complete or progress.is_canceled or (fail_fast and progress.num_failed):
            return progress
        now = time.monotonic()
        is_still = not any(progress.counts.get(status, 0) for status in ACTIVE)
        if not is_still:
            still_since = now
        elif progress.reasons != told and now - still_since >= _STILL_SECONDS:
            told = progress.reasons
            for reason in told:
                display.say(f"Waiting: {reason}")
        # A thousand events a second need no thousand answers; a short workflow shall end at once.
        await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, (now - began) / 50))
        patience = _STILL_SECONDS if is_still and progress.reasons != told else _WAIT_SECONDS
        progress = await client.progress(workflow, after=progress.sequence, wait_seconds=patience)


def _finished(progress: Progress) -> int:
    return sum(progress.counts.get(status, 0) for status in WORKFLOW_COMPLETE)
