"""A workflow's life: initialise, start, cancel, reset, and what stands between it and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from lading.api.services import attempts, dependents
from lading.api.services.identity import Principal
from lading.api.services.initialize import all_jobs, downstream, initialize, reset_jobs
from lading.api.services.ledger import COUNT_COLUMNS, Ledger, Steps
from lading.api.services.own_host import offer_own_host
from lading.api.services.specifications import AUTO_TUNE_OFF
from lading.api.services.workflows import lock_workflow
from lading.api.storage.keys import is_integer_key, key_of
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.domain.states import ACTIVE, WORKFLOW_COMPLETE, JobStatus
from lading.toolkit.errors import BadInput

_OPEN_ATTEMPTS = "SELECT count(*) AS number FROM attempt WHERE workflow_id = :id AND state <> 'ended'"


def refuse_archived(workflow: Any, name: str) -> None:
    if workflow["is_archived"]:
        raise BadInput(f"workflow {name} is archived; unarchive it first (is_archived: false)")


def refuse_running(ledger: Ledger, name: str) -> Steps:
    """Refuse while a job runs, or while one that was taken away may still run."""
    active = ledger.count(*ACTIVE)
    opened = (yield Statement(_OPEN_ATTEMPTS, {"id": ledger.workflow_id}))[0]["number"]
    if active or opened:
        raise BadInput(
            f"workflow {name} has {max(active, opened)} jobs that run or are being ended; "
            "wait for them or cancel the workflow first"
        )


def refuse_missing(files: Sequence[str]) -> None:
    """Refuse when input files that nobody produces were not found."""
    if files:
        raise BadInput(
            f"required input files do not exist: {', '.join(files[:20])}"
            f"{' …' if len(files) > 20 else ''}; create them or use --ignore-missing-data"
        )


def refuse_missing_data(ledger: Ledger) -> Steps:
    """Refuse when user data that no job stores is empty though a job consumes it."""
    rows = yield Statement(
        "SELECT DISTINCT u.id, u.key, u.name FROM edge e JOIN user_data u ON u.id = e.to_id "
        "WHERE e.workflow_id = :id AND e.name = 'consumes' AND u.data = '{}' AND NOT EXISTS "
        "(SELECT 1 FROM edge s WHERE s.workflow_id = e.workflow_id AND s.name = 'stores' "
        "AND s.to_id = u.id) ORDER BY u.id LIMIT 20",
        {"id": ledger.workflow_id},
    )
    if rows:
        names = ", ".join(row["name"] or key_of(row) for row in rows)
        raise BadInput(f"required user data is empty: {names}; store it or use --ignore-missing-data")


def initialize_jobs(
    principal: Principal, workflow: str, *, only_uninitialized: bool, clear_ephemeral: bool, now_ms: int
) -> Work:
    """Evaluate dependencies and make jobs ready or blocked."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        refuse_archived(row, workflow)
        ledger = Ledger(row, now_ms, effects)
        yield from initialize(ledger, only_uninitialized=only_uninitialized, clear_ephemeral=clear_ephemeral)
        yield from ledger.flush()
        effects.demand = True
        return {"message": f"Initialized the jobs of workflow {workflow}"}

    return work


def start(
    principal: Principal,
    workflow: str,
    *,
    missing_files: Sequence[str],
    file_times: Mapping[str, float],
    ignore_missing_data: bool,
    now_ms: int,
    local_cpus: int | None = None,
) -> Work:
    """Run the workflow from its beginning, as one use case: check, reset, raise run_id, initialise.

    Refused while a job runs. `missing_files` are required inputs that the caller, who sees the file
    system, did not find; `file_times` are the modification times of those it found; `local_cpus` are
    this host's CPUs for a workflow that names no scheduler.
    """

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        refuse_archived(row, workflow)
        ledger = Ledger(row, now_ms, effects)
        yield from refuse_running(ledger, workflow)
        if not ignore_missing_data:
            refuse_missing(missing_files)
            yield from refuse_missing_data(ledger)
        yield from offer_own_host(ledger, local_cpus)
        yield from _store_times(ledger, file_times)
        yield from reset_jobs(ledger, (yield from all_jobs(ledger)))
        ledger.columns.update(reset_columns(row))
        ledger.columns["run_id"] = row["run_id"] + 1
        yield from ledger.write_jobs()
        yield from initialize(ledger, only_uninitialized=False, clear_ephemeral=True)
        ledger.add_event(
            {
                "category": "workflow",
                "type": "start",
                "run_id": ledger.run_id,
                "user": principal.user,
                "message": f"Started workflow {workflow}",
            }
        )
        yield from ledger.flush()
        effects.demand = True
        return {"run_id": ledger.run_id}

    return work


def reset_columns(workflow: Any) -> dict[str, Any]:
    """Return what reset_status writes; the run_id stays."""
    return {
        "is_canceled": False,
        "completion_script_claimed": False,
        "auto_tune_status": AUTO_TUNE_OFF,
        "scheduled_compute_node_ids": "[]",
        "status_rev": workflow["status_rev"] + 1,
    }


def _store_times(ledger: Ledger, file_times: Mapping[str, float]) -> Steps:
    yield Many(
        "UPDATE file SET st_mtime = :st_mtime, rev = rev + 1 WHERE workflow_id = :workflow_id "
        "AND ((id = :id AND key IS NULL) OR key = :key) "
        "AND (st_mtime IS NULL OR st_mtime <> :st_mtime)",
        [
            {
                "id": int(key) if is_integer_key(key) else -1,
                "key": key,
                "st_mtime": float(mtime),
                "workflow_id": ledger.workflow_id,
            }
            for key, mtime in file_times.items()
        ],
    )


def reset_status(principal: Principal, workflow: str, now_ms: int) -> Work:
    """Forget that the workflow was canceled or auto-tuned; jobs and run_id stay."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        refuse_archived(row, workflow)
        ledger = Ledger(row, now_ms, effects)
        ledger.columns.update(reset_columns(row))
        yield from ledger.flush()
        # Jobs that stayed ready while the workflow was canceled can be claimed again.
        effects.add_ready(row["id"], row["n_ready"] + row["n_scheduled"])
        effects.demand = True
        return {"message": f"Reset the status of workflow {workflow}"}

    return work


def reset_job_status(principal: Principal, workflow: str, *, failed_only: bool, now_ms: int) -> Work:
    """Make jobs uninitialized: all, or those that failed in this run and what is behind them."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        refuse_archived(row, workflow)
        ledger = Ledger(row, now_ms, effects)
        jobs = yield from all_jobs(ledger)
        if failed_only:
            rows = yield Statement(
                "SELECT job_id FROM result WHERE workflow_id = :id AND run_id = :run_id "
                "AND return_code <> 0 AND job_id IS NOT NULL",
                {"id": row["id"], "run_id": row["run_id"]},
            )
            failed = [ledger.jobs[found["job_id"]] for found in rows if found["job_id"] in ledger.jobs]
            jobs = [*failed, *(yield from downstream(ledger, failed))]
        yield from reset_jobs(ledger, jobs)
        yield from ledger.flush()
        return {"message": f"Reset the status of {len(jobs)} jobs of workflow {workflow}"}

    return work


def cancel(principal: Principal, workflow: str, now_ms: int) -> Work:
    """Cancel a workflow: running jobs are killed, nothing more is claimed until reset_status."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        ledger = Ledger(row, now_ms, effects)
        rows = yield Statement(
            "SELECT * FROM job WHERE workflow_id = :id AND status IN ('submitted', 'submitted_pending')",
            {"id": row["id"]},
        )
        running = ledger.adopt(rows)
        yield from attempts.revoke(ledger, running)
        for job in running:
            ledger.set_status(job, JobStatus.CANCELED)
        # Dependents stay blocked, as in torc; their counters must be right for a later reset.
        if running:
            yield from dependents.count_down(ledger, running)
        if not row["is_canceled"]:
            ledger.columns["is_canceled"] = True
            ledger.columns["status_rev"] = row["status_rev"] + 1
            ledger.add_event(
                {
                    "category": "workflow",
                    "type": "cancel",
                    "user": principal.user,
                    "message": f"Canceled workflow {workflow}",
                }
            )
        yield Statement(
            "UPDATE scheduled_compute_node SET cancel_requested = TRUE WHERE workflow_id = :id "
            "AND status <> 'complete'",
            {"id": row["id"]},
        )
        yield from ledger.flush()
        effects.finished.add(row["id"])
        effects.demand = True
        return {"message": f"Canceled workflow {workflow}"}

    return work


def is_complete(workflow: Any) -> bool:
    """Whether every job is done, canceled, terminated or disabled; or it was canceled and none is active.

    torc reports a canceled workflow as complete only when it also is; its workers then run on with
    the ready jobs that nobody will ever claim.
    """
    if workflow["is_canceled"]:
        return not (workflow["n_submitted"] or workflow["n_submitted_pending"])
    return not any(workflow[COUNT_COLUMNS[status]] for status in set(JobStatus) - WORKFLOW_COMPLETE)


def unclaimed_completion_script(workflow: Any) -> str | None:
    """Return the script that a node is to run once the workflow is complete; None when there is none."""
    if workflow["is_canceled"] or workflow["completion_script_claimed"]:
        return None
    return orjson.loads(workflow["config"]).get("workflow_completion_script") or None
