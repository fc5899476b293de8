"""Jobs change and go: finding, patching, canceling, retrying, removing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lading.api.services import attempts, dependents
from lading.api.services.identity import Principal
from lading.api.services.initialize import classify, downstream, reset_jobs
from lading.api.services.job_documents import job_document, parse_revision, revision
from lading.api.services.ledger import JobState, Ledger, Steps
from lading.api.services.new_jobs import RELATIONS, json_text
from lading.api.services.workflows import lock_workflow
from lading.api.storage.keys import key_filter, key_of
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.domain.states import ACTIVE, JOB_COMPLETE, JobStatus
from lading.toolkit.errors import BadInput, Conflict, NotFound

# ---- finding --------------------------------------------------------------------------------


def find_job_row(workflow: Any, key: str) -> Steps:
    """Return the whole row of a job; accepts a full `_id`. Raises NotFound."""
    plain = key.removeprefix(f"jobs__{key_of(workflow)}/")
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    condition = key_filter(plain, parameters)
    rows = yield Statement(f"SELECT * FROM job WHERE workflow_id = :workflow_id AND {condition}", parameters)
    if not rows:
        raise NotFound(f"no such job: {key}")
    return rows[0]


# ---- patching -------------------------------------------------------------------------------

_PATCHED = {
    "name", "command", "invocation_script", "schedule_compute_nodes", "cancel_on_blocking_job_failure",
    "supports_termination", "priority", "retries", "env", "workdir", "stdout", "resources", "time_request",
}  # fmt: skip
_STORED_AS_JSON = {"schedule_compute_nodes", "env", "resources"}


def modify_job(
    principal: Principal, workflow: str, key: str, changes: Mapping[str, Any], now_ms: int
) -> Work:
    """Patch a job: only what the request carries; its `_rev` must be the stored one.

    A new status bypasses the state machine, as in torc, but never the promise that a job runs once:
    a running job is taken away from its node first.
    """

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        stored = yield from find_job_row(row, key)
        check_revision(changes.get("_rev"), stored["rev"])
        if changes.get("_key") not in (None, key_of(stored)):
            raise BadInput(f"_key: {changes['_key']!r} is not the job of the path, {key_of(stored)!r}.")
        values = {
            name: json_text(value) if name in _STORED_AS_JSON else value
            for name, value in changes.items()
            if name in _PATCHED and (json_text(value) if name in _STORED_AS_JSON else value) != stored[name]
        }
        ledger = Ledger(row, now_ms, effects)
        [job] = ledger.adopt([stored])
        if values:
            assignments = ", ".join(f"{column} = :{column}" for column in values)
            yield Statement(
                f"UPDATE job SET {assignments}, rev = rev + 1 WHERE id = :id", {**values, "id": job.id}
            )
        if "priority" in values and job.request_class_id is not None:
            # It counts in the very next claim; what the job asks for stays as a node may hold it.
            yield from classify(ledger, [{**dict(stored), "priority": values["priority"]}])
        if changes.get("status") not in (None, job.status.value):
            yield from force_status(ledger, job, JobStatus(changes["status"]))
        yield from ledger.flush()
        [fresh] = yield Statement("SELECT * FROM job WHERE id = :id", {"id": job.id})
        return {**job_document(fresh, ledger.workflow_key), "_oldRev": revision(stored["rev"])}

    return work


def check_revision(given: str | None, stored: int, *, required: bool = True) -> None:
    """Refuse a write that is based on an older state. BadInput without, Conflict with a stale `_rev`."""
    if given is None:
        if required:
            raise BadInput("_rev: missing; a PUT carries the _rev of the document it was made from.")
        return
    if parse_revision(given) != stored:
        raise Conflict(f"_rev: {given!r} is stale; the document was changed since, get it again.")


def force_status(ledger: Ledger, job: JobState, status: JobStatus) -> Steps:
    """Set any status on somebody's word, with all counters and the fence kept."""
    if job.status in ACTIVE or job.open_attempt is not None:
        yield from attempts.revoke(ledger, [job])
    was_complete = job.status in JOB_COMPLETE
    ledger.set_status(job, status)
    if was_complete and status not in JOB_COMPLETE:
        yield from dependents.unsettle(ledger, [job])
    elif not was_complete and status in JOB_COMPLETE:
        yield from dependents.count_down(ledger, [job])


# ---- canceling and retrying one job ---------------------------------------------------------


def cancel_job(principal: Principal, workflow: str, key: str, now_ms: int) -> Work:
    """Cancel one job: what waits for it is canceled too where it asks for that."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        ledger = Ledger(row, now_ms, effects)
        [job] = ledger.adopt([(yield from find_job_row(row, key))])
        if job.status in JOB_COMPLETE:
            raise BadInput(f"job {key} is over already: {job.status.value}")
        yield from attempts.revoke(ledger, [job])
        ledger.set_status(job, JobStatus.CANCELED)
        yield from dependents.settle(ledger, [job])
        ledger.add_event(_person_event(principal, job, "cancel", f"Canceled job {job.name or job.key}"))
        yield from ledger.flush()
        return {"message": f"canceled job {key}"}

    return work


_UNTOUCHED = frozenset({JobStatus.BLOCKED, JobStatus.UNINITIALIZED, JobStatus.DISABLED})
"""Behind a job that is retried, these need no second look: they have not run."""


def retry_job(principal: Principal, workflow: str, key: str, now_ms: int) -> Work:
    """Run a finished job again in the same run: its result of this run and what followed are undone."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        ledger = Ledger(row, now_ms, effects)
        [job] = ledger.adopt([(yield from find_job_row(row, key))])
        if job.status not in JOB_COMPLETE:
            raise BadInput(f"job {key} is {job.status.value}; only a finished job can be retried")
        if row["is_canceled"] or row["is_archived"]:
            state = "canceled" if row["is_canceled"] else "archived"
            raise BadInput(f"workflow {workflow} is {state}; its jobs do not run")
        behind = [other for other in (yield from downstream(ledger, [job])) if other.status not in _UNTOUCHED]
        again = [job, *behind]
        yield from reset_jobs(ledger, again)
        yield Many(
            "DELETE FROM result WHERE job_id = :job_id AND run_id = :run_id",
            [{"job_id": other.id, "run_id": ledger.run_id} for other in again],
        )
        yield from ledger.write_jobs()
        for other in again:
            blocked = other.unfinished_blockers > 0
            ledger.set_status(other, JobStatus.BLOCKED if blocked else JobStatus.READY)
        ledger.add_event(_person_event(principal, job, "retry", f"Retried job {job.name or job.key}"))
        yield from ledger.flush()
        return {"message": f"job {key} runs again", "jobs": [other.key for other in again]}

    return work


def _person_event(principal: Principal, job: JobState, kind: str, message: str) -> dict[str, Any]:
    return {
        "category": "job",
        "type": kind,
        "job_key": job.key,
        "job_name": job.name,
        "user": principal.user,
        "message": message,
    }


# ---- removing -------------------------------------------------------------------------------


# Every name is given: without it the edges of the whole workflow would be looked through.
_EDGES_OF_JOBS = (
    f"name IN ('blocks', {', '.join(repr(edge) for edge, _ in RELATIONS.values())}) AND from_id IN_LIST(:ids)",
    "name = 'blocks' AND to_id IN_LIST(:ids)",
)


def remove_jobs(ledger: Ledger, jobs: Sequence[JobState]) -> Steps:
    """Delete jobs with their edges and results; running ones are ordered killed."""
    if not jobs:
        return
    yield from attempts.revoke(ledger, jobs)
    ids = [job.id for job in jobs]
    # Jobs behind a deleted one no longer wait for it.
    yield from dependents.release(ledger, jobs)
    for job in jobs:
        ledger.count_removed(job)
    for edges in _EDGES_OF_JOBS:
        yield Statement(
            f"DELETE FROM edge WHERE workflow_id = :workflow_id AND {edges}",
            {"workflow_id": ledger.workflow_id, "ids": ids},
        )
    yield Statement("UPDATE result SET job_id = NULL WHERE job_id IN_LIST(:ids)", {"ids": ids})
    yield Statement("DELETE FROM job WHERE id IN_LIST(:ids)", {"ids": ids})
