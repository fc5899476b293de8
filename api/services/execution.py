"""What torc's own clients call while jobs run: claim, start, complete, change a status.

These carry the job's `_rev` as their fence, where our runner's `sync` carries attempt ids. A torc
client never renews a lease, so nothing of its jobs is swept by time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lading.api.services import attempts, claims, completion_script, lifecycle, nodes
from lading.api.services.attempts import End, start_event
from lading.api.services.identity import Principal
from lading.api.services.initialize import downstream, reset_jobs
from lading.api.services.job_documents import job_document, parse_revision
from lading.api.services.jobs import find_job_row, force_status
from lading.api.services.ledger import JobState, Ledger, Steps
from lading.api.services.workflows import find_workflow, lock_workflow
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.domain.packing import Offer, SortMethod, refusals
from lading.toolkit.domain.states import JOB_COMPLETE, Cause, JobStatus
from lading.toolkit.errors import BadInput, Conflict

MAXIMUM_LIMIT = 100_000


def prepare_jobs(
    principal: Principal, workflow: str, offer: Offer, method: SortMethod, limit: int, now_ms: int
) -> Work:
    """Hand a worker jobs that fit what it has left (torc's prepare_jobs_for_submission)."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        if row["is_canceled"]:
            return {"jobs": [], "reason": f"workflow {workflow} is canceled"}
        ledger = Ledger(row, now_ms, effects)
        rows = yield from claims.choose(ledger, offer, method, candidates=limit)
        documents = yield from _claim(ledger, rows)
        reason = "" if documents else (yield from _no_jobs(ledger, offer))
        return {"jobs": documents, "reason": reason}

    return work


def prepare_next_jobs(principal: Principal, workflow: str, limit: int, now_ms: int) -> Work:
    """Hand over the first claimable jobs, whatever they ask for."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        if row["is_canceled"]:
            return {"jobs": []}
        ledger = Ledger(row, now_ms, effects)
        rows = yield from claims.first_in_storage_order(ledger, limit)
        return {"jobs": (yield from _claim(ledger, rows))}

    return work


def _claim(ledger: Ledger, rows: Any) -> Steps:
    yield from claims.open_attempts(ledger, rows, None)
    yield from ledger.flush()
    ids = [row["id"] for row in rows]
    fresh = yield Statement("SELECT * FROM job WHERE id IN_LIST(:ids)", {"ids": ids})
    by_id = {row["id"]: row for row in fresh}
    return [job_document(by_id[row_id], ledger.workflow_key) for row_id in ids]


def _no_jobs(ledger: Ledger, offer: Offer) -> Steps:
    rows = yield Statement(
        "SELECT * FROM request_class WHERE workflow_id = :id AND n_claimable > 0 ORDER BY id LIMIT 10",
        {"id": ledger.workflow_id},
    )
    if not rows:
        return "no job is ready"
    texts = []
    for row in rows:
        why = "; ".join(refusals(claims.request_class(row), offer)) or "does not fit beside the others"
        texts.append(f"{row['n_claimable']} ready jobs: each {why}")
    return ". ".join(texts)


# ---- start and complete ---------------------------------------------------------------------


def start_job(
    principal: Principal, workflow: str, key: str, *, rev: str, run_id: int, node: str, now_ms: int
) -> Work:
    """Confirm that a claimed job runs. Everything is checked before anything is stored."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        stored = yield from find_job_row(row, key)
        compute_node = yield from nodes.find_node(row, node)
        ledger = Ledger(row, now_ms, effects)
        [job] = ledger.adopt([stored])
        if job.status is not JobStatus.SUBMITTED_PENDING:
            raise BadInput(f"job {key} is {job.status.value}; only a submitted_pending job can be started")
        _check_fence(row, stored, rev, run_id)
        yield from _take_attempt(ledger, job, stored, compute_node)
        ledger.set_status(job, JobStatus.SUBMITTED)
        yield Statement(
            "UPDATE attempt SET state = 'running', compute_node_id = :node, started_ms = :now "
            "WHERE id = :id AND state = 'claimed'",
            {"id": job.open_attempt, "node": compute_node["id"], "now": now_ms},
        )
        ledger.add_event(start_event(job, compute_node["hostname"]))
        yield from ledger.flush()
        return (yield from _document(ledger, job))

    return work


def _take_attempt(ledger: Ledger, job: JobState, stored: Any, compute_node: Any) -> Steps:
    """See to it that the job's open attempt may run on that node."""
    if job.open_attempt is None:
        # Somebody declared it submitted_pending: no claim has opened an attempt.
        yield from claims.open_attempts(ledger, [stored], compute_node["id"])
        return
    [attempt] = yield Statement("SELECT * FROM attempt WHERE id = :id", {"id": job.open_attempt})
    if attempt["compute_node_id"] not in (None, compute_node["id"]):
        # Two nodes would run it: the other one's claim stands until it ends it.
        raise Conflict(f"job {job.key} was claimed by compute node {attempt['compute_node_id']}")


def complete_job(
    principal: Principal,
    workflow: str,
    key: str,
    *,
    status: str,
    rev: str,
    run_id: int,
    node: str,
    result: Mapping[str, Any],
    now_ms: int,
) -> Work:
    """Store a job's result, its status, and what follows for the jobs behind it."""

    def work(effects: Effects) -> Steps:
        if status not in {complete.value for complete in JOB_COMPLETE}:
            accepted = ", ".join(sorted(complete.value for complete in JOB_COMPLETE))
            raise BadInput(f"status: {status!r} does not complete a job; accepted: {accepted}.")
        row = yield from lock_workflow(principal, workflow)
        stored = yield from find_job_row(row, key)
        compute_node = yield from nodes.find_node(row, node)
        ledger = Ledger(row, now_ms, effects)
        [job] = ledger.adopt([stored])
        # A job that was canceled under its worker's hands is reported with the revision it was
        # started with; refusing that would end the worker (contract: weak point 6).
        if not (job.status is JobStatus.CANCELED and run_id == row["run_id"]):
            _check_fence(row, stored, rev, run_id)
        if result["run_id"] != run_id:
            raise BadInput(f"run_id: the result says {result['run_id']}, the path says {run_id}.")
        earlier = yield Statement(
            "SELECT id FROM result WHERE job_id = :job AND run_id = :run_id",
            {"job": job.id, "run_id": run_id},
        )
        if earlier:
            raise Conflict(f"job {key} has a result of run {run_id} already")
        yield from _complete(ledger, job, compute_node, JobStatus(status), result)
        yield from ledger.flush()
        return (yield from _document(ledger, job))

    return work


def _complete(
    ledger: Ledger, job: JobState, compute_node: Any, status: JobStatus, result: Mapping[str, Any]
) -> Steps:
    """Close the open attempt, or open and close one for a worker that never claimed."""
    if job.open_attempt is None and job.status not in JOB_COMPLETE:
        rows = yield Statement("SELECT * FROM job WHERE id = :id", {"id": job.id})
        yield from claims.open_attempts(ledger, rows, compute_node["id"])
    attempt = None
    if job.open_attempt is not None:
        [attempt] = yield Statement(
            "SELECT a.*, n.registration_id FROM attempt a "
            "LEFT JOIN compute_node n ON n.id = a.compute_node_id WHERE a.id = :id",
            {"id": job.open_attempt},
        )
    end = End(
        attempt,
        Cause.CANCELED if status is JobStatus.CANCELED else Cause.EXIT,
        result["return_code"],
        status,
        exec_seconds=60 * result["exec_time_minutes"],
        completion_time=result["completion_time"],
        started=attempt is not None and attempt["started_ms"] is not None,
    )
    if attempt is None or attempt["registration_id"] is not None:
        # Over already, or a runner of ours holds it: only its own word ends that attempt.
        yield from attempts.revoke(ledger, [job])
        yield from attempts.declare_end(ledger, job, end, compute_node["hostname"])
        return
    if job.status is JobStatus.CANCELED:
        end.attempt = {**dict(attempt), "state": "revoking"}
    # torc knows no retries by the server: a report of its clients is always the last word.
    job.retries = 0
    yield from attempts.end_attempts(ledger, [end], compute_node["hostname"])


def _check_fence(workflow: Any, job: Any, rev: str, run_id: int) -> None:
    if parse_revision(rev) != job["rev"]:
        raise Conflict(f"_rev: {rev!r} is stale; the job was changed since it was claimed")
    if run_id != workflow["run_id"]:
        raise BadInput(f"run_id: {run_id} is not the workflow's current run, {workflow['run_id']}.")


def _document(ledger: Ledger, job: JobState) -> Steps:
    [row] = yield Statement("SELECT * FROM job WHERE id = :id", {"id": job.id})
    return job_document(row, ledger.workflow_key)


def manage_status_change(
    principal: Principal, workflow: str, key: str, *, status: str, rev: str, run_id: int, now_ms: int
) -> Work:
    """Change a job's status on a client's word; what is behind a job that is reset is reset too."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        stored = yield from find_job_row(row, key)
        try:
            target = JobStatus(status)
        except ValueError:
            accepted = ", ".join(known.value for known in JobStatus if known not in JOB_COMPLETE)
            raise BadInput(f"status: {status!r} is not known; accepted: {accepted}.") from None
        if target in JOB_COMPLETE:
            raise BadInput(f"status: {status!r} completes a job; use complete_job for that.")
        if parse_revision(rev) != stored["rev"]:
            raise BadInput(f"_rev: {rev!r} is stale; the job was changed since.")
        ledger = Ledger(row, now_ms, effects)
        [job] = ledger.adopt([stored])
        if job.status is not target:
            if run_id != row["run_id"]:
                raise BadInput(f"run_id: {run_id} is not the workflow's current run, {row['run_id']}.")
            if job.status in JOB_COMPLETE and target is JobStatus.UNINITIALIZED:
                yield from reset_jobs(ledger, [job, *(yield from downstream(ledger, [job]))])
            else:
                yield from force_status(ledger, job, target)
            yield from ledger.flush()
        return (yield from _document(ledger, job))

    return work


# ---- completion -----------------------------------------------------------------------------


def is_complete(principal: Principal, workflow: str, *, may_run_script: bool, now_ms: int) -> Work:
    """Say whether a workflow is over; hand the completion script to the one caller that is to run it."""

    def work(effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        answer = {
            "is_canceled": bool(row["is_canceled"]),
            "is_complete": lifecycle.is_complete(row),
            "needs_to_run_completion_script": False,
        }
        if may_run_script and answer["is_complete"] and lifecycle.unclaimed_completion_script(row):
            ledger = Ledger((yield from lock_workflow(principal, workflow)), now_ms, effects)
            script = yield from completion_script.claim(ledger, {})
            answer["needs_to_run_completion_script"] = script is not None
        return answer

    return work
