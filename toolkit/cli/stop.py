"""`lading stop`: ends a server."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final

import click

from lading.toolkit.cli.context import Session, output_option
from lading.toolkit.cli.output import examples, note
from lading.toolkit.client.session import Patience
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target, read_server_file
from lading.toolkit.errors import LadingError, Unavailable
from lading.toolkit.private_files import process_start_ticks

_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1


@click.command(
    epilog=examples(
        "lading stop",
        "lading --server http://127.0.0.1:8080 stop",
    )
)
@output_option
@click.pass_obj
def stop(session: Session, *, folder: Path | None) -> None:
    """Stop a server. Jobs that run go on; they report when the server is back, within their leases."""
    target = session.target(folder)
    pid = _pid(target)
    with Lading(target, patience=Patience(tries=1)) as client:
        client.shutdown()
        deadline = time.monotonic() + _WAIT_SECONDS
        while _is_running(client, pid):
            if time.monotonic() > deadline:
                raise LadingError(f"The server at {target.url} still runs after {_WAIT_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)
    note(f"The server at {target.url} has stopped.")


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
