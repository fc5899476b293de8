"""`lading allocations`."""

from __future__ import annotations

from pathlib import Path

import click

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
from lading.toolkit.domain.states import AllocationState

_COLUMNS = [
    Column("key", "_key"),
    Column("status", "status"),
    Column("scheduler config", "scheduler_config_id"),
    Column("id there", "scheduler_id"),
    Column("reason", "reason"),
]


@click.group(
    epilog=examples(
        "lading allocations list --status pending",
        "lading allocations show 17",
        "lading allocations cancel 17",
    )
)
def allocations() -> None:
    """List, show and cancel allocations: what schedulers gave, or were asked for."""


@allocations.command("list")
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
        found = client.list_allocations(key, limit=limit, status=status)
        session.output(style, quiet=quiet).rows("allocations", _COLUMNS, found)


@allocations.command()
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
        session.output(style, quiet=quiet).document(client.get_allocation(key, allocation))


@allocations.command()
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
