"""Print the files that a job wrote, also while it writes them."""

from __future__ import annotations

import codecs
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import click

from lading.toolkit.cli.output import note
from lading.toolkit.client.sync import Lading
from lading.toolkit.domain.states import AttemptState
from lading.toolkit.errors import BadInput, NotFound
from lading.toolkit.wire.extensions import AttemptDocument

_POLL_SECONDS: Final = 0.25
_ASK_SECONDS: Final = 2.0
_CHUNK_BYTES: Final = 64 * 1024


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
    streams = [_Stream(path) for path in paths_of(attempt, request.only_stderr)]
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


class _Stream:
    """One file, printed piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        # Bytes are printed as they are into a pipe; a character may end in the next piece.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def open(self, *, must_exist: bool) -> None:
        if self._file is not None:
            return
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            if must_exist:
                raise BadInput(_unreadable(self.path, "it is not there")) from None
        except OSError as error:
            raise BadInput(_unreadable(self.path, str(error.strerror))) from error

    def print_tail(self, lines: int) -> None:
        if self._file is None:
            return
        _write(b"".join(deque(self._file, maxlen=lines)), self._decoder)

    def print_new(self) -> bool:
        """Print what was added, and return whether there was anything."""
        if self._file is None:
            return False
        found = False
        while piece := self._file.read(_CHUNK_BYTES):
            found = True
            _write(piece, self._decoder)
        return found

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _follow(client: Lading, request: LogRequest, attempt: AttemptDocument, streams: list[_Stream]) -> None:
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
            time.sleep(_POLL_SECONDS)


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


def _write(piece: bytes, decoder: codecs.IncrementalDecoder) -> None:
    if sys.stdout.isatty():
        click.echo(decoder.decode(piece), nl=False)
    else:
        click.echo(piece, nl=False)


def _unreadable(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read on this machine: {reason}. Job output lies on the node's file system; "
        "read it on a machine that shares that folder."
    )
