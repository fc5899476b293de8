"""`lading stop`: ends a server."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from lading.toolkit.backends import KeepsServices
from lading.toolkit.cli.context import Session, output_option
from lading.toolkit.cli.output import examples, note
from lading.toolkit.cli.server_chain import end_chain, read_chain, slurm_services
from lading.toolkit.client.session import Patience
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target, read_server_file
from lading.toolkit.errors import BackendError, LadingError, Unavailable
from lading.toolkit.private_files import process_start_ticks

_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 1.0


@click.command(
    epilog=examples(
        "lading stop",
        "lading --server http://127.0.0.1:8080 stop",
    )
)
@output_option
@click.pass_obj
def stop(session: Session, *, folder: Path | None) -> None:
    """Stop a server. Jobs that run go on; they report when the server is back, within their leases.

    Of a server that lives in Slurm no job is left in the queue.
    """
    target = session.target(folder)
    if target.chain is not None:
        _stop_in_slurm(target, target.chain)
        return
    pid = _pid(target)
    with Lading(target, patience=Patience(tries=1)) as client:
        client.shutdown()
        deadline = time.monotonic() + _WAIT_SECONDS
        while _is_running(client, pid):
            if time.monotonic() > deadline:
                raise LadingError(f"The server at {target.url} still runs after {_WAIT_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)
    note(f"The server at {target.url} has stopped.")


def _stop_in_slurm(target: Target, chain_file: Path) -> None:
    name = read_chain(chain_file).name
    try:
        end_chain(chain_file, "a person stopped it")
    except BackendError as error:
        # The mark is made: a job that starts now leaves, and the server asks Slurm itself.
        note(f"Slurm cannot be asked from here: {error}")
    with suppress(Unavailable), Lading(target, patience=Patience(tries=1)) as client:
        client.shutdown()
    services = slurm_services()
    if not _have_ended(services, name):
        services.cancel_service(name)
        if not _have_ended(services, name):
            raise LadingError(f"Slurm still lists jobs of the server; see: squeue --name {name}")
    if target.server_file is not None:
        # One that was killed has left it.
        target.server_file.unlink(missing_ok=True)
    note(
        f"The server{f' at {target.url}' if target.url else ''} has stopped, and no job of it is left in Slurm."
    )


def _have_ended(services: KeepsServices, name: str) -> bool:
    deadline = time.monotonic() + _WAIT_SECONDS
    while services.service_jobs(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(_ASK_SECONDS)
    return True


def _pid(target: Target) -> int | None:
    """Return the server's process id when it is one of this host."""
    if target.server_file is None:
        return None
    try:
        record = read_server_file(target.server_file)
    except (LadingError, OSError):
        return None
    return record.pid if record.hostname == socket.gethostname() else None


def _is_running(client: Lading, pid: int | None) -> bool:
    if pid is not None:
        return process_start_ticks(pid) is not None
    try:
        client.ping()
    except Unavailable:
        return False
    return True
