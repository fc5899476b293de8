"""Running a workflow again where something changed: what runs again, and why.

One use case: refuse while jobs run, note what the caller saw of the files, find every job whose
result is out of date, reset it with everything behind it, raise run_id, initialise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lading.api.services.identity import Principal
from lading.api.services.initialize import all_jobs, downstream, empty_ephemeral_data, initialize, reset_jobs
from lading.api.services.input_hashes import changed_jobs
from lading.api.services.ledger import JobState, Ledger, Steps
from lading.api.services.lifecycle import refuse_archived, refuse_missing, refuse_running, reset_columns
from lading.api.services.own_host import offer_own_host
from lading.api.services.workflows import lock_workflow
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.domain.states import JobStatus


class DryRun(Exception):
    """Takes a dry run's transaction back and carries its answer; not an error."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


def restart(
    principal: Principal,
    workflow: str,
    *,
    file_times: Mapping[str, float],
    missing_files: Sequence[str],
    only_uninitialized: bool,
    ignore_missing_data: bool,
    dry_run: bool,
    now_ms: int,
    local_cpus: int | None = None,
) -> Work:
    """Restart a workflow. `file_times` and `missing_files` are what the caller saw, by file key.

    Raises DryRun, which carries the answer, instead of returning it in a dry run.
    """

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        refuse_archived(row, workflow)
        ledger = Ledger(row, now_ms, effects)
        yield from refuse_running(ledger, workflow)
        files = yield from _files(ledger)
        if not ignore_missing_data:
            refuse_missing([files[key]["path"] for key in missing_files if _is_input(files.get(key))])
        jobs = {job.id: job for job in (yield from all_jobs(ledger))}
        reasons: dict[int, str] = {}
        yield from _look_at_files(ledger, files, file_times, missing_files, jobs, reasons)
        yield from empty_ephemeral_data(ledger)
        for job in (yield from changed_jobs(ledger, list(jobs.values()))):
            reasons.setdefault(job.id, "its command, input files or user data changed")
        _unfinished(jobs, reasons, only_uninitialized=only_uninitialized)
        yield from _reset(ledger, jobs, reasons)
        ledger.columns.update(reset_columns(row))
        ledger.columns["run_id"] = row["run_id"] + 1
        answer = {"run_id": row["run_id"] + 1, "jobs": _report(jobs, reasons), "dry_run": dry_run}
        if dry_run:
            answer["run_id"] = row["run_id"]
            raise DryRun(answer)
        yield from offer_own_host(ledger, local_cpus)
        yield from ledger.write_jobs()
        yield from initialize(ledger, only_uninitialized=only_uninitialized, clear_ephemeral=False)
        ledger.add_event(
            {
                "category": "workflow",
                "type": "restart",
                "run_id": ledger.run_id,
                "user": principal.user,
                "message": f"Restarted workflow {workflow}",
            }
        )
        yield from ledger.flush()
        effects.demand = True
        return answer

    return work


def _files(ledger: Ledger) -> Steps:
    rows = yield Statement(
        "SELECT f.*, (SELECT count(*) FROM edge e WHERE e.workflow_id = f.workflow_id "
        "AND e.name = 'produces' AND e.to_id = f.id) AS producers, (SELECT count(*) FROM edge e "
        "WHERE e.workflow_id = f.workflow_id AND e.name = 'needs' AND e.to_id = f.id) AS consumers "
        "FROM file f WHERE f.workflow_id = :id ORDER BY f.id",
        {"id": ledger.workflow_id},
    )
    return {key_of(row): row for row in rows}


def _is_input(file: Any) -> bool:
    return file is not None and not file["producers"] and bool(file["consumers"])


def _look_at_files(
    ledger: Ledger,
    files: Mapping[str, Any],
    file_times: Mapping[str, float],
    missing: Sequence[str],
    jobs: Mapping[int, JobState],
    reasons: dict[int, str],
) -> Steps:
    """Compare what the caller saw with the record, note it, and name the jobs it concerns."""
    edges = yield Statement(
        "SELECT from_id, to_id, name FROM edge WHERE workflow_id = :id AND name IN ('needs', 'produces')",
        {"id": ledger.workflow_id},
    )
    consumers: dict[int, list[int]] = {}
    producers: dict[int, list[int]] = {}
    for edge in edges:
        chosen = consumers if edge["name"] == "needs" else producers
        chosen.setdefault(edge["to_id"], []).append(edge["from_id"])
    updates = []
    for key, file in files.items():
        seen = float(file_times[key]) if key in file_times else None
        if key not in file_times and key not in missing:
            continue
        if seen != file["st_mtime"]:
            updates.append({"id": file["id"], "st_mtime": seen})
            for job_id in consumers.get(file["id"], ()):
                if jobs[job_id].status in (JobStatus.DONE, JobStatus.CANCELED):
                    reasons.setdefault(job_id, f"input file {file['name'] or file['path']} changed")
        if key in missing:
            for job_id in producers.get(file["id"], ()):
                if jobs[job_id].status is JobStatus.DONE:
                    reasons[job_id] = f"output file {file['name'] or file['path']} is missing"
    yield Many("UPDATE file SET st_mtime = :st_mtime, rev = rev + 1 WHERE id = :id", updates)


def _unfinished(jobs: Mapping[int, JobState], reasons: dict[int, str], *, only_uninitialized: bool) -> None:
    """Jobs that never came to an end run anyway; canceled ones are revived, as torc's help promises."""
    for job in jobs.values():
        if job.status is JobStatus.CANCELED:
            reasons.setdefault(job.id, "it was canceled")
        elif job.status is JobStatus.TERMINATED and not only_uninitialized:
            reasons.setdefault(job.id, "it was terminated before its end")
        elif job.status is JobStatus.UNINITIALIZED:
            reasons.setdefault(job.id, "it was reset")
        elif job.status in (JobStatus.READY, JobStatus.SCHEDULED, JobStatus.BLOCKED):
            reasons.setdefault(job.id, "it has not run")


def _reset(ledger: Ledger, jobs: Mapping[int, JobState], reasons: dict[int, str]) -> Steps:
    chosen = [jobs[job_id] for job_id in reasons]
    for job in (yield from downstream(ledger, chosen)):
        if job.status is not JobStatus.DISABLED:
            reasons.setdefault(job.id, "a job before it runs again")
    yield from reset_jobs(
        ledger, [jobs[job_id] for job_id in reasons if jobs[job_id].status is not JobStatus.DISABLED]
    )


def _report(jobs: Mapping[int, JobState], reasons: Mapping[int, str]) -> list[dict[str, str]]:
    return [
        {"key": jobs[job_id].key, "name": jobs[job_id].name, "reason": reasons[job_id]}
        for job_id in sorted(reasons)
    ]


def process_changed_inputs(principal: Principal, workflow: str, *, dry_run: bool, now_ms: int) -> Work:
    """Do what torc's process_changed_job_inputs does: reset done jobs whose inputs changed, and what
    is behind them. A dry run reports the same jobs and changes nothing.
    """

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        ledger = Ledger(row, now_ms, effects)
        if not dry_run:
            yield from empty_ephemeral_data(ledger)
        changed = yield from changed_jobs(ledger, (yield from all_jobs(ledger)))
        affected = {job.id: job for job in [*changed, *(yield from downstream(ledger, changed))]}
        reported = sorted(
            (job for job in affected.values() if job.status is JobStatus.DONE), key=lambda job: job.id
        )
        answer = {"reinitialized_jobs": [job.key for job in reported]}
        if not dry_run:
            yield from reset_jobs(ledger, list(affected.values()))
            yield from ledger.flush()
        return answer

    return work
