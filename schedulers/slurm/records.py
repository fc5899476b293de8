"""What is known of each call of sbatch: a record that outlives whoever made it, a lock that it holds.

What makes a tag submitted at most once, whoever is killed when:
- a record without an id is written before sbatch is started: from then on the call may have happened;
- sbatch itself holds the lock, by a descriptor that it inherits: as long as it lives nobody judges;
- the id is written when sbatch said it, or was found by name; a record without one is only removed after
  Slurm refused the job in so many words, or was asked and knew of none.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lading.toolkit.errors import TransientError
from lading.toolkit.private_files import make_private_directory, write_private

_ELSEWHERE_SECONDS: Final = 900.0
"""A lock of another host may not be seen here; no sbatch tries for so long."""


class Record(msgspec.Struct):
    """One call of sbatch."""

    began: float
    """Seconds since the epoch: for people and for another host, which shares no other clock."""
    host: str
    job: str = ""
    """Slurm's number; empty while nobody knows."""


@dataclass(frozen=True, slots=True)
class CallFile:
    """The record and the lock of the call that makes the job of this name."""

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.json"

    def read(self) -> Record | None:
        """Return the record; None when sbatch was never called. Raises TransientError if it is unreadable."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            # Never taken for "never called": that could submit a second time.
            raise TransientError(f"The record {self.path} cannot be read: {error}") from error

    def begin(self) -> None:
        """Note, durably, that sbatch is about to be called."""
        make_private_directory(self.folder)
        self._write(Record(began=time.time(), host=socket.gethostname()))

    def settle(self, job: str) -> None:
        """Note what number the job has."""
        record = self.read() or Record(began=time.time(), host=socket.gethostname())
        self._write(Record(began=record.began, host=record.host, job=job))

    def forget(self) -> None:
        """Note that there is no such job: it may be submitted."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock; raise TransientError while an sbatch of another process, perhaps a dead one's, lives."""
        make_private_directory(self.folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.folder / f"{self.name}.lock", flags, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TransientError(f"The sbatch of {self.name} has not answered yet.") from None
            yield descriptor
        finally:
            os.close(descriptor)

    def check_is_over(self, record: Record) -> None:
        """Raise TransientError while an sbatch on another host could still be under way."""
        age = time.time() - record.began
        if record.host != socket.gethostname() and 0 <= age < _ELSEWHERE_SECONDS:
            raise TransientError(
                f"The sbatch of {self.name} was called on {record.host} {age:.0f} s ago; whether it still runs "
                f"cannot be seen from here. It is looked for after {_ELSEWHERE_SECONDS:.0f} s."
            )

    def _write(self, record: Record) -> None:
        write_private(self.path, msgspec.json.encode(record))
