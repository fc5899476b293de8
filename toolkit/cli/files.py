"""`lading files`."""

from __future__ import annotations

from pathlib import Path

import click

from lading.toolkit.cli.context import Session, chosen_workflow, output_option, printing, workflow_option
from lading.toolkit.cli.documents import delete_command, everything, list_command, title_of
from lading.toolkit.cli.output import Column, examples

_COLUMNS = [
    Column("key", "_key"),
    Column("name", "name"),
    Column("path", "path"),
    Column("modified", "st_mtime", right=True),
]


@click.group(
    epilog=examples(
        "lading files list",
        "lading files add --path data/map.tif --name map",
        "lading files delete map",
    )
)
def files() -> None:
    """List, add and delete the files that jobs read and write: their documents, never the files."""


files.add_command(list_command("files", _COLUMNS, "List the files of a workflow."))
files.add_command(delete_command("files", "files"))
files.add_command(everything(files.commands["delete"]), "delete-all")


@files.command()
@click.option("-p", "--path", required=True, help="Where it is, from the workflow's working directory.")
@click.option("-n", "--name", help="Name by which jobs refer to it. [default: the path]")
@workflow_option
@output_option
@printing
@click.pass_obj
def add(
    session: Session,
    *,
    path: str,
    name: str | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Add a file to a workflow."""
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        stored = client.add_document(owner, "files", {"path": path, "name": name or path})
    session.output(style, quiet=quiet).done(f"File {title_of(stored)} is added.", stored)
