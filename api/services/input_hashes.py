"""Input hashes of jobs: written when a job ends, compared when a workflow is restarted."""

from __future__ import annotations

from collections.abc import Sequence

from lading.api.services.ledger import JobState, Ledger, Steps
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Many, Statement
from lading.toolkit.domain.input_hash import JobInputs, differences, input_hash
from lading.toolkit.domain.states import JobStatus

_FILES = (
    "SELECT e.from_id, f.id, f.key, f.path, f.st_mtime FROM edge e JOIN file f ON f.id = e.to_id "
    "WHERE e.workflow_id = :workflow_id AND e.name = 'needs' AND e.from_id IN_LIST(:ids)"
)
_USER_DATA = (
    "SELECT e.from_id, e.name AS edge, u.id, u.key, u.data FROM edge e JOIN user_data u ON u.id = e.to_id "
    "WHERE e.workflow_id = :workflow_id AND e.name IN ('consumes', 'stores') AND e.from_id IN_LIST(:ids)"
)


def inputs_of(ledger: Ledger, ids: Sequence[int]) -> Steps:
    """Return what each of those jobs depends on, by job id."""
    parameters = {"workflow_id": ledger.workflow_id, "ids": list(ids)}
    rows = yield Statement(
        "SELECT id, command, invocation_script FROM job WHERE id IN_LIST(:ids)", {"ids": list(ids)}
    )
    inputs = {row["id"]: JobInputs(row["command"], row["invocation_script"]) for row in rows}
    for row in (yield Statement(_FILES, parameters)):
        inputs[row["from_id"]].files_needed.append((key_of(row), f"{row['path']}\n{row['st_mtime']}"))
    for row in (yield Statement(_USER_DATA, parameters)):
        part = inputs[row["from_id"]]
        chosen = part.user_data_consumed if row["edge"] == "consumes" else part.user_data_stored
        chosen.append((key_of(row), row["data"] or ""))
    return inputs


def store_hashes(ledger: Ledger, jobs: Sequence[JobState]) -> Steps:
    """Remember what these jobs, which have just ended, ran with."""
    if not jobs:
        return
    inputs = yield from inputs_of(ledger, [job.id for job in jobs])
    yield Many(
        "UPDATE job SET input_hash = :hash WHERE id = :id",
        [{"id": job.id, "hash": input_hash(inputs[job.id])} for job in jobs if job.id in inputs],
    )


def changed_jobs(ledger: Ledger, jobs: Sequence[JobState]) -> Steps:
    """Return those done jobs whose inputs are other ones than when they ran, in storage order."""
    done = [job for job in jobs if job.status is JobStatus.DONE]
    if not done:
        return []
    ids = [job.id for job in done]
    rows = yield Statement("SELECT id, input_hash FROM job WHERE id IN_LIST(:ids)", {"ids": ids})
    before = {row["id"]: row["input_hash"] for row in rows}
    inputs = yield from inputs_of(ledger, ids)
    return [job for job in done if differences(before[job.id], inputs[job.id])]
