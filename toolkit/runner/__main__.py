"""`python -P -m lading.toolkit.runner`: become the guardian of a node and start its runner."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lading.toolkit.errors import BadInput, LadingError
from lading.toolkit.private_files import boot_id, process_start_ticks, read_private, write_private
from lading.toolkit.runner.guardian import Guardian
from lading.toolkit.runner.options import parse
from lading.toolkit.runner.processes import ALLOCATION_MARK

EXIT_BAD_INPUT: Final = 2
NODE_FILE_TEXTS: Final = (
    "url", "server_id", "token", "workflow", "tag", "output_directory", "working_directory",
)  # fmt: skip
EXIT_LOCKED: Final = 75
"""EX_TEMPFAIL: another runner of this allocation is alive."""


def main(arguments: Sequence[str]) -> int:
    """Take the lock, write the record, guard until the runner has left."""
    _occupy_standard_streams()
    options = parse(arguments)
    try:
        allocation = allocation_mark(options.node_file)
        lock = None if options.lock_file is None else take_lock(options.lock_file)
        if options.record_file is not None:
            _write_record(options.record_file)
        return Guardian(options, allocation, lock).run()
    except BlockingIOError:
        _complain(f"Another runner of this allocation is alive: it holds {options.lock_file}.")
        return EXIT_LOCKED
    except LadingError as error:
        _complain(str(error))
        return EXIT_BAD_INPUT
    except OSError as error:
        _complain(f"{error.filename or options.node_file}: {error.strerror}")
        return EXIT_BAD_INPUT


def allocation_mark(node_file: Path) -> str:
    """Return what every process of this allocation carries in its environment.

    A backend that started us has set it (its tag and the row's index). One that was inherited from the
    job in which we were started belongs to that job: it would be killed together with ours.
    """
    try:
        document = json.loads(read_private(node_file))
    except ValueError as error:
        raise BadInput(f"{node_file} is not a node file: {error}.") from None
    for field in NODE_FILE_TEXTS:
        value = document.get(field) if isinstance(document, dict) else None
        if not isinstance(value, str):
            raise BadInput(f"{node_file} is not a node file: {field!r} is {value!r}, accepted is a text.")
    tag = document["tag"]
    inherited = os.environ.get(ALLOCATION_MARK, "")
    if tag and (inherited == tag or inherited.startswith(f"{tag}.")):
        return inherited
    return tag or f"node-{secrets.token_hex(8)}"


def take_lock(path: Path) -> int:
    """Take the lock that makes a second living runner impossible; raise BlockingIOError if it is held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _complain(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _write_record(path: Path) -> None:
    record = {"pid": os.getpid(), "start_ticks": process_start_ticks(os.getpid()), "boot_id": boot_id()}
    write_private(path, json.dumps(record).encode())


def _occupy_standard_streams() -> None:
    """Make sure that 0, 1, 2 are open: a job's stdout must not end up in our channel."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
