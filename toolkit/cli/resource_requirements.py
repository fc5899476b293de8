"""`lading resource-requirements`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.toolkit.cli.context import Session, chosen_workflow, output_option, printing, workflow_option
from lading.toolkit.cli.documents import delete_command, everything, find_document, list_command, title_of
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.errors import BadInput

_COLLECTION = "resource_requirements"
_COLUMNS = [
    Column("key", "_key"),
    Column("name", "name"),
    Column("cpus", "num_cpus", right=True),
    Column("gpus", "num_gpus", right=True),
    Column("nodes", "num_nodes", right=True),
    Column("memory", "memory", right=True),
    Column("runtime", "runtime"),
]


def _amounts(command: Any) -> Any:
    for option in (
        click.option("-r", "--runtime", help="Run-time limit, ISO 8601. [default: P0DT1M]"),
        click.option("-m", "--memory", help="Memory, such as 8g. [default: 1m]"),
        click.option("-N", "--num-nodes", type=click.IntRange(min=1), help="Nodes. [default: 1]"),
        click.option("-g", "--num-gpus", type=click.IntRange(min=0), help="GPUs. [default: 0]"),
        click.option("-c", "--num-cpus", type=click.IntRange(min=1), help="CPUs. [default: 1]"),
    ):
        command = option(command)
    return command


@click.group(
    "resource-requirements",
    epilog=examples(
        "lading resource-requirements list",
        "lading resource-requirements add --name fat --num-cpus 16 --memory 60g --apply-to-all-jobs",
        "lading resource-requirements modify fat --runtime P0DT4H",
    ),
)
def resource_requirements() -> None:
    """Say what jobs need: CPUs, GPUs, memory, time. Changes count from the next start or restart on."""


resource_requirements.add_command(list_command(_COLLECTION, _COLUMNS, "List what jobs may need."))
resource_requirements.add_command(delete_command(_COLLECTION, "resource requirements"))
resource_requirements.add_command(everything(resource_requirements.commands["delete"]), "delete-all")


@resource_requirements.command()
@click.option("-n", "--name", required=True, help="Name of the requirements.")
@_amounts
@click.option("-a", "--apply-to-all-jobs", is_flag=True, help="Every job of the workflow gets them.")
@workflow_option
@output_option
@printing
@click.pass_obj
def add(
    session: Session,
    /,
    *,
    name: str,
    apply_to_all_jobs: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
    **amounts: Any,
) -> None:
    """Add requirements to a workflow."""
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        stored = client.add_document(owner, _COLLECTION, {"name": name, **_given(amounts)})
        number = 0
        if apply_to_all_jobs:
            for job in list(client.list_jobs(owner)):
                client.assign_resource_requirements(owner, str(job["_key"]), str(stored["_key"]))
                number += 1
    text = f"Resource requirements {title_of(stored)} are added" + (f" to {number} jobs." if number else ".")
    session.output(style, quiet=quiet).done(text, {**stored, "num_jobs": number})


@resource_requirements.command()
@click.argument("requirements", metavar="KEY_OR_NAME")
@click.option("-n", "--name", help="New name.")
@_amounts
@workflow_option
@output_option
@printing
@click.pass_obj
def modify(
    session: Session,
    /,
    *,
    requirements: str,
    name: str | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
    **amounts: Any,
) -> None:
    """Change requirements."""
    changes = _given({"name": name, **amounts})
    if not changes:
        raise BadInput("Give at least one option; see: lading resource-requirements modify --help")
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        key = str(find_document(client, owner, _COLLECTION, requirements)["_key"])
        stored = client.modify_document(owner, _COLLECTION, key, changes)
    session.output(style, quiet=quiet).done(f"Resource requirements {title_of(stored)} are changed.", stored)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
