"""What the end of a job does to the jobs behind it, and what taking that end back does.

`unfinished_blockers` of a job is the number of its `blocks` edges whose blocker is not job-complete.
It is kept here (a blocker's status crosses that line) and in `blockers` (an edge comes or goes), and
nowhere else; a stateful test recounts it after every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lading.api.services.ledger import QUALIFIED_JOB_COLUMNS, JobState, Ledger, Steps
from lading.api.storage.statements import Statement
from lading.toolkit.domain.states import JOB_COMPLETE, JobStatus

_DEPENDENTS = (
    f"SELECT e.from_id AS blocker_id, {QUALIFIED_JOB_COLUMNS} FROM edge e JOIN job j ON j.id = e.to_id "
    "WHERE e.workflow_id = :workflow_id AND e.name = 'blocks' AND e.from_id IN_LIST(:ids)"
)
_WAITING_BLOCKERS = (
    f"SELECT DISTINCT {QUALIFIED_JOB_COLUMNS} FROM edge e JOIN job j ON j.id = e.from_id "
    "WHERE e.workflow_id = :workflow_id AND e.name = 'blocks' AND e.to_id IN_LIST(:ids) "
    # Blocked in the table may be ready in the ledger: unblocked by this very transaction.
    "AND j.status IN ('ready', 'blocked')"
)


def settle(ledger: Ledger, finished: Iterable[JobState]) -> Steps:
    """Unblock or cancel what is behind jobs that have just become job-complete, to the end of the graph.

    A blocker that ended with a return code other than 0, or was canceled, cancels those blocked jobs
    behind it that ask for it (`cancel_on_blocking_job_failure`); otherwise the last unfinished blocker
    makes a job ready. The cost is the number of edges touched.
    """
    wave = {job.id: _took_down(job) for job in finished}
    while wave:
        canceled: list[JobState] = []
        touched: dict[int, tuple[JobState, bool]] = {}
        rows = yield Statement(_DEPENDENTS, {"workflow_id": ledger.workflow_id, "ids": list(wave)})
        for row, job in zip(rows, ledger.adopt(rows), strict=True):
            job.unfinished_blockers -= 1
            doomed = wave[row["blocker_id"]] and job.cancel_on_failure
            touched[job.id] = (job, doomed or touched.get(job.id, (job, False))[1])
        for job, doomed in touched.values():
            if job.status is not JobStatus.BLOCKED:
                continue
            if doomed:
                ledger.set_status(job, JobStatus.CANCELED)
                canceled.append(job)
            elif job.unfinished_blockers == 0:
                ledger.set_status(job, JobStatus.READY)
        canceled += yield from _cancel_useless_blockers(ledger, canceled)
        wave = {job.id: True for job in canceled}


def unsettle(ledger: Ledger, reopened: Iterable[JobState]) -> Steps:
    """Count blockers up again behind jobs that are no longer job-complete; statuses stay."""
    ids = [job.id for job in reopened]
    if not ids:
        return
    rows: Any = yield Statement(_DEPENDENTS, {"workflow_id": ledger.workflow_id, "ids": ids})
    for job in ledger.adopt(rows):
        job.unfinished_blockers += 1


def count_down(ledger: Ledger, finished: Iterable[JobState]) -> Steps:
    """Count blockers down behind jobs that somebody declared complete; statuses stay as they are."""
    ids = [job.id for job in finished]
    rows: Any = yield Statement(_DEPENDENTS, {"workflow_id": ledger.workflow_id, "ids": ids})
    for job in ledger.adopt(rows):
        job.unfinished_blockers -= 1


def release(ledger: Ledger, removed: Iterable[JobState]) -> Steps:
    """Let go of jobs behind those that are about to be deleted."""
    gone = {job.id: job for job in removed}
    rows: Any = yield Statement(_DEPENDENTS, {"workflow_id": ledger.workflow_id, "ids": list(gone)})
    for row, job in zip(rows, ledger.adopt(rows), strict=True):
        if gone[row["blocker_id"]].status not in JOB_COMPLETE:
            job.unfinished_blockers -= 1
    for row in rows:
        job = ledger.jobs[row["id"]]
        if job.unfinished_blockers == 0 and job.status is JobStatus.BLOCKED and job.id not in gone:
            ledger.set_status(job, JobStatus.READY)


def _took_down(job: JobState) -> bool:
    return job.status is JobStatus.CANCELED or bool(job.return_code)


def _cancel_useless_blockers(ledger: Ledger, canceled: list[JobState]) -> Steps:
    """Cancel ready jobs for which nobody waits any more: every job behind them is canceled.

    torc cancels each ready co-blocker of a canceled job; one that other branches still need must run.
    """
    if not canceled:
        return []
    rows = yield Statement(
        _WAITING_BLOCKERS, {"workflow_id": ledger.workflow_id, "ids": [job.id for job in canceled]}
    )
    candidates = {job.id: job for job in ledger.adopt(rows) if job.status is JobStatus.READY}
    if not candidates:
        return []
    rows = yield Statement(_DEPENDENTS, {"workflow_id": ledger.workflow_id, "ids": list(candidates)})
    for row, dependent in zip(rows, ledger.adopt(rows), strict=True):
        if dependent.status is not JobStatus.CANCELED:
            candidates.pop(row["blocker_id"], None)
    for job in candidates.values():
        ledger.set_status(job, JobStatus.CANCELED)
    return list(candidates.values())
