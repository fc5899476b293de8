"""The output folder of a run: whose it is, what lies where, and whose processes are still alive."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lading.toolkit.client.discovery import DATABASE_FILE, PRIVATE_FOLDER, RUN_FILE, SERVER_FILE, RunFile
from lading.toolkit.errors import Conflict
from lading.toolkit.private_files import boot_id, make_private_directory, process_start_ticks, write_private

_KILL_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.05
_MARKER: Final = b"LADING_ALLOCATION="


class _GuardianRecord(msgspec.Struct):
    """What the local scheduler's guardian writes about itself."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Absolute paths of one output folder."""

    output: Path

    @property
    def private(self) -> Path:
        """0700: database, tokens, logs."""
        return self.output / PRIVATE_FOLDER

    @property
    def server_file(self) -> Path:
        return self.private / SERVER_FILE

    @property
    def database(self) -> Path:
        return self.private / DATABASE_FILE

    @property
    def submitter_state(self) -> Path:
        return self.private / "submitter"

    def log(self, name: str) -> Path:
        """Return the log file of one of our children."""
        return self.private / f"{name}.log"

    def remember(self, database: str, workflow: str) -> None:
        """Note where the run is stored, so that it can be read when its server is gone."""
        record = RunFile(database=database, workflow=workflow)
        write_private(self.private / RUN_FILE, msgspec.json.encode(record))

    def recall(self) -> RunFile | None:
        """Return what the last run in this folder noted."""
        try:
            return msgspec.json.decode((self.private / RUN_FILE).read_bytes(), type=RunFile)
        except (OSError, msgspec.DecodeError):
            return None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder and keep a second `lading run` out of it as long as this one lives."""
        make_private_directory(self.private)
        path = self.private / "run.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                # The kernel lets go of it however this process ends, so a stale lock cannot be.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
                raise Conflict(
                    f"The output folder {self.output} is in use by another `lading run` (process {owner}); "
                    "choose another folder with --output DIR."
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
            yield
        finally:
            os.close(descriptor)

    def kill_runners(self) -> None:
        """End every runner of this run and every job of theirs at once; the last resort."""
        guardians = self._living_guardians()
        markers = {path.stem.encode() for path in self._records()}
        # A second signal tells a guardian to kill its jobs now, report and leave.
        for _ in range(2):
            for pid in guardians:
                _send(pid, signal.SIGTERM)
        _wait_for(lambda: not self._living_guardians(), _KILL_SECONDS)
        for pid in self._living_guardians():
            _send(pid, signal.SIGKILL)
        # Without a guardian its jobs are found by the marker that every process of them carries.
        _wait_for(lambda: not _kill_marked(markers), _KILL_SECONDS)

    def _records(self) -> list[Path]:
        return list(self.submitter_state.rglob("*.json"))

    def _living_guardians(self) -> list[int]:
        return [pid for path in self._records() if (pid := _guardian_pid(path)) is not None]


def _guardian_pid(path: Path) -> int | None:
    """Return the process id in a record when that very process still lives."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_GuardianRecord)
    except (OSError, msgspec.DecodeError):
        # Another kind of file in the same folder.
        return None
    is_alive = record.boot_id == boot_id() and process_start_ticks(record.pid) == record.start_ticks
    return record.pid if is_alive else None


def _kill_marked(markers: set[bytes]) -> int:
    """Kill the processes of this user that carry one of the markers, and return how many there were."""
    found = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            # Another user's, or gone meanwhile.
            continue
        values = {item.removeprefix(_MARKER) for item in variables if item.startswith(_MARKER)}
        if values & markers:
            found += 1
            _send(int(folder.name), signal.SIGKILL)
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
