"""Files that only their owner may read, replaced atomically: tokens, addresses, spools.

Our server runs on login nodes that many people share, so nothing here depends on the umask.
"""

from __future__ import annotations

import os
import secrets
import stat
from io import BufferedReader
from pathlib import Path

from lading.toolkit.errors import BadInput


def make_private_directory(path: Path) -> None:
    """Create a 0700 folder, parents included; refuse one that belongs to somebody else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.getuid():
        raise BadInput(f"The folder {path} belongs to another user (uid {status.st_uid}); choose your own.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file so that a reader sees the old content or the new, and others see neither."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # A crash right after the rename must not bring the old file back: the folder is synced too.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_private(path: Path) -> BufferedReader:
    """Open a secret for reading; refuse a file that others can read or that belongs to another user."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    stream = os.fdopen(descriptor, "rb")
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid():
            raise BadInput(f"{path} belongs to another user (uid {status.st_uid}); it is not read.")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise BadInput(f"{path} can be read by others; run: chmod 600 {path}")
    except BaseException:
        stream.close()
        raise
    return stream


def read_private(path: Path) -> bytes:
    """Read a secret; refuse a file that others can read or that belongs to another user."""
    with open_private(path) as stream:
        return stream.read()


def boot_id() -> str:
    """Identify this boot of this machine, so that a process id is never mistaken for an older one's."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def process_start_ticks(pid: int) -> int | None:
    """Return the kernel's start time of a process in clock ticks since boot; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])
