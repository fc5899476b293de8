"""`lading allocations`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from lading.toolkit.cli.allocation_logs import AllocationLogRequest, print_allocation_logs
from lading.toolkit.cli.context import (
    Session,
    chosen_workflow,
    limit_option,
    output_option,
    printing,
    reading,
    workflow_option,
)
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.client.api import Document
from lading.toolkit.client.sync import Lading
from lading.toolkit.domain.states import AllocationState

_COLUMNS = [
    Column("key", "_key"),
    Column("status", "status"),
    Column("scheduler config", "scheduler_config_name"),
    Column("id there", "scheduler_id"),
    Column("reason", "reason"),
]


@click.group(
    epilog=examples(
        "lading allocations list --status pending",
        "lading allocations show 17",
        "lading allocations logs 17 --follow",
        "lading allocations drain 17",
        "lading allocations cancel 17",
    )
)
def allocations() -> None:
    """List, show, drain and cancel allocations: what schedulers gave, or were asked for."""


@allocations.command(
    "list",
    epilog=examples("lading allocations list --status pending", "lading allocations list --format json"),
)
@click.option(
    "--status", type=click.Choice([state.value for state in AllocationState]), help="Only in that status."
)
@limit_option
@reading
@click.pass_obj
def list_allocations(
    session: Session,
    *,
    status: str | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List the allocations of a workflow."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        names = _config_names(client, key)
        listed = client.list_allocations(key, limit=limit, status=status)
        found = (_named(document, names) for document in listed)
        session.output(style, quiet=quiet).rows("allocations", _COLUMNS, found)


@allocations.command(
    epilog=examples("lading allocations show 17", "lading allocations show 17 --format json")
)
@click.argument("allocation")
@reading
@click.pass_obj
def show(
    session: Session,
    *,
    allocation: str,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Show one allocation."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        document = client.get_allocation(key, allocation)
        session.output(style, quiet=quiet).document(_named(document, _config_names(client, key)))


def _config_names(client: Lading, workflow: str) -> Mapping[str, str]:
    """Return the names of the workflow's configs by their ids."""
    return {config.scheduler_config_id: config.name for config in client.planning(workflow).configs}


def _named(allocation: Document, names: Mapping[str, str]) -> Document:
    """Add the name by which people know the config; of one that was deleted the id is left."""
    identity = str(allocation["scheduler_config_id"])
    return {**allocation, "scheduler_config_name": names.get(identity, identity)}


@allocations.command(epilog=examples("lading allocations cancel 17 18"))
@click.argument("allocation", nargs=-1, required=True)
@workflow_option
@output_option
@printing
@click.pass_obj
def cancel(
    session: Session,
    *,
    allocation: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """End allocations: their jobs are stopped and reported."""
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        for key in allocation:
            client.cancel_allocation(owner, key)
            session.output(style, quiet=quiet).done(f"Allocation {key} is canceled.", {"_key": key})


@allocations.command(
    epilog=examples("lading allocations drain 17", "lading allocations drain 17 --format json")
)
@click.argument("allocation", nargs=-1, required=True)
@workflow_option
@output_option
@printing
@click.pass_obj
def drain(
    session: Session,
    *,
    allocation: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Let allocations finish what they run, take nothing new, and end. One that only waits is canceled."""
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        for key in allocation:
            client.drain_allocation(owner, key)
            session.output(style, quiet=quiet).done(f"Allocation {key} is drained.", {"_key": key})


@allocations.command(
    epilog=examples("lading allocations logs 17", "lading allocations logs 17 --follow --tail 20")
)
@click.argument("allocation")
@click.option("-f", "--follow", is_flag=True, help="Print what is added, until the allocation ends.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only standard error, where it is a file apart.")
@click.option("--tail", type=click.IntRange(min=1), metavar="N", help="Only the last N lines.")
@workflow_option
@output_option
@click.pass_obj
def logs(
    session: Session,
    *,
    allocation: str,
    follow: bool,
    only_stderr: bool,
    tail: int | None,
    workflow: str | None,
    folder: Path | None,
) -> None:
    """Print what an allocation itself wrote: set-up lines, the runner, the batch system.

    For what a job of the workflow wrote see `lading jobs logs`. The file is read where it is, so the
    workflow's output folder must be reachable from this machine.
    """
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        print_allocation_logs(client, AllocationLogRequest(key, allocation, follow, only_stderr, tail))
