"""`lading workflows` for what happens to a workflow after its first run: restart, reset, tune."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from lading.toolkit.cli.context import (
    Session,
    chosen_workflow,
    output_option,
    printing,
    workflow_option,
    yes_option,
)
from lading.toolkit.cli.output import Column, examples, note
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.starting import directory_of, restart_here
from lading.toolkit.client.target import Target
from lading.toolkit.wire.extensions import RestartRequest, RestartResponse

_RESTARTED_COLUMNS = [Column("key", "key"), Column("name", "name"), Column("reason", "reason")]


@click.command(
    epilog=examples(
        "lading workflows restart --dry-run        what would run again, and why",
        "lading workflows restart 12",
        "lading workflows reset-status 12 --failed-only --restart",
    )
)
@click.argument("key", metavar="[WORKFLOW]", required=False)
@click.option("-d", "--dry-run", is_flag=True, help="Change nothing; only say what would run again.")
@click.option("--only-uninitialized", is_flag=True, help="Leave jobs that were terminated as they are.")
@click.option("-i", "--ignore-missing-data", is_flag=True, help="Restart although input files are missing.")
@workflow_option
@output_option
@printing
@click.pass_obj
def restart(
    session: Session,
    *,
    key: str | None,
    dry_run: bool,
    only_uninitialized: bool,
    ignore_missing_data: bool,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Run again what is out of date, and what is behind it; print which jobs, and why.

    The files of the workflow are looked at on this machine. A job runs again when an input file, its
    command or its user data changed, when an output file is gone, or when it never came to an end.
    """
    request = RestartRequest(
        dry_run=dry_run, only_uninitialized=only_uninitialized, ignore_missing_data=ignore_missing_data
    )
    with session.client(folder) as client:
        chosen = chosen_workflow(client, key or workflow, changing=not dry_run)
        target = client.target
    answer = asyncio.run(_restart(target, chosen, request))
    _print_restart(session, chosen, answer, style, quiet=quiet)


@click.command(
    "reset-status",
    epilog=examples(
        "lading workflows reset-status 12",
        "lading workflows reset-status 12 --failed-only --restart",
    ),
)
@click.argument("workflow", nargs=-1, required=True)
@click.option("-f", "--failed-only", is_flag=True, help="Only failed jobs and what is behind them.")
@click.option("-r", "--restart", "then_restart", is_flag=True, help="Restart the workflow afterwards.")
@yes_option
@output_option
@printing
@click.pass_obj
def reset_status(
    session: Session,
    *,
    workflow: tuple[str, ...],
    failed_only: bool,
    then_restart: bool,
    yes: bool,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Forget that workflows were canceled, and what became of their jobs; all jobs, or the failed ones."""
    what = "its failed jobs" if failed_only else "all its jobs"
    with session.client(folder) as client:
        for key in workflow:
            if not yes and not click.confirm(f"Reset workflow {key} and {what}?", err=True):
                note(f"Workflow {key} stays as it is.")
                continue
            client.reset_workflow_status(key)
            client.reset_job_status(key, failed_only=failed_only)
            if not then_restart:
                session.output(style, quiet=quiet).done(f"Workflow {key} is reset.", {"_key": key})
                continue
            answer = asyncio.run(_restart(client.target, key, RestartRequest()))
            _print_restart(session, key, answer, style, quiet=quiet)


@click.command(
    "finish-auto-tune",
    epilog=examples(
        "lading workflows start 12 --auto-tune",
        "lading workflows finish-auto-tune 12",
        "lading workflows restart 12",
    ),
)
@click.argument("key", metavar="[WORKFLOW]", required=False)
@workflow_option
@output_option
@printing
@click.pass_obj
def finish_auto_tune(
    session: Session,
    *,
    key: str | None,
    workflow: str | None,
    folder: Path | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Write what the measured jobs took into their requirements; a restart then runs the others."""
    with session.client(folder) as client:
        chosen = chosen_workflow(client, key or workflow, changing=True)
        message = str(client.finish_auto_tune(chosen)["message"])
        document = {"_key": chosen, "message": message}
        session.output(style, quiet=quiet).done(f"Workflow {chosen}: {message}.", document)


async def _restart(target: Target, workflow: str, request: RestartRequest) -> RestartResponse:
    async with AsyncLading(target) as client:
        directory = await directory_of(client, workflow)
        return await restart_here(client, workflow, directory, request)


def _print_restart(
    session: Session, workflow: str, answer: RestartResponse, style: str | None, *, quiet: bool
) -> None:
    document = {"_key": workflow, **msgspec.to_builtins(answer)}
    chosen = style or session.settings.values.output_format
    if chosen == "json" and not quiet:
        session.output(chosen).document(document)
        return
    rows = [{"_key": job.key, **msgspec.to_builtins(job)} for job in answer.jobs]
    session.output(style, quiet=quiet).rows("jobs", _RESTARTED_COLUMNS, rows)
    if answer.dry_run:
        note(f"{len(rows)} jobs of workflow {workflow} would run again; nothing was changed.")
    else:
        note(f"Workflow {workflow} is restarted (run {answer.run_id}): {len(rows)} jobs run again.")
