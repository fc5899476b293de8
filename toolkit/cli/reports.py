"""`lading reports`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from lading.toolkit.cli.context import Session, chosen_job, chosen_workflow, output_option, workflow_option
from lading.toolkit.cli.output import examples
from lading.toolkit.client.sync import Lading


@click.group(epilog=examples("lading reports results", "lading reports results merge --run-id 2"))
def reports() -> None:
    """Tell what became of jobs, with the places of their logs."""


@reports.command(
    epilog=examples(
        "lading reports results | jq '.jobs[].runs[].stderr_path'",
        "lading reports results merge --run-id 1 --run-id 2",
    )
)
@click.argument("job", nargs=-1)
@click.option(
    "-r", "--run-id", type=click.IntRange(min=1), multiple=True, help="Only of that run; repeatable."
)
@workflow_option
@output_option
@click.pass_obj
def results(
    session: Session,
    *,
    job: tuple[str, ...],
    run_id: tuple[int, ...],
    workflow: str | None,
    folder: Path | None,
) -> None:
    """Print all runs of jobs (by default of all) with results, hosts and log files, as JSON."""
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        jobs = [chosen_job(client, key, name) for name in job] or list(client.list_jobs(key))
        document = {
            "workflow": client.get_workflow(key),
            "jobs": _report(client, key, jobs, set(run_id), named=bool(job)),
        }
    session.output("json").document(document)


def _report(
    client: Lading, workflow: str, jobs: list[dict[str, Any]], run_ids: set[int], *, named: bool
) -> list[dict[str, Any]]:
    """Return jobs[].runs[]; everything is read in a few lists, not job by job, unless few are named."""
    filters: list[str | None] = [str(item["_key"]) for item in jobs] if named else [None]
    found = [item for key in filters for item in client.list_results(workflow, job_key=key)]
    results = {(str(item["job_key"]), item["run_id"]): item for item in found}
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for key in filters:
        for attempt in client.list_attempts(workflow, job_key=key):
            of_job = runs.setdefault(attempt.job_key, {})
            of_job.setdefault(attempt.run_id, []).append(msgspec.to_builtins(attempt))
    # A torc worker that never claimed leaves a result and no attempt of ours.
    for job_key, run_id in results:
        runs.setdefault(job_key, {}).setdefault(run_id, [])
    return [
        {
            "job_key": str(item["_key"]),
            "job_name": item.get("name"),
            "status": item.get("status"),
            "runs": [
                _run(results.get((str(item["_key"]), run_id)), run_id, attempts)
                for run_id, attempts in sorted(runs.get(str(item["_key"]), {}).items())
                if not run_ids or run_id in run_ids
            ],
        }
        for item in jobs
    ]


def _run(result: dict[str, Any] | None, run_id: int, attempts: list[dict[str, Any]]) -> dict[str, Any]:
    kept = ("return_code", "status", "exec_time_minutes", "completion_time")
    last = attempts[-1] if attempts else {}
    return {
        "run_id": run_id,
        **{name: (result or {}).get(name) for name in kept},
        **{name: last.get(name) for name in ("hostname", "stdout_path", "stderr_path", "cause", "message")},
        "attempts": attempts,
    }
