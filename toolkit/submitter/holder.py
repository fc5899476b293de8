"""Under which name a submitter holds its lease: that of its state directory, if it is the only one there."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FILE: Final = "submitter.lock"
_NAME: Final = re.compile(rb"[0-9a-f]{32}")


@contextmanager
def holder_of(state_directory: Path) -> Iterator[str]:
    """Give the holder's name for the length of the context.

    The next submitter on the directory has the name of one that was killed, and so its lease at once: the
    kernel's lock proves that the other is dead. Beside a living one the name is new, and waits its turn.
    """
    descriptor = os.open(
        state_directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        fresh = secrets.token_hex(16)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Held, or a file system without locks: then nothing is known of the other.
            yield fresh
            return
        name = os.pread(descriptor, 64, 0)
        if _NAME.fullmatch(name) is None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, fresh.encode(), 0)
            name = fresh.encode()
        yield name.decode()
    finally:
        os.close(descriptor)
