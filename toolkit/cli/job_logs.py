"""Print the files that a job wrote, also while it writes them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lading.toolkit.cli.output import note
from lading.toolkit.cli.printed_file import POLL_SECONDS, PrintedFile
from lading.toolkit.client.sync import Lading
from lading.toolkit.domain.states import AttemptState
from lading.toolkit.errors import NotFound
from lading.toolkit.wire.extensions import AttemptDocument

_ASK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class LogRequest:
    workflow: str
    job: str
    attempt: int | None
    only_stderr: bool | None
    """None: both streams."""
    tail: int | None
    follow: bool


def print_logs(client: Lading, request: LogRequest) -> None:
    """Print the streams of one attempt of a job."""
    attempt = _wait_for_attempt(client, request) if request.follow else _find_attempt(client, request)
    if attempt is None:
        raise NotFound(
            f"Job {request.job} has not started yet; wait with --follow, or ask why: lading explain {request.job}"
        )
    streams = [PrintedFile(path) for path in paths_of(attempt, request.only_stderr)]
    if not streams:
        raise NotFound(f"Attempt {attempt.number} of job {attempt.job_name} has no log files (stdout: none).")
    for stream in streams:
        if len(streams) > 1:
            note(f"==> {stream.path} <==")
        stream.open(must_exist=not request.follow)
        if request.tail is not None:
            stream.print_tail(request.tail)
        stream.print_new()
    if request.follow:
        _follow(client, request, attempt, streams)
    for stream in streams:
        stream.close()


def _follow(
    client: Lading, request: LogRequest, attempt: AttemptDocument, streams: list[PrintedFile]
) -> None:
    asked = 0.0
    while True:
        # Asked before the last look: what was written until the end is printed too.
        has_ended = False
        if time.monotonic() - asked >= _ASK_SECONDS:
            current = _find_attempt(client, request, number=attempt.number)
            has_ended = current is None or current.state == AttemptState.ENDED
            asked = time.monotonic()
        for stream in streams:
            stream.open(must_exist=False)
        news = [stream.print_new() for stream in streams]
        if has_ended:
            return
        if not any(news):
            time.sleep(POLL_SECONDS)


def _wait_for_attempt(client: Lading, request: LogRequest) -> AttemptDocument | None:
    """Wait until there is an attempt whose files are known."""
    told = False
    after: int | None = None
    while True:
        progress = client.progress(request.workflow, after=after, wait_seconds=10.0)
        after = progress.sequence
        attempt = _find_attempt(client, request)
        if attempt is not None and (attempt.stdout_path or attempt.stderr_path):
            return attempt
        if progress.is_complete or progress.is_canceled:
            return attempt
        if not told:
            note(f"Job {request.job} has not started yet; waiting.")
            told = True


def _find_attempt(
    client: Lading, request: LogRequest, *, number: int | None = None
) -> AttemptDocument | None:
    wanted = number or request.attempt
    found = [
        item
        for item in client.list_attempts(request.workflow, job_key=request.job)
        if wanted is None or item.number == wanted
    ]
    if not found and request.attempt is not None and not request.follow:
        raise NotFound(
            f"Job {request.job} has no attempt {request.attempt}; see: lading jobs attempts {request.job}"
        )
    return newest(found)


def newest(attempts: Iterable[AttemptDocument]) -> AttemptDocument | None:
    """Return the last attempt of the last run."""
    return max(attempts, key=lambda item: (item.run_id, item.number), default=None)


def paths_of(attempt: AttemptDocument, only_stderr: bool | None = None) -> Iterator[Path]:
    """Yield the files of an attempt's streams, or of one of them."""
    named = {False: attempt.stdout_path, True: attempt.stderr_path}
    seen: set[str] = set()
    for is_stderr, path in named.items():
        # With `stdout: merge` both streams are one file.
        if path and path not in seen and only_stderr in {None, is_stderr}:
            seen.add(path)
            yield Path(path)
