"""`lading events`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from lading.toolkit.cli.context import (
    Session,
    chosen_workflow,
    format_option,
    hidden,
    limit_option,
    output_option,
    reading,
    skip_option,
    workflow_option,
)
from lading.toolkit.cli.documents import filter_option
from lading.toolkit.cli.output import Column, Row, as_text, clean, examples, json_text
from lading.toolkit.client.session import QueryValue


def _time(row: Row) -> str:
    stamp = row.get("timestamp")
    if not isinstance(stamp, int | float):
        return ""
    return datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


COLUMNS = [
    Column("time", _time),
    Column("category", "category"),
    Column("type", "type"),
    Column("job", "job_name"),
    Column("node", "node_name"),
    Column("message", "message"),
]


@click.group(
    epilog=examples(
        "lading events list --category job --limit 20",
        "lading events follow --format json",
    )
)
def events() -> None:
    """List what happened in a workflow, or follow it."""


@events.command("list")
@click.option("--category", help="Only of that category, such as job or workflow.")
@filter_option
@skip_option
@limit_option
@reading
@click.pass_obj
def list_events(
    session: Session,
    *,
    category: str | None,
    filters: tuple[tuple[str, QueryValue], ...],
    skip: int | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List events in their order."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        query = {**dict(filters), "skip": skip, **({"category": category} if category else {})}
        found = client.list_events(key, limit=limit, **query)
        session.output(style, quiet=quiet).rows("events", COLUMNS, found)


@events.command("latest-timestamp")
@reading
@click.pass_obj
def latest_timestamp(
    session: Session, *, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Print when the newest event was, in milliseconds since the epoch."""
    with session.reader(folder) as client:
        newest = list(
            client.list_events(
                chosen_workflow(client, workflow), sort_by="timestamp", reverse_sort=True, limit=1
            )
        )
    stamp = newest[0]["timestamp"] if newest else None
    session.output(style, quiet=quiet).done("none" if stamp is None else str(stamp), {"timestamp": stamp})


@events.command()
@click.option("-c", "--category", help="Only of that category.")
@click.option("--after", type=click.IntRange(min=0), help="Begin behind that number. [default: now]")
@workflow_option
@output_option
@format_option
@click.pass_obj
def follow(
    session: Session,
    *,
    category: str | None,
    after: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
) -> None:
    """Print events as they happen, one a line, until Ctrl-C; in JSON one object a line."""
    chosen = style or session.settings.values.output_format
    with session.client(folder) as client:
        key = chosen_workflow(client, workflow)
        begin = client.progress(key).sequence if after is None else after
        for event in client.follow_events(key, after=begin):
            document = event.document
            if category is not None and document.get("category") != category:
                continue
            if chosen == "json":
                click.echo(json_text({"sequence": event.sequence, **document}))
            else:
                separator = "," if chosen == "csv" else "  "
                values = [as_text(column.value(document)) for column in COLUMNS]
                click.echo(clean(separator.join(value for value in values if value or chosen == "csv")))


# torc's names, for hands and scripts that know them.
events.add_command(hidden(follow), "monitor")
events.add_command(hidden(latest_timestamp), "get-latest-event-timestamp")
