"""`lading jobs` for what changes jobs, and for what they leave behind beside their output."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

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
from lading.toolkit.cli.documents import delete_command, find_document, list_command, title_of
from lading.toolkit.cli.output import Column, examples
from lading.toolkit.client.sync import Lading
from lading.toolkit.domain.states import JobStatus

_STATISTICS_COLUMNS = [
    Column("job", "job_key"),
    Column("run", "run_id", right=True),
    Column("avg cpu %", "avg_cpu_percent", right=True),
    Column("max cpu %", "max_cpu_percent", right=True),
    Column("avg rss", "avg_rss", right=True),
    Column("max rss", "max_rss", right=True),
    Column("samples", "num_samples", right=True),
    Column("time", "timestamp"),
]


@click.command(epilog=examples("lading jobs add --name merge --command './merge' --blocked-by render"))
@click.option("-c", "--command", required=True, help="What to run; started without a shell.")
@click.option("-n", "--name", help="Name of the job.")
@click.option("-k", "--key", help="Its key. [default: the server chooses one]")
@click.option("--blocked-by", multiple=True, metavar="JOB", help="Runs after that job; may be repeated.")
@click.option("--resource-requirements", metavar="NAME", help="What it needs (key or name).")
@click.option(
    "--cancel-on-blocking-job-failure/--no-cancel-on-blocking-job-failure",
    default=True,
    help="Whether it is canceled when a job before it fails. [default: canceled]",
)
@workflow_option
@output_option
@printing
@click.pass_obj
def add(
    session: Session,
    *,
    command: str,
    name: str | None,
    key: str | None,
    blocked_by: tuple[str, ...],
    resource_requirements: str | None,
    cancel_on_blocking_job_failure: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Add a job to a workflow; a start or restart runs it."""
    document: dict[str, Any] = {
        "command": command,
        "name": name or command.split(" ", 1)[0],
        "cancel_on_blocking_job_failure": cancel_on_blocking_job_failure,
    }
    if key:
        document["_key"] = key
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        if blocked_by:
            document["blocked_by"] = [str(chosen_job(client, owner, job)["_id"]) for job in blocked_by]
        if resource_requirements:
            found = find_document(client, owner, "resource_requirements", resource_requirements)
            document["resource_requirements"] = str(found["_id"])
        stored = client.add_document(owner, "jobs", document)
    session.output(style, quiet=quiet).done(f"Job {title_of(stored)} is added.", stored)


def _status_command(name: str, status: JobStatus, help_text: str, done: str) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("job", nargs=-1, required=True)
    @workflow_option
    @output_option
    @printing
    @click.pass_obj
    def command(
        session: Session,
        *,
        job: tuple[str, ...],
        workflow: str | None,
        folder: Path | None,
        style: str | None,
        quiet: bool,
    ) -> None:
        with session.client(folder) as client:
            owner = chosen_workflow(client, workflow, changing=True)
            for document in [chosen_job(client, owner, name) for name in job]:
                changes = {"status": status.value}
                stored = client.modify_document(owner, "jobs", str(document["_key"]), changes)
                session.output(style, quiet=quiet).done(f"Job {title_of(document)} {done}.", stored)

    return command


disable = _status_command(
    "disable",
    JobStatus.DISABLED,
    "Let jobs not run; the workflow can be complete without them.",
    "is disabled",
)
reset_status = _status_command(
    "reset-status",
    JobStatus.UNINITIALIZED,
    "Forget what became of jobs; a restart runs them, and what is behind them.",
    "is reset",
)


@click.command(
    "assign-resource-requirements",
    epilog=examples("lading jobs assign-resource-requirements fat merge render"),
)
@click.argument("requirements")
@click.argument("job", nargs=-1, required=True)
@workflow_option
@output_option
@printing
@click.pass_obj
def assign_resource_requirements(
    session: Session,
    *,
    requirements: str,
    job: tuple[str, ...],
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Say what jobs need; counts from the next start or restart on."""
    with session.client(folder) as client:
        owner = chosen_workflow(client, workflow, changing=True)
        found = find_document(client, owner, "resource_requirements", requirements)
        for document in [chosen_job(client, owner, name) for name in job]:
            edge = client.assign_resource_requirements(owner, str(document["_key"]), str(found["_key"]))
            text = f"Job {title_of(document)} needs {title_of(found)}."
            session.output(style, quiet=quiet).done(text, edge)


list_process_stats = list_command(
    "job_process_stats",
    _STATISTICS_COLUMNS,
    "List what jobs used: CPU in percent of one CPU, resident memory in bytes.",
    plural="stats",
)
list_process_stats.name = "list-process-stats"


@click.command("list-user-data", epilog=examples("lading jobs list-user-data merge --consumes"))
@click.argument("job")
@click.option("--stores/--consumes", "stores", default=True, help="What it writes, or what it reads.")
@reading
@click.pass_obj
def list_user_data(
    session: Session,
    *,
    job: str,
    stores: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """List the user data that a job writes or reads."""
    relation: Literal["stores", "consumes"] = "stores" if stores else "consumes"
    columns = [Column("key", "_key"), Column("name", "name"), Column("data", "data")]
    with session.reader(folder) as client:
        owner = chosen_workflow(client, workflow)
        key = str(chosen_job(client, owner, job)["_key"])
        found = client.list_job_user_data(owner, key, relation=relation)
        session.output(style, quiet=quiet).rows("user_data", columns, found)


def _find_job(client: Lading, workflow: str, name: str) -> dict[str, Any]:
    return chosen_job(client, workflow, name)


delete = delete_command("jobs", "jobs", _find_job)

COMMANDS = (
    add,
    delete,
    disable,
    reset_status,
    assign_resource_requirements,
    list_process_stats,
    list_user_data,
)
