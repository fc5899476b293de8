"""A server that belongs to this process: a child that stops when we do, however we end.

The child holds the reading end of a pipe whose writing end is ours. Nobody has to remember to stop
it: a killed parent closes the pipe too.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lading.toolkit.errors import LadingError, Unavailable

READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_TERM_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 5.0
_TAIL_BYTES: Final = 4_096


class Child:
    """A Python module run as a child with a session of its own and files as its standard streams."""

    def __init__(self, module: str, arguments: Sequence[str], log_file: Path) -> None:
        self.module = module
        self.log_file = log_file
        self.arguments = list(arguments)
        """Of the next start."""
        self._end_pipe = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the child that runs now."""
        if self._process is None:
            raise LadingError(f"{self.module} was not started.")
        return self._process.pid

    def start(self, *, ready: bool) -> str:
        """Start the child; with `ready`, wait for its first line and return it."""
        self._forget()
        stop_read, stop_write = os.pipe()
        ready_read, ready_write = os.pipe()
        arguments = [*self.arguments, "--end-fd", str(stop_read)]
        passed = [stop_read]
        if ready:
            arguments += ["--ready-fd", str(ready_write)]
            passed.append(ready_write)
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            self._process = subprocess.Popen(
                # -P: a folder or file of the user's must not shadow our modules.
                [sys.executable, "-P", "-m", self.module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                # Ctrl-C goes to the whole foreground group: this child is to be stopped by us, in order.
                start_new_session=True,
            )
            self._end_pipe, stop_write = stop_write, -1
            os.close(ready_write)
            ready_write = -1
            return self._read_ready(ready_read) if ready else ""
        finally:
            for descriptor in (stop_read, stop_write, ready_read, ready_write, log):
                if descriptor >= 0:
                    os.close(descriptor)

    def poll(self) -> int | None:
        """Return the exit code of a child that has ended."""
        return None if self._process is None else self._process.poll()

    def stop(self, *, signal_number: int | None = None, seconds: float = _STOP_SECONDS) -> None:
        """Close the pipe (and send a signal), wait, and kill what does not go by itself."""
        process = self._process
        if process is None:
            return
        if signal_number is not None and process.poll() is None:
            process.send_signal(signal_number)
        self._close_pipe()
        for last_resort, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _TERM_SECONDS)):
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(last_resort)
        process.wait(_KILL_SECONDS)
        self._process = None

    def last_words(self) -> str:
        """Return the end of the child's log, for a message."""
        try:
            text = self.log_file.read_bytes()[-_TAIL_BYTES:].decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-5:])

    def _read_ready(self, descriptor: int) -> str:
        deadline = time.monotonic() + READY_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                self.stop(signal_number=signal.SIGTERM)
                raise Unavailable(
                    f"{self.module} was not ready after {READY_SECONDS:g} s; its log is {self.log_file}."
                )
            piece = os.read(descriptor, 4_096)
            if not piece:
                code = self._process.wait() if self._process else None
                raise Unavailable(
                    f"{self.module} ended with code {code} before it was ready; its log is {self.log_file}:\n"
                    f"{self.last_words()}"
                )
            line += piece
        return line.decode("utf-8", errors="replace").strip()

    def _close_pipe(self) -> None:
        if self._end_pipe >= 0:
            os.close(self._end_pipe)
            self._end_pipe = -1

    def _forget(self) -> None:
        self._close_pipe()
        if self._process is not None and self._process.poll() is not None:
            self._process = None


def require_server_part() -> None:
    """Refuse with the remedy when this installation has no server."""
    for module in ("lading.api", "tortoise"):
        if find_spec(module) is None:
            raise LadingError(
                "This installation has no server part; install it with: pip install 'lading[server]'"
            )
