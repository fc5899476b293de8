"""The runner's log: one line a record, appended by guardian and runner to the same file.

Standard library only and without a logging tree: the guardian has to stay small.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path


class Journal:
    """Append `TIME LEVEL who: message` lines; O_APPEND keeps lines of two processes apart."""

    def __init__(self, path: Path | None, who: str) -> None:
        self._who = who
        self._own = path is not None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        self._descriptor = sys.stderr.fileno() if path is None else os.open(path, flags, 0o600)

    def info(self, message: str) -> None:
        self._write("INFO", message)

    def warning(self, message: str) -> None:
        self._write("WARNING", message)

    def error(self, message: str) -> None:
        self._write("ERROR", message)

    def close(self) -> None:
        if self._own:
            os.close(self._descriptor)

    def _write(self, level: str, message: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        # One record is one line whatever a job's name or an error text carries.
        text = message.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        line = f"{stamp}.{int(now % 1 * 1000):03d}Z {level} {self._who}: {text}\n"
        # A full disk must not stop a runner from reporting what its jobs did.
        with suppress(OSError):
            os.write(self._descriptor, line.encode("utf-8", "replace"))
