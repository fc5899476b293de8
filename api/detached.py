"""A server that leaves its terminal: it lives on when the person logs out.

The command forks before anything is started. The child goes on as the server, with a session of its
own and a file as its standard streams; the parent waits until the child answers, and says where.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lading.toolkit.client.server_process import READY_SECONDS
from lading.toolkit.errors import BadInput, LadingError, Unavailable

_TAIL_BYTES: Final = 4_096
_TAIL_LINES: Final = 8
_UNREACHABLE: Final = 3
_STOP_SECONDS: Final = 15.0


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What a detached server says of itself once it answers."""

    url: str
    pid: int
    log: str
    database: str
    server_file: str
    token_file: str | None


@dataclass(frozen=True, slots=True)
class Detached:
    """The child's side: it is the server now."""

    ready: int
    """Descriptor on which the parent waits."""
    log_file: Path

    def say_ready(self, started: Started) -> None:
        """Tell the parent, if it is still there."""
        try:
            os.write(self.ready, msgspec.json.encode(started))
        except BrokenPipeError:
            # It was interrupted in the last moment; a server that answers stays.
            return
        finally:
            os.close(self.ready)


def detach(log_file: Path) -> Detached | Started:
    """Fork; return in the child as the server to be, in the parent once that server answers.

    Raises LadingError in the parent, with the end of the log, when the child ends before.
    """
    log = _open_log(log_file)
    begin = os.fstat(log).st_size
    reading, writing = os.pipe()
    # What is buffered would be printed twice.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _leave_terminal(log)
        return Detached(writing, log_file.absolute())
    os.close(writing)
    os.close(log)
    with os.fdopen(reading, "rb", buffering=0) as stream:
        try:
            content = _read(stream.fileno())
        except KeyboardInterrupt:
            os.kill(pid, signal.SIGTERM)
            raise
    if content is None:
        _stop(pid)
        raise Unavailable(f"The server was not ready after {READY_SECONDS:g} s; its log is {log_file}.")
    if not content:
        raise _failure(pid, log_file, begin)
    return msgspec.json.decode(content, type=Started)


def _open_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NOCTTY
    try:
        log = os.open(path, flags, 0o600)
    except OSError as error:
        raise BadInput(f"The log file {path} cannot be written: {error.strerror}.") from error
    # An older file may have been made under another umask.
    os.fchmod(log, 0o600)
    return log


def _leave_terminal(log: int) -> None:
    os.setsid()
    # A handler, where "ignore" would be inherited by jobs: what a login's end still sends is no order to stop.
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)


def _read(descriptor: int) -> bytes | None:
    """Return what the child says: nothing when it has ended, None when it says nothing for too long."""
    deadline = time.monotonic() + READY_SECONDS
    content = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        piece = os.read(descriptor, 65_536)
        if not piece:
            return content
        content += piece


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    end = os.pidfd_open(pid)
    try:
        if not select.select([end], [], [], _STOP_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(end)
    os.waitpid(pid, 0)


def _failure(pid: int, log_file: Path, begin: int) -> LadingError:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with log_file.open("rb") as stream:
        # Only what this server wrote: an older one's complaints would mislead.
        stream.seek(max(begin, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    text = "\n".join(["The server did not start. The end of its log:", *lines, f"(whole: {log_file})"])
    return Unavailable(text) if code == _UNREACHABLE else BadInput(text)
