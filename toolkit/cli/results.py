"""`lading results`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from lading.toolkit.cli.context import (
    Session,
    chosen_job,
    chosen_workflow,
    limit_option,
    reading,
    skip_option,
    sorting,
)
from lading.toolkit.cli.documents import delete_command, filter_option
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.client.api import Document
from lading.toolkit.client.session import QueryValue

_COLUMNS = [
    Column("job", "job_name"),
    Column("job key", "job_key"),
    Column("run", "run_id", right=True),
    Column("status", "status"),
    Column("return code", "return_code", right=True),
    Column("seconds", lambda row: 60.0 * float(row["exec_time_minutes"]), right=True),
    Column("completed", "completion_time"),
]


@click.group(
    epilog=examples(
        "lading results list",
        "lading results list --failed --format json",
        "lading results list --job merge --all-runs",
    )
)
def results() -> None:
    """List the results of jobs."""


@results.command("list")
@click.option("--job", help="Only of that job (key or name).")
@click.option("--run-id", type=click.IntRange(min=1), help="Only of that run. [default: the newest]")
@click.option("--all-runs", is_flag=True, help="Of all runs.")
@click.option("--failed", is_flag=True, help="Only with a return code other than 0.")
@filter_option
@sorting
@skip_option
@limit_option
@reading
@click.pass_obj
def list_results(
    session: Session,
    *,
    job: str | None,
    run_id: int | None,
    all_runs: bool,
    failed: bool,
    filters: tuple[tuple[str, QueryValue], ...],
    sort_by: str | None,
    reverse_sort: bool,
    skip: int | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List results with the names of their jobs."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        if job:
            wanted = chosen_job(client, key, job)
            names = {str(wanted["_key"]): wanted.get("name")}
        else:
            names = {str(item["_key"]): item.get("name") for item in client.list_jobs(key)}
        if run_id is None and not all_runs:
            run_id = int(client.workflow_status(key)["run_id"])
        job_key = next(iter(names)) if job else None
        # With --failed the limit counts what is shown, not what was looked at.
        query: dict[str, QueryValue] = {
            **dict(filters), "sort_by": sort_by, "reverse_sort": reverse_sort or None, "skip": skip,
        }  # fmt: skip
        query |= {
            field: value for field, value in (("job_key", job_key), ("run_id", run_id)) if value is not None
        }
        found = client.list_results(key, limit=None if failed else limit, **query)
        rows = ({**item, "job_name": names.get(str(item["job_key"]))} for item in found)
        shown = _failed(rows, limit) if failed else rows
        session.output(style, quiet=quiet).rows("results", _COLUMNS, shown)


def _failed(rows: Iterable[Document], limit: int | None) -> Iterator[Document]:
    number = 0
    for row in rows:
        if row["return_code"] == 0:
            continue
        if limit is not None and number >= limit:
            return
        number += 1
        yield row


results.add_command(delete_command("results", "results"))
