"""One owner per SQLite file: `<db>.lock`, held for the life of a server, says who and where it is.

The lock is the kernel's and ends with its holder, however that ends. The file itself stays: to
remove it would let two processes hold locks on two files of the same name.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from lading.toolkit.errors import Conflict, Unavailable
from lading.toolkit.private_files import boot_id

_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_LARGEST_RECORD = 64 * 1024


class Holder(msgspec.Struct, kw_only=True):
    """What the lock file says of the process that holds it."""

    hostname: str
    pid: int
    boot_id: str
    purpose: str
    """`server`, or the command that holds it."""
    url: str = ""
    """Empty until the server listens."""
    server_file: str = ""

    def __str__(self) -> str:
        where = f" at {self.url}" if self.url else ""
        return f"the {self.purpose} with process id {self.pid} on {self.hostname}{where}"


def lock_path(database: Path) -> Path:
    """Return the lock file of a SQLite file."""
    return database.with_name(f"{database.name}.lock")


class DatabaseLock:
    """The right to write to a SQLite file; a context manager."""

    def __init__(self, database: Path, purpose: str) -> None:
        self.path = lock_path(database)
        self._database = database
        self._purpose = purpose
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock, or refuse naming the holder."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if not _lock(descriptor, fcntl.LOCK_EX, _PATIENCE_SECONDS):
                holder = _read(descriptor) or "another process"
                raise Conflict(
                    f"The database {self._database} is in use by {holder}. Use that server, stop it with "
                    "`lading stop`, or choose another --database."
                )
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self.announce()

    def announce(self, url: str = "", server_file: str = "") -> None:
        """Say in the file who holds it, and where it can be reached."""
        record = Holder(
            hostname=socket.gethostname(),
            pid=os.getpid(),
            boot_id=boot_id(),
            purpose=self._purpose,
            url=url,
            server_file=server_file,
        )
        content = msgspec.json.encode(record)
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def find_holder(database: Path) -> Holder | None:
    """Return who holds a SQLite file now; None when nobody does."""
    try:
        descriptor = os.open(lock_path(database), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        # A shared lock: two that look at once do not see each other, and an owner waits a moment.
        if _lock(descriptor, fcntl.LOCK_SH, 0.0):
            return None
        return _read(descriptor) or Holder(hostname="?", pid=0, boot_id="", purpose="process")
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, patience: float) -> bool:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE_SECONDS)
        except OSError as error:
            raise Unavailable(
                f"This file system gives no locks ({error.strerror}): put the database on a local disk."
            ) from error
        else:
            return True


def _read(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _LARGEST_RECORD, 0), type=Holder)
    except msgspec.DecodeError:
        return None
