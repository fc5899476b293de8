"""Reports of ended attempts on disk, from before they are sent until the server has them durably.

One line a report. The runner appends; when it dies the guardian reads what is left and sends it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lading.toolkit.private_files import make_private_directory, write_private

_COMPACT_ABOVE_BYTES = 1 << 20


class Spool:
    """The append-only file of one node."""

    def __init__(self, path: Path) -> None:
        make_private_directory(path.parent)
        self.path = path
        self._lines: dict[str, bytes] = {}
        self._size = 0
        self._open()

    def append(self, records: Mapping[str, bytes]) -> None:
        """Write reports (attempt id -> JSON without line breaks), durable when this returns."""
        block = b"".join(line + b"\n" for line in records.values())
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fdatasync(self._descriptor)
        self._lines.update(records)
        self._size += len(block)

    def forget(self, attempts: Iterable[str]) -> None:
        """Drop reports that the server has stored durably."""
        for attempt in attempts:
            self._lines.pop(attempt, None)
        if not self._lines:
            if self._size:
                os.ftruncate(self._descriptor, 0)
                self._size = 0
        elif self._size > _COMPACT_ABOVE_BYTES:
            self._compact()

    def close(self) -> None:
        """Close the file; remove it when nothing is left to be sent."""
        os.close(self._descriptor)
        if not self._lines:
            self.path.unlink(missing_ok=True)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o600)

    def _compact(self) -> None:
        content = b"".join(line + b"\n" for line in self._lines.values())
        write_private(self.path, content)
        os.close(self._descriptor)
        self._open()
        # Counted from zero again, or a backlog above the limit would be rewritten with every answer.
        self._size = 0


def encode_record(ended: Mapping[str, Any], ended_at: float) -> bytes:
    """Return the line of a report; `ended_at` is on CLOCK_BOOTTIME, so that its age can be told later."""
    return json.dumps({"ended_at": ended_at, "ended": ended}, separators=(",", ":")).encode()


def read_records(path: Path) -> dict[str, tuple[float, dict[str, Any]]]:
    """Return attempt id -> (end on CLOCK_BOOTTIME, report) of what was spooled.

    A line that was torn by a crash was never sent as durable; it is skipped.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    records: dict[str, tuple[float, dict[str, Any]]] = {}
    for line in content.split(b"\n"):
        try:
            record = json.loads(line)
            ended = record["ended"]
            records[ended["attempt_id"]] = (float(record["ended_at"]), ended)
        except (ValueError, KeyError, TypeError):
            continue
    return records
