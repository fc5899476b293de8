"""`lading jobs`, and `lading explain`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from lading.toolkit.cli import job_changes
from lading.toolkit.cli.context import (
    Session,
    chosen_job,
    chosen_workflow,
    format_option,
    hidden,
    limit_option,
    output_option,
    printing,
    reading,
    skip_option,
    sorting,
    workflow_option,
)
from lading.toolkit.cli.documents import everything, filter_option
from lading.toolkit.cli.job_functions import run_function_command, run_postprocess_command
from lading.toolkit.cli.job_logs import LogRequest, print_logs
from lading.toolkit.cli.node import run_node
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.cli.waiting import wait_and_report
from lading.toolkit.client.api import AsyncLading, Document
from lading.toolkit.client.session import QueryValue
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target
from lading.toolkit.domain.states import JOB_COMPLETE, JobStatus
from lading.toolkit.errors import BadInput

_COLUMNS = [
    Column("key", "_key"),
    Column("name", "name"),
    Column("status", "status"),
    Column("command", "command"),
]
_ATTEMPT_COLUMNS = [
    Column("job", "job_name"),
    Column("run", "run_id", right=True),
    Column("attempt", "number", right=True),
    Column("state", "state"),
    Column("cause", "cause"),
    Column("return code", "return_code", right=True),
    Column("signal", "signal", right=True),
    Column("seconds", "exec_seconds", right=True),
    Column("host", "hostname"),
    Column("started", "started_at"),
    Column("message", "message"),
]
_STATUSES = click.Choice([status.value for status in JobStatus])


@click.group(
    epilog=examples(
        "lading jobs list --status submitted",
        "lading jobs logs merge --follow",
        "lading jobs attempts merge",
        "lading jobs retry --failed",
        "lading jobs wait",
    )
)
def jobs() -> None:
    """List jobs, read their logs, cancel and retry them.

    A job is named by its key or its name.
    """


@jobs.command("list")
@filter_option
@click.option("--status", type=_STATUSES, help="Only jobs in that status.")
@click.option("--name", help="Only jobs of that name.")
@sorting
@skip_option
@limit_option
@reading
@click.pass_obj
def list_jobs(
    session: Session,
    *,
    filters: tuple[tuple[str, QueryValue], ...],
    status: str | None,
    name: str | None,
    sort_by: str | None,
    reverse_sort: bool,
    skip: int | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List the jobs of a workflow."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        query: dict[str, QueryValue] = {
            **dict(filters), "sort_by": sort_by, "reverse_sort": reverse_sort or None, "skip": skip,
        }  # fmt: skip
        query |= {field: value for field, value in (("status", status), ("name", name)) if value is not None}
        found = client.list_jobs(key, limit=limit, **query)
        session.output(style, quiet=quiet).rows("jobs", _COLUMNS, found)


@jobs.command()
@click.argument("job")
@reading
@click.pass_obj
def show(
    session: Session, *, job: str, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Show one job."""
    with session.reader(folder) as client:
        document = chosen_job(client, chosen_workflow(client, workflow), job)
        session.output(style, quiet=quiet).document(document)


@jobs.command(
    epilog=examples(
        "lading jobs logs merge",
        "lading jobs logs merge --follow --stderr",
        "lading jobs logs 4711 --attempt 1 --tail 20",
    )
)
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Print what is added, until the job ends.")
@click.option("--stderr/--stdout", "only_stderr", default=None, help="Only one of the two. [default: both]")
@click.option("--attempt", type=click.IntRange(min=1), help="Of that attempt. [default: the last]")
@click.option("--tail", type=click.IntRange(min=1), metavar="N", help="Only the last N lines.")
@workflow_option
@output_option
@click.pass_obj
def logs(
    session: Session,
    *,
    job: str,
    follow: bool,
    only_stderr: bool | None,
    attempt: int | None,
    tail: int | None,
    workflow: str | None,
    folder: Path | None,
) -> None:
    """Print what a job wrote to stdout and stderr.

    The files are read where they are, so the folder must be reachable from this machine.
    """
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        document = chosen_job(client, key, job)
        request = LogRequest(key, str(document["_key"]), attempt, only_stderr, tail, follow)
        print_logs(client, request)


@jobs.command()
@click.argument("job", required=False)
@click.option("--run-id", type=click.IntRange(min=1), help="Only attempts of that run.")
@limit_option
@reading
@click.pass_obj
def attempts(
    session: Session,
    *,
    job: str | None,
    run_id: int | None,
    limit: int | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List how often jobs were tried, where, and why each attempt ended."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        job_key = str(chosen_job(client, key, job)["_key"]) if job else None
        found = client.list_attempts(key, job_key=job_key, run_id=run_id, limit=limit)
        rows = (msgspec.to_builtins(item) for item in found)
        session.output(style, quiet=quiet).rows("attempts", _ATTEMPT_COLUMNS, rows)


@jobs.command()
@click.argument("job", nargs=-1, required=True)
@workflow_option
@output_option
@printing
@click.pass_obj
def cancel(
    session: Session,
    *,
    job: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Cancel jobs: running ones are told to end, others will not run."""
    with session.client(folder) as client:
        key = chosen_workflow(client, workflow, changing=True)
        # All names are looked up first: a misspelt one cancels nothing.
        for document in [chosen_job(client, key, name) for name in job]:
            client.cancel_job(key, str(document["_key"]))
            session.output(style, quiet=quiet).done(f"Job {_title(document)} is canceled.", document)


@jobs.command()
@click.argument("job", nargs=-1)
@click.option("--failed", is_flag=True, help="All jobs that failed or were stopped in the newest run.")
@workflow_option
@output_option
@printing
@click.pass_obj
def retry(
    session: Session,
    *,
    job: tuple[str, ...],
    failed: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Let ended jobs run again."""
    if bool(job) == failed:
        raise BadInput("Give either the jobs to retry, or --failed.")
    with session.client(folder) as client:
        key = chosen_workflow(client, workflow, changing=True)
        found = _failed_jobs(client, key) if failed else [chosen_job(client, key, name) for name in job]
        for document in found:
            client.retry_job(key, str(document["_key"]))
            session.output(style, quiet=quiet).done(f"Job {_title(document)} will run again.", document)


@jobs.command()
@click.argument("job", nargs=-1)
@workflow_option
@output_option
@format_option
@click.pass_context
def wait(
    ctx: click.Context,
    *,
    job: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
) -> None:
    """Wait until jobs (by default all) have ended; exit with 1 if one did not succeed."""
    session: Session = ctx.obj
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        name = str(client.get_workflow(key).get("name") or key)
        if not job:
            ctx.exit(wait_and_report(client.target, key, name, style or "table"))
        keys = [str(chosen_job(client, key, item)["_key"]) for item in job]
        ended = asyncio.run(_wait_for_jobs(client.target, key, keys))
        codes = {str(item["job_key"]): item for item in client.list_results(key, run_id=_run_id(client, key))}
    rows = [{**item, "return_code": codes.get(str(item["_key"]), {}).get("return_code")} for item in ended]
    session.output(style).rows(
        "jobs", [*_COLUMNS[:3], Column("return code", "return_code", right=True)], rows
    )
    if any(row["status"] != JobStatus.DONE or row["return_code"] for row in rows):
        ctx.exit(1)


@click.command(
    epilog=examples(
        "lading explain merge",
        "lading explain 4711 --workflow 12 --format json",
    )
)
@click.argument("job")
@reading
@click.pass_obj
def explain(
    session: Session, *, job: str, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Say why a job is in its state: what it waits for, why no node takes it, how it ended."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        document = chosen_job(client, key, job)
        reasons = client.explain_job(key, str(document["_key"]))
    answer = {"_key": document["_key"], "name": document.get("name"), "status": document.get("status")}
    text = "\n".join(
        [f"Job {_title(document)} is {document.get('status')}.", *(f"- {item}" for item in reasons)]
    )
    session.output(style, quiet=quiet).done(text, {**answer, "reasons": reasons})


async def _wait_for_jobs(target: Target, workflow: str, keys: list[str]) -> list[Document]:
    async with AsyncLading(target) as client:
        after: int | None = None
        while True:
            # The sequence is read before the jobs: a change in between ends the next wait at once.
            progress = await client.progress(workflow, after=after, wait_seconds=20.0)
            after = progress.sequence
            found = [await client.get_job(workflow, key) for key in keys]
            if progress.is_canceled or all(_has_ended(job) for job in found):
                return found


def _has_ended(job: Document) -> bool:
    return job.get("status") in JOB_COMPLETE or job.get("status") == JobStatus.DISABLED


def _failed_jobs(client: Lading, workflow: str) -> list[Document]:
    keys = {
        str(item["job_key"])
        for item in client.list_results(workflow, run_id=_run_id(client, workflow))
        if item["return_code"] != 0
    }
    return [job for job in client.list_jobs(workflow) if str(job["_key"]) in keys and _has_ended(job)]


def _run_id(client: Lading, workflow: str) -> int:
    return int(client.workflow_status(workflow)["run_id"])


def _title(document: dict[str, Any]) -> str:
    return f"{document['_key']} ({document.get('name') or 'unnamed'})"


for _command in (*job_changes.COMMANDS, run_function_command, run_postprocess_command):
    jobs.add_command(_command)
# torc's name for a runner.
jobs.add_command(hidden(run_node), "run")
jobs.add_command(everything(jobs.commands["delete"]), "delete-all")
