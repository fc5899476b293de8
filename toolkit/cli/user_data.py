"""`lading user-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.toolkit.cli.context import (
    Session,
    chosen_job,
    chosen_workflow,
    output_option,
    printing,
    reading,
    workflow_option,
)
from lading.toolkit.cli.documents import (
    delete_command,
    everything,
    find_document,
    list_command,
    parsed_object,
    title_of,
)
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.errors import BadInput

_COLUMNS = [
    Column("key", "_key"),
    Column("name", "name"),
    Column("ephemeral", "is_ephemeral"),
    Column("data", "data"),
]
_DATA = click.option("-d", "--data", help='A JSON or JSON5 object, such as {"depth": 8}.')
_EPHEMERAL = click.option(
    "--ephemeral/--not-ephemeral",
    "is_ephemeral",
    default=None,
    help="Emptied when the workflow starts again.",
)


@click.group(
    "user-data",
    epilog=examples(
        "lading user-data list",
        """lading user-data add --name palette --data '{"depth": 8}' --consumes render""",
        "lading user-data get palette",
    ),
)
def user_data() -> None:
    """Keep JSON objects that jobs read and write."""


user_data.add_command(list_command("user_data", _COLUMNS, "List the user data of a workflow."))
user_data.add_command(delete_command("user_data", "user data"))
user_data.add_command(everything(user_data.commands["delete"]), "delete-all")


@user_data.command()
@click.option("-n", "--name", required=True, help="Its name.")
@_DATA
@_EPHEMERAL
@click.option("-s", "--stores", metavar="JOB", help="The job that writes it (key or name).")
@click.option("-c", "--consumes", metavar="JOB", multiple=True, help="A job that reads it; may be repeated.")
@workflow_option
@output_option
@printing
@click.pass_obj
def add(
    session: Session,
    *,
    name: str,
    data: str | None,
    is_ephemeral: bool | None,
    stores: str | None,
    consumes: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Add user data to a workflow, and connect it with jobs."""
    document: dict[str, Any] = {"name": name, "is_ephemeral": bool(is_ephemeral)}
    if data is not None:
        document["data"] = parsed_object(data, "--data")
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        # All jobs are looked up first: a misspelt one stores nothing.
        ends = [("stores", chosen_job(client, owner, stores))] if stores else []
        ends += [("consumes", chosen_job(client, owner, job)) for job in consumes]
        stored = client.add_document(owner, "user_data", document)
        for edge, job in ends:
            client.add_edge(owner, edge, str(job["_id"]), str(stored["_id"]))
    session.output(style, quiet=quiet).done(f"User data {title_of(stored)} is added.", stored)


@user_data.command()
@click.argument("name", metavar="KEY_OR_NAME")
@click.option("-n", "--name", "new_name", help="New name.")
@_DATA
@_EPHEMERAL
@workflow_option
@output_option
@printing
@click.pass_obj
def modify(
    session: Session,
    *,
    name: str,
    new_name: str | None,
    data: str | None,
    is_ephemeral: bool | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Change user data; jobs that read it are out of date from then on."""
    changes: dict[str, Any] = {}
    if new_name is not None:
        changes["name"] = new_name
    if data is not None:
        changes["data"] = parsed_object(data, "--data")
    if is_ephemeral is not None:
        changes["is_ephemeral"] = is_ephemeral
    if not changes:
        raise BadInput("Give at least one of --name, --data and --ephemeral.")
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        key = str(find_document(client, owner, "user_data", name)["_key"])
        stored = client.modify_document(owner, "user_data", key, changes)
    session.output(style, quiet=quiet).done(f"User data {title_of(stored)} is changed.", stored)


@user_data.command()
@click.argument("name", metavar="KEY_OR_NAME")
@reading
@click.pass_obj
def get(
    session: Session, *, name: str, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Print one object with its data."""
    with session.reader(folder) as client:
        document = find_document(client, chosen_workflow(client, workflow), "user_data", name)
        session.output(style, quiet=quiet).document(document)
