"""`lading submitter`: asks the schedulers for allocations, on behalf of a server."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click
import msgspec

from lading.toolkit.cli.context import Session
from lading.toolkit.cli.output import examples
from lading.toolkit.client.target import Target
from lading.toolkit.private_files import boot_id, make_private_directory, write_private
from lading.toolkit.settings import state_directory
from lading.toolkit.wire.files import ServerFile


@click.command(
    epilog=examples(
        "lading submitter",
        "lading --server https://head:8443 --token-file ~/.lading-token submitter",
    )
)
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="0700 folder for its records; one per server. [default: in the state folder of the user]",
)
@click.option("--site", default="", help="Serve the configs that name this site, and no other.")
@click.pass_obj
def submitter(session: Session, *, state_directory: Path | None, site: str) -> None:
    """Ask the schedulers for allocations, for a server that was started with --no-submitter.

    Run it where the batch system's commands are, such as on a login node. Two for one server do no
    harm: the second waits until the first has gone. Allocations outlive it.
    """
    with session.client() as client:
        target = client.target
        server_id = target.server_id or str(client.health().get("server_id") or "")
    folder = (state_directory or _default_folder(server_id or target.url)).absolute()
    make_private_directory(folder)
    server_file = target.server_file or _write_server_file(target, server_id, folder)
    command = [sys.executable, "-P", "-m", "lading.toolkit.submitter"]
    command += ["--server-file", str(server_file), "--state-directory", str(folder), f"--site={site}"]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def _default_folder(server: str) -> Path:
    name = "".join(letter if letter.isalnum() else "_" for letter in server)
    parent = state_directory() / "submitters"
    make_private_directory(parent)
    return parent / name


def _write_server_file(target: Target, server_id: str, folder: Path) -> Path:
    """Write down an address that was given by hand in the form that the submitter reads."""
    token_file = None
    if target.token is not None:
        token_file = folder / "token"
        write_private(token_file, target.token.encode("ascii"))
    record = ServerFile(
        url=target.url,
        server_id=server_id,
        pid=os.getpid(),
        hostname=socket.gethostname(),
        boot_id=boot_id(),
        database="",
        fingerprint=target.fingerprint,
        token_file=str(token_file) if token_file else None,
    )
    path = folder / "server.json"
    write_private(path, msgspec.json.encode(record))
    return path
