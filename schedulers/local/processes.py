"""The processes of one allocation on this host: found by a marker in their environment, killed, proven gone.

A process that an allocation starts inherits `LADING_ALLOCATION=<marker>`. Process ids are reused, so
nothing here signals a bare id: a pidfd is opened first and the identity checked through it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lading.toolkit.private_files import process_start_ticks

MARKER_VARIABLE: Final = "LADING_ALLOCATION"
_PREFIX: Final = MARKER_VARIABLE.encode() + b"="
_JOB_PREFIX: Final = b"LADING_ATTEMPT_ID="
_PROC: Final = Path("/proc")
_RESCAN_SECONDS: Final = 0.05


def marked_processes(markers: Collection[str]) -> dict[str, set[int]]:
    """Map each marker to the ids of this user's living processes that carry exactly it.

    One pass over /proc for all markers. The calling process is never among them.
    """
    wanted = {marker.encode(): marker for marker in markers}
    found: dict[str, set[int]] = {marker: set() for marker in markers}
    if not wanted:
        return found
    own_id, own_user = os.getpid(), os.getuid()
    for entry in os.scandir(_PROC):
        if not entry.name.isdigit() or int(entry.name) == own_id:
            continue
        value = _marker_of(int(entry.name), own_user)
        if value is not None and value in wanted:
            found[wanted[value]].add(int(entry.name))
    return found


def kill_marked(markers: Collection[str], seconds: float) -> dict[str, set[int]]:
    """Kill what carries the markers; return what still lives when the time is over.

    Scans again after each round, because a process may have forked between the scan and its kill:
    only a scan that finds nobody proves that nobody is left.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = marked_processes(markers)
        living = {marker: processes for marker, processes in found.items() if processes}
        if not living or time.monotonic() >= deadline:
            return living
        for marker, processes in living.items():
            _kill_all(processes, marker, min(_RESCAN_SECONDS, deadline - time.monotonic()))


def is_alive(pid: int, start_ticks: int) -> bool:
    """Say whether the process that began then still lives; a zombie does not."""
    return process_start_ticks(pid) == start_ticks


def send_signal(pid: int, start_ticks: int, number: signal.Signals) -> bool:
    """Signal that very process, not one that inherited its id; False when it is gone."""
    with _opened(pid) as descriptor:
        if descriptor is None or process_start_ticks(pid) != start_ticks:
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
            return True
    return False


def arguments_of(pid: int) -> list[str]:
    """Return a process's command line, empty when it is gone or hidden."""
    try:
        content = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(part) for part in content.split(b"\0")[:-1]]


def is_job(pid: int) -> bool:
    """Say whether a marked process belongs to a job; guardian and runner do not. A gone one counts."""
    try:
        content = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return True
    return any(item.startswith(_JOB_PREFIX) for item in content.split(b"\0"))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a runner: our own settings and database passwords are not its business."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("LADING_") and name not in {"PGPASSWORD", "PGPASSFILE"}
    }


def _marker_of(pid: int, user: int) -> bytes | None:
    """Read one process's marker; None for other users', hidden, ended and unmarked ones."""
    folder = _PROC / str(pid)
    try:
        if folder.stat().st_uid != user:
            return None
        content = (folder / "environ").read_bytes()
    except OSError:
        # Gone between the listing and the reading, or not ours to read (a set-user-id program).
        return None
    for item in content.split(b"\0"):
        if item.startswith(_PREFIX):
            return item[len(_PREFIX) :]
    return None


def _kill_all(processes: Collection[int], marker: str, seconds: float) -> None:
    user, poller = os.getuid(), select.poll()
    descriptors: list[int] = []
    try:
        for pid in processes:
            with suppress(OSError):
                descriptor = os.pidfd_open(pid)
                descriptors.append(descriptor)
                # Read again behind the pidfd: the id may have passed to a stranger since the scan.
                if _marker_of(pid, user) == marker.encode():
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    poller.register(descriptor, select.POLLIN)
        poller.poll(max(0.0, seconds) * 1000)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def _opened(pid: int) -> Iterator[int | None]:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
