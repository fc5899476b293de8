"""`lading workflows`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from lading.toolkit.cli.context import (
    Session,
    chosen_workflow,
    given_workflow,
    hidden,
    limit_option,
    output_option,
    printing,
    sorting,
    yes_option,
)
from lading.toolkit.cli.documents import everything as deleting_everything
from lading.toolkit.cli.documents import filter_option, query_of
from lading.toolkit.cli.output import Column, examples, note
from lading.toolkit.cli.specification import user_name
from lading.toolkit.cli.watch import summary
from lading.toolkit.cli.workflow_life import finish_auto_tune, reset_status, restart
from lading.toolkit.cli.workflow_making import (
    add_jobs_from_commands_file,
    create,
    create_from_commands_file,
    create_from_file,
    example,
    export_spec,
    list_scheduler_configs,
    modify,
    set_config,
    show_config,
    template,
)
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.session import QueryValue
from lading.toolkit.client.starting import directory_of, start_here
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target
from lading.toolkit.errors import BadInput

_COLUMNS = [
    Column("key", "_key"),
    Column("name", "name"),
    Column("user", "user"),
    Column("state", "state"),
    Column("jobs", "jobs"),
    Column("created", "timestamp"),
    Column("description", "description"),
]
_ONE = click.argument("workflow", required=False, envvar="LADING_WORKFLOW", callback=given_workflow)


@click.group(
    epilog=examples(
        "lading workflows list",
        "lading workflows status 12",
        "lading workflows cancel 12",
        "lading workflows list --output results     the workflow of a run that has ended",
    )
)
def workflows() -> None:
    """List, show, start, cancel and delete workflows."""


@workflows.command("list")
@click.option("--user", help="Only workflows of that user.")
@click.option("--name", help="Only workflows of that name.")
@click.option(
    "-A/-i",
    "--archived/--all",
    "--only-archived/--include-archived",
    "archived",
    default=None,
    help="Only archived ones; or all. [default: not archived]",
)
@click.option("-a", "--all-users", is_flag=True, hidden=True, help="As without it: workflows of all users.")
@filter_option
@sorting
@limit_option
@output_option
@printing
@click.pass_obj
def list_workflows(
    session: Session,
    *,
    user: str | None,
    name: str | None,
    archived: bool | None,
    all_users: bool,
    filters: tuple[tuple[str, QueryValue], ...],
    sort_by: str | None,
    reverse_sort: bool,
    limit: int | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List workflows with their state."""
    if all_users and user:
        raise BadInput("Give either --user or --all-users.")
    query = query_of(
        filters,
        user=user,
        name=name,
        is_archived=None if archived is False else bool(archived),
        sort_by=sort_by,
        reverse_sort=reverse_sort or None,
    )
    with session.reader(folder) as client:
        found = client.list_workflows(limit=limit, **query)
        rows = (item if quiet else _with_state(client, item) for item in found)
        session.output(style, quiet=quiet).rows("workflows", _COLUMNS, rows)


@workflows.command()
@_ONE
@click.option("--specification", is_flag=True, help="Print the whole workflow as a specification (JSON).")
@output_option
@printing
@click.pass_obj
def show(
    session: Session,
    *,
    workflow: str | None,
    specification: bool,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Show one workflow with its config."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        if specification:
            session.output("json").document(client.workflow_specification(key))
            return
        document = client.get_workflow(key)
        document["config"] = client.workflow_config(key)
        session.output(style, quiet=quiet).document(document)


@workflows.command()
@_ONE
@output_option
@printing
@click.pass_obj
def status(
    session: Session, *, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Show how far a workflow is, and why it stands still if it does."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        progress, planning = client.progress(key), client.planning(key)
    document = {
        "_key": key,
        "state": _state(progress.is_complete, progress.is_canceled, progress.run_id),
        "run_id": progress.run_id,
        "counts": progress.counts,
        "num_failed": progress.num_failed,
        "is_complete": progress.is_complete,
        "is_canceled": progress.is_canceled,
        "active_nodes": progress.active_nodes,
        "open_allocations": progress.open_allocations,
        "reasons": progress.reasons,
        "planning": msgspec.to_builtins(planning.configs),
    }
    session.output(style, quiet=quiet).document(document)


@workflows.command()
@_ONE
@click.option(
    "-i", "--ignore-missing-data", is_flag=True, help="Start although input files or user data are missing."
)
@click.option(
    "-a",
    "--auto-tune",
    "--auto-tune-resource-requirements",
    "auto_tune",
    is_flag=True,
    help="Run one job of each kind, to measure it; the others wait.",
)
@output_option
@printing
@click.pass_obj
def start(
    session: Session,
    *,
    workflow: str | None,
    ignore_missing_data: bool,
    auto_tune: bool,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Start a workflow, or start it again from its beginning as a new run.

    With --auto-tune: when the measured jobs have ended, `lading workflows finish-auto-tune` writes what they
    took into their requirements, and `lading workflows restart` runs the others.
    """
    with session.client(folder) as client:
        key = chosen_workflow(client, workflow, changing=True)
        target = client.target
    run_id = asyncio.run(_start(target, key, ignore_missing_data=ignore_missing_data, auto_tune=auto_tune))
    answer = {"_key": key, "run_id": run_id}
    session.output(style, quiet=quiet).done(f"Workflow {key} is started (run {run_id}).", answer)


@workflows.command()
@click.argument("workflow", nargs=-1, required=True)
@output_option
@printing
@click.pass_obj
def cancel(
    session: Session, *, workflow: tuple[str, ...], folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Cancel the running jobs of workflows; start no others."""
    with session.client(folder) as client:
        for key in workflow:
            client.cancel_workflow(key)
            session.output(style, quiet=quiet).done(f"Workflow {key} is canceled.", {"_key": key})


@workflows.command()
@click.argument("workflow", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of your own, archived ones too.")
@yes_option
@output_option
@printing
@click.pass_obj
def delete(
    session: Session,
    *,
    workflow: tuple[str, ...],
    everything: bool,
    yes: bool,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Delete workflows with all their jobs and results; files stay."""
    if bool(workflow) == everything:
        raise BadInput("Give either the keys of the workflows to delete, or --all.")
    with session.client(folder) as client:
        owner = session.settings.values.user or user_name()
        for key in _own_workflows(client, owner) if everything else workflow:
            name = client.get_workflow(key).get("name") or "unnamed"
            question = f"Delete workflow {key} ({name}) with all its jobs and results?"
            if not yes and not click.confirm(question, err=True):
                note(f"Workflow {key} stays.")
                continue
            client.delete_workflow(key)
            session.output(style, quiet=quiet).done(f"Workflow {key} is deleted.", {"_key": key})


def _own_workflows(client: Lading, user: str) -> list[str]:
    # Listed before the first is deleted: pages would move.
    found = [
        item for archived in (False, True) for item in client.list_workflows(user=user, is_archived=archived)
    ]
    return [str(item["_key"]) for item in found]


async def _start(target: Target, workflow: str, *, ignore_missing_data: bool, auto_tune: bool) -> int:
    async with AsyncLading(target) as client:
        directory = await directory_of(client, workflow)
        return await start_here(
            client, workflow, directory, ignore_missing_data=ignore_missing_data, auto_tune=auto_tune
        )


def _with_state(client: Lading, workflow: dict[str, Any]) -> dict[str, Any]:
    progress = client.progress(str(workflow["_key"]))
    state = _state(progress.is_complete, progress.is_canceled, progress.run_id)
    return {**workflow, "state": state, "jobs": summary(progress)}


def _state(is_complete: bool, is_canceled: bool, run_id: int) -> str:
    if is_canceled:
        return "canceled"
    if is_complete and run_id > 0:
        return "complete"
    return "started" if run_id > 0 else "not started"


for _command in (
    restart, reset_status, finish_auto_tune, create, create_from_file, create_from_commands_file,
    add_jobs_from_commands_file, modify, show_config, set_config, example, template, export_spec,
    list_scheduler_configs,
):  # fmt: skip
    workflows.add_command(_command)
workflows.add_command(hidden(status), "show-status")
workflows.add_command(deleting_everything(delete), "delete-all")
# torc's names, for hands and scripts that know them.
for _name, _command in {
    "create-from-json-file": create_from_file,
    "set-compute-node-parameters": set_config,
    "process-auto-tune-resource-requirements-results": finish_auto_tune,
}.items():
    workflows.add_command(hidden(_command), _name)
