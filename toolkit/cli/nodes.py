"""`lading nodes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.toolkit.cli.context import (
    Session,
    chosen_workflow,
    limit_option,
    output_option,
    printing,
    reading,
    workflow_option,
    yes_option,
)
from lading.toolkit.cli.output import Column, Row, examples, note
from lading.toolkit.cli.stats import list_resource_stats


def _resource(name: str) -> Any:
    def value(row: Row) -> object:
        return (row.get("resources") or {}).get(name)

    return value


COLUMNS = [
    Column("key", "_key"),
    Column("host", "hostname"),
    Column("state", lambda row: row.get("state") or ("active" if row.get("is_active") else "left")),
    Column("cpus", _resource("num_cpus"), right=True),
    Column("memory GiB", _resource("memory_gb"), right=True),
    Column("gpus", _resource("num_gpus"), right=True),
    Column("pid", "pid", right=True),
    Column("started", "start_time"),
]


@click.group(
    epilog=examples(
        "lading nodes list",
        "lading nodes drain 31",
        "lading nodes declare-lost 31",
    )
)
def nodes() -> None:
    """List, drain and give up compute nodes."""


@nodes.command("list")
@click.option("--active/--all", "active", default=False, help="Only nodes that are alive. [default: all]")
@click.option("--hostname", help="Only nodes on that host.")
@limit_option
@reading
@click.pass_obj
def list_nodes(
    session: Session,
    *,
    active: bool,
    hostname: str | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List the nodes of a workflow."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        found = client.list_compute_nodes(key, limit=limit, is_active=active or None, hostname=hostname)
        session.output(style, quiet=quiet).rows("compute_nodes", COLUMNS, found)


@nodes.command()
@click.argument("node", nargs=-1, required=True)
@workflow_option
@output_option
@printing
@click.pass_obj
def drain(
    session: Session,
    *,
    node: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Let nodes finish what they run, take nothing new, and leave."""
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        for key in node:
            client.drain_compute_node(owner, key)
            session.output(style, quiet=quiet).done(f"Node {key} is drained.", {"_key": key})


@nodes.command("declare-lost")
@click.argument("node", nargs=-1, required=True)
@yes_option
@workflow_option
@output_option
@printing
@click.pass_obj
def declare_lost(
    session: Session,
    *,
    node: tuple[str, ...],
    yes: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Give up nodes by hand: their jobs may run again elsewhere.

    Only for a node of which surely nothing is alive any more, such as a machine that was switched off:
    a job that still runs there would run twice.
    """
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        for key in node:
            question = f"Is surely no process of node {key} alive? Its jobs will run again elsewhere."
            if not yes and not click.confirm(question, err=True):
                note(f"Node {key} keeps its lease.")
                continue
            client.declare_compute_node_lost(owner, key)
            session.output(style, quiet=quiet).done(f"Node {key} is given up.", {"_key": key})


nodes.add_command(list_resource_stats)
