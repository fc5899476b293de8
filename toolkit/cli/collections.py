"""`lading collections`: what is stored, and joins over its edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import click

from lading.toolkit.cli.context import Session, chosen_workflow, hidden, limit_option, reading, skip_option
from lading.toolkit.cli.documents import filter_option
from lading.toolkit.cli.output import Column, Row, examples
from lading.toolkit.client.api import Document
from lading.toolkit.client.session import QueryValue


@dataclass(frozen=True, slots=True)
class Join:
    """A join that has a name: documents of a collection with their neighbours over an edge."""

    collection: str
    edge: str
    direction: Literal["outbound", "inbound"] = "outbound"


PREPARED: Final = {
    "compute-node-executed-jobs": Join("compute_nodes", "executed"),
    "compute-node-utilization": Join("compute_nodes", "node_used"),
    "job-blocks": Join("jobs", "blocks"),
    "job-needs-file": Join("jobs", "needs"),
    "job-produces-file": Join("jobs", "produces"),
    "job-consumes-data": Join("jobs", "consumes"),
    "job-stores-data": Join("jobs", "stores"),
    "job-schedulers": Join("jobs", "scheduled_bys"),
    "job-requirements": Join("resource_requirements", "requires", "inbound"),
    "job-results": Join("results", "returned", "inbound"),
    "job-process-utilization": Join("job_process_stats", "process_used", "inbound"),
}


@click.group(
    epilog=examples(
        "lading collections list",
        "lading collections join job-results --filter return_code=1",
        "lading collections join-by-edge jobs blocks",
    )
)
def collections() -> None:
    """List what a workflow's documents are kept in, and join them over their edges."""


@collections.command("list")
@reading
@click.pass_obj
def list_collections(
    session: Session, *, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """List the names of a workflow's collections."""
    with session.reader(folder) as client:
        names = client.collection_names(chosen_workflow(client, workflow))
    rows = [{"name": name} for name in names]
    session.output(style, quiet=quiet).rows("collections", [Column("name", "name")], rows)


@collections.command()
@click.argument("name", type=click.Choice(list(PREPARED)))
@filter_option
@skip_option
@limit_option
@reading
@click.pass_obj
def join(
    session: Session,
    *,
    name: str,
    filters: tuple[tuple[str, QueryValue], ...],
    skip: int | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Print a join that has a name; the filters are on its first collection."""
    chosen = PREPARED[name]
    _print(session, chosen, {**dict(filters), "skip": skip}, limit, workflow, folder, style, quiet=quiet)


@collections.command("join-by-edge")
@click.argument("collection")
@click.argument("edge")
@click.option("--outbound/--inbound", "outbound", default=True, help="Which way the edge is followed.")
@filter_option
@skip_option
@limit_option
@reading
@click.pass_obj
def join_by_edge(
    session: Session,
    *,
    collection: str,
    edge: str,
    outbound: bool,
    filters: tuple[tuple[str, QueryValue], ...],
    skip: int | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Print the documents of a collection with their neighbours over an edge, one row an edge."""
    chosen = Join(collection, edge, "outbound" if outbound else "inbound")
    _print(session, chosen, {**dict(filters), "skip": skip}, limit, workflow, folder, style, quiet=quiet)


@collections.command("list-joins")
@click.option("--format", "style", type=click.Choice(["table", "csv", "json"]), help="How to print.")
@click.pass_obj
def list_joins(session: Session, *, style: str | None) -> None:
    """List the joins that have a name."""
    columns = [Column(title, title) for title in ("name", "collection", "edge", "direction")]
    rows = [
        {"name": name, "collection": item.collection, "edge": item.edge, "direction": item.direction}
        for name, item in PREPARED.items()
    ]
    session.output(style).rows("joins", columns, rows)


def _print(
    session: Session,
    chosen: Join,
    filters: dict[str, QueryValue],
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    *,
    quiet: bool,
) -> None:
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        rows = client.join(
            key, chosen.collection, chosen.edge, direction=chosen.direction, limit=limit, **filters
        )
        first = next(rows, None)
        found = iter(()) if first is None else _chain(first, rows)
        session.output(style, quiet=quiet).rows("items", _columns(first), found)


def _chain(first: Document, rest: Iterator[Document]) -> Iterator[Document]:
    yield first
    yield from rest


def _columns(row: Row | None) -> list[Column]:
    """Return the members of both ends and of the edge that the first row has."""
    if row is None:
        return [Column("from", "from"), Column("to", "to")]
    columns = []
    for end in ("from", "to", "edge"):
        names = [name for name in row[end] if name not in {"_id", "_rev", "_from", "_to"}]
        columns += [
            Column(f"{end} {name.lstrip('_')}", _member(end, name)) for name in names if end != "edge"
        ]
        if end == "edge" and "data" in names:
            columns.append(Column("edge data", _member(end, "data")))
    return columns


def _member(end: str, name: str) -> Callable[[Row], object]:
    return lambda row: row[end].get(name)


# torc's name for it.
collections.add_command(hidden(list_joins), "show-join-configurations")
