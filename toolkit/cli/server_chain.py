"""A server that lives on in jobs of Slurm: what its jobs and the commands of a person share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from lading.toolkit.backends import KeepsServices, load_backend
from lading.toolkit.errors import BadInput
from lading.toolkit.private_files import read_private, write_private
from lading.toolkit.wire.files import ServerChain

CHAIN_FILE: Final = "chain.json"
_STOPPED_FILE: Final = "stopped"
_FAILURES_FILE: Final = "failures"
_CURRENT_FILE: Final = "current"


def read_chain(path: Path) -> ServerChain:
    """Read `chain.json`. Raises BadInput, and FileNotFoundError where there is none."""
    try:
        return msgspec.json.decode(read_private(path), type=ServerChain)
    except msgspec.MsgspecError as error:
        raise BadInput(f"{path} does not describe a server in Slurm: {error}.") from error


def begin_chain(path: Path, chain: ServerChain) -> None:
    """Write the file of a new chain, over that of one that has ended."""
    write_private(path, msgspec.json.encode(chain))
    for name in (_FAILURES_FILE, _STOPPED_FILE, _CURRENT_FILE):
        path.with_name(name).unlink(missing_ok=True)


def stopped_because(path: Path) -> str | None:
    """Return why a chain ends or has ended; None while it goes on."""
    try:
        return read_private(path.with_name(_STOPPED_FILE)).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None


def end_chain(path: Path, reason: str) -> None:
    """Let no further job of a chain begin to serve, and take those that wait out of the queue.

    The mark comes first: a job that starts in this moment, or that Slurm does not let go, sees it and leaves.
    """
    write_private(path.with_name(_STOPPED_FILE), f"{reason}\n".encode())
    slurm_services().cancel_service(read_chain(path).name, only_waiting=True)


def count_failure(path: Path) -> int:
    """Count a job that is about to start; return how many in a row have not come so far as to serve."""
    file = path.with_name(_FAILURES_FILE)
    try:
        text = read_private(file).decode("ascii", "replace").strip()
    except FileNotFoundError:
        text = ""
    number = int(text) + 1 if text.isdigit() else 1
    write_private(file, f"{number}\n".encode())
    return number


def forget_failures(path: Path) -> None:
    """Note that a job of the chain serves."""
    path.with_name(_FAILURES_FILE).unlink(missing_ok=True)


def take_over(path: Path, job: str) -> None:
    """Say that this job serves from now on; one before it that still lives hears of it and leaves."""
    write_private(path.with_name(_CURRENT_FILE), f"{job}\n".encode())


def current_job(path: Path) -> str:
    """Return the number of the job whose turn it is; empty before the first."""
    try:
        return read_private(path.with_name(_CURRENT_FILE)).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""


def slurm_services() -> KeepsServices:
    """Return the backend that keeps services here. Raises BadInput or BackendError."""
    backend = load_backend("slurm")
    if not isinstance(backend, KeepsServices):
        raise BadInput("The installed Slurm backend keeps no services.")
    return backend
