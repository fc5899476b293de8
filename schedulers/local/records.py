"""What is known of each row's guardian: its files in the state directory, its name for ever.

The external id is `local:<host>:<boot id>:<pid>:<start ticks>:<tag>.<index>`: all that a later observer
needs, whatever became of the process that made it.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from lading.schedulers.local.processes import arguments_of, is_alive, marked_processes
from lading.toolkit.backends import Allocation, LaunchRequest
from lading.toolkit.errors import PermanentError, TransientError
from lading.toolkit.private_files import boot_id, process_start_ticks, write_private

_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class _Record(msgspec.Struct):
    """What a guardian writes about itself."""

    pid: int
    start_ticks: int
    boot_id: str


class Identity(NamedTuple):
    host: str
    boot_id: str
    pid: int
    start_ticks: int
    marker: str

    def external_id(self) -> str:
        return f"local:{self.host}:{self.boot_id}:{self.pid}:{self.start_ticks}:{self.marker}"

    @classmethod
    def parse(cls, external_id: str) -> Identity | None:
        parts = external_id.split(":")
        if len(parts) != 6 or parts[0] != "local" or not (parts[3].isdigit() and parts[4].isdigit()):
            return None
        return cls(parts[1], parts[2], int(parts[3]), int(parts[4]), parts[5])


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a launch and its files."""

    request: LaunchRequest
    index: int

    @property
    def marker(self) -> str:
        return f"{self.request.tag}.{self.index}"

    @property
    def lock(self) -> Path:
        return self.request.state_directory / f"{self.marker}.lock"

    @property
    def record(self) -> Path:
        return self.request.state_directory / f"{self.marker}.json"

    @property
    def log(self) -> Path:
        return log_of(self.request.output_directory, self.marker)


def log_of(output_directory: Path, marker: str) -> Path:
    """Return where the runner of a row writes."""
    tag, _, index = marker.rpartition(".")
    return output_directory / f"runner_{tag}_{index}.log"


def rows_of(request: LaunchRequest) -> list[Row]:
    """Return the rows of a launch, whose tag becomes part of file names and of the marker."""
    if not _TAG.fullmatch(request.tag):
        raise PermanentError(f"The tag {request.tag!r} is not letters, digits, '-' and '_' (at most 128).")
    return [Row(request, index) for index in range(len(request.node_files))]


def recorded(row: Row) -> Allocation | None:
    """Return what the guardian of this row wrote, be it alive or dead; None when there never was one."""
    try:
        record = msgspec.json.decode(row.record.read_bytes(), type=_Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        # Never taken for "nothing there": that would start a second runner.
        raise TransientError(f"The record {row.record} cannot be read: {error}") from error
    host = _host_of_boot(row.request.state_directory, record.boot_id)
    identity = Identity(host, record.boot_id, record.pid, record.start_ticks, row.marker)
    return Allocation(identity.external_id(), row.index)


def note_host(state_directory: Path) -> None:
    """Note which host this boot belongs to, before a guardian starts here.

    A state directory may lie on a shared file system: another boot id means "this host was started
    anew, all is dead" only if it is this host's, and a record says nothing of hosts.
    """
    path = state_directory / f"boot_{boot_id()}"
    if not path.exists():
        write_private(path, socket.gethostname().encode())


def _host_of_boot(state_directory: Path, boot: str) -> str:
    """Return the host's name; empty when nobody noted it, which is the name of no host."""
    try:
        return (state_directory / f"boot_{boot}").read_text(encoding="utf-8")
    except OSError:
        return ""


def is_locked(path: Path) -> bool:
    """Say whether a guardian holds the lock of its life."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def guardian_lives(state_directory: Path, marker: str) -> bool:
    """Say whether a row still uses its share of the host: from its launch to the end of its guardian."""
    try:
        record = msgspec.json.decode((state_directory / f"{marker}.json").read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return bool(marked_processes([marker])[marker]) or is_locked(state_directory / f"{marker}.lock")
    if record.boot_id != boot_id():
        return False
    # Also what a dead guardian left behind still uses the share, until it has been killed.
    return is_alive(record.pid, record.start_ticks) or bool(marked_processes([marker])[marker])


def cancel_age(identity: Identity) -> float | None:
    """Return the seconds since the guardian was asked to leave; None, and note it, when this is the first.

    The note lies beside the record, whose place the guardian's own command line tells, so that also a
    submitter that was started anew sends TERM once only: a second one means "kill at once".
    """
    arguments = arguments_of(identity.pid)
    if "--record-file" not in arguments[:-1] or process_start_ticks(identity.pid) != identity.start_ticks:
        return None
    note = Path(arguments[arguments.index("--record-file") + 1]).with_suffix(".canceled")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        with note.open("x", encoding="ascii") as stream:
            stream.write(repr(now))
    except FileExistsError:
        try:
            return now - float(note.read_text(encoding="ascii"))
        except ValueError:
            note.write_text(repr(now), encoding="ascii")
            return 0.0
    return None
