"""One engine transaction: what it read, what it changed, and the writing of it all at the end.

Every change of a job's status in the whole server goes through `Ledger.set_status`, so that the
counters (jobs per status, claimable jobs per request class, failed jobs) cannot drift from the rows.
A ledger lives within one transaction that holds the workflow's lock; `flush` writes it in a handful
of statements, whatever the number of jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lading.api.services.events import INSERT_EVENT, event_parameters
from lading.api.storage.keys import key_of, take_ids
from lading.api.storage.statements import Effects, Many, Rows, Statement
from lading.toolkit.domain.states import (
    CLAIMABLE,
    JOB_COMPLETE,
    WORKFLOW_COMPLETE,
    JobStatus,
)

Steps = Generator[Statement | Many, Rows, Any]

JOB_COLUMNS = (
    "id, key, name, status, rev, claimable, open_attempt, request_class_id, unfinished_blockers, "
    "cancel_on_blocking_job_failure, return_code, retries"
)
QUALIFIED_JOB_COLUMNS = ", ".join(f"j.{column}" for column in JOB_COLUMNS.split(", "))

_UPDATE_JOB = (
    "UPDATE job SET status = :status, rev = rev + 1, claimable = :claimable, open_attempt = :open_attempt, "
    "unfinished_blockers = :unfinished_blockers, return_code = :return_code WHERE id = :id"
)
_UPDATE_BLOCKERS = "UPDATE job SET unfinished_blockers = :unfinished_blockers WHERE id = :id"
_UPDATE_CLASS = "UPDATE request_class SET n_claimable = n_claimable + :change WHERE id = :id"
COUNT_COLUMNS: Mapping[JobStatus, str] = {status: f"n_{status.value}" for status in JobStatus}


@dataclass(slots=True, eq=False)
class JobState:
    """The part of a job's row that the state machine reads and writes."""

    id: int
    key: str
    name: str
    status: JobStatus
    rev: int
    claimable: bool
    open_attempt: int | None
    request_class_id: int | None
    unfinished_blockers: int
    cancel_on_failure: bool
    return_code: int | None
    retries: int
    written: tuple[Any, ...] = ()
    """What the row holds, to see at the end whether there is anything to write."""

    @property
    def visible(self) -> tuple[Any, ...]:
        return (self.status, self.claimable, self.open_attempt, self.return_code)

    @property
    def failed(self) -> bool:
        """Whether it ended badly by itself: a canceled job did not fail, its blocker did."""
        return (
            self.status in JOB_COMPLETE and self.status is not JobStatus.CANCELED and bool(self.return_code)
        )


def job_state(row: Any) -> JobState:
    """Read a row that has JOB_COLUMNS."""
    job = JobState(
        row["id"],
        key_of(row),
        row["name"] or "",
        JobStatus(row["status"]),
        row["rev"],
        bool(row["claimable"]),
        row["open_attempt"],
        row["request_class_id"],
        row["unfinished_blockers"],
        bool(row["cancel_on_blocking_job_failure"]),
        row["return_code"],
        row["retries"],
    )
    job.written = (*job.visible, job.unfinished_blockers)
    return job


@dataclass(slots=True)
class Ledger:
    """See the module. `workflow` is the locked row."""

    workflow: Any
    now_ms: int
    effects: Effects
    jobs: dict[int, JobState] = field(default_factory=dict)
    events: list[tuple[Mapping[str, Any], int]] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    """Other columns of the workflow's row to write."""
    _counts: Counter[JobStatus] = field(default_factory=Counter)
    _classes: Counter[int] = field(default_factory=Counter)
    _failed: int = 0
    _ready: int = 0

    @property
    def workflow_id(self) -> int:
        return int(self.workflow["id"])

    @property
    def workflow_key(self) -> str:
        return key_of(self.workflow)

    @property
    def run_id(self) -> int:
        return int(self.columns.get("run_id", self.workflow["run_id"]))

    # ---- reading ---------------------------------------------------------------------------

    def adopt(self, rows: Iterable[Any]) -> list[JobState]:
        """Take rows in; a job that is known already keeps its state of this transaction."""
        states = []
        for row in rows:
            job = self.jobs.get(row["id"])
            if job is None:
                job = self.jobs[row["id"]] = job_state(row)
            states.append(job)
        return states

    def load(self, ids: Iterable[int]) -> Steps:
        """Return the jobs of those ids, in no order; unknown ones are left out."""
        wanted = list(dict.fromkeys(ids))
        missing = [job_id for job_id in wanted if job_id not in self.jobs]
        if missing:
            self.adopt(
                (
                    yield Statement(
                        f"SELECT {JOB_COLUMNS} FROM job WHERE workflow_id = :workflow_id AND id IN_LIST(:ids)",
                        {"workflow_id": self.workflow_id, "ids": missing},
                    )
                )
            )
        return [self.jobs[job_id] for job_id in wanted if job_id in self.jobs]

    # ---- changing --------------------------------------------------------------------------

    def set_status(self, job: JobState, status: JobStatus, *, return_code: int | None = None) -> None:
        """Change a job's status and every counter that depends on it.

        Whoever makes a job complete, or takes that back, must then call `dependents.settle`.
        """
        was_failed = job.failed
        if job.status is not status:
            self._counts[job.status] -= 1
            self._counts[status] += 1
            job.status = status
        job.return_code = return_code if status in JOB_COMPLETE else None
        self._failed += job.failed - was_failed
        self._judge_claimable(job)

    def set_attempt(self, job: JobState, attempt: int | None) -> None:
        """Note the attempt that is open, or that none is."""
        job.open_attempt = attempt
        self._judge_claimable(job)

    def add_event(self, event: Mapping[str, Any], at_ms: int | None = None) -> None:
        self.events.append((event, self.now_ms if at_ms is None else at_ms))

    def count_added(self, status: JobStatus, number: int = 1) -> None:
        """Count jobs whose rows are inserted by the caller."""
        self._counts[status] += number

    def count_removed(self, job: JobState) -> None:
        """Count a job whose row the caller deletes."""
        self._counts[job.status] -= 1
        self._failed -= job.failed
        if job.claimable and job.request_class_id is not None:
            self._classes[job.request_class_id] -= 1
        self.jobs.pop(job.id, None)

    def set_class(self, job: JobState, request_class_id: int) -> None:
        """Move a job to another request class (initialisation, a PUT of its priority)."""
        if job.claimable and job.request_class_id is not None:
            self._classes[job.request_class_id] -= 1
        if job.claimable:
            self._classes[request_class_id] += 1
        job.request_class_id = request_class_id

    def _judge_claimable(self, job: JobState) -> None:
        claimable = job.status in CLAIMABLE and job.open_attempt is None
        if claimable == job.claimable:
            return
        job.claimable = claimable
        if job.request_class_id is not None:
            self._classes[job.request_class_id] += 1 if claimable else -1
        self._ready += 1 if claimable else -1

    # ---- counts as they will be ------------------------------------------------------------

    def count(self, *statuses: JobStatus) -> int:
        """Return how many jobs have one of those statuses, changes of this transaction included."""
        return sum(self.workflow[COUNT_COLUMNS[status]] + self._counts[status] for status in statuses)

    @property
    def is_complete(self) -> bool:
        unfinished = set(JobStatus) - WORKFLOW_COMPLETE
        return self.count(*unfinished) == 0

    # ---- writing ---------------------------------------------------------------------------

    def flush(self) -> Steps:
        """Write everything. The last step of every engine transaction."""
        yield from self.write_jobs()
        sequence = self.workflow["event_sequence"]
        if self.events:
            ids = yield from take_ids(len(self.events))
            yield Many(
                INSERT_EVENT,
                [
                    event_parameters(event, ids[offset], self.workflow_id, sequence + offset + 1, at_ms)
                    for offset, (event, at_ms) in enumerate(self.events)
                ],
            )
        yield from self._write_workflow(sequence)
        self._publish()

    def write_jobs(self) -> Steps:
        """Write jobs and class counts now, so that queries of this transaction see them."""
        changed, recounted = [], []
        for job in self.jobs.values():
            visible = job.visible
            if visible != job.written[:-1]:
                job.rev += 1
                changed.append(
                    {
                        "id": job.id,
                        "status": job.status.value,
                        "claimable": job.claimable,
                        "open_attempt": job.open_attempt,
                        "unfinished_blockers": job.unfinished_blockers,
                        "return_code": job.return_code,
                    }
                )
            elif job.unfinished_blockers != job.written[-1]:
                # Nothing that a client sees has changed, so its `_rev` stays.
                recounted.append({"id": job.id, "unfinished_blockers": job.unfinished_blockers})
            job.written = (*visible, job.unfinished_blockers)
        if changed:
            yield Many(_UPDATE_JOB, changed)
        if recounted:
            yield Many(_UPDATE_BLOCKERS, recounted)
        if changes := [{"id": key, "change": change} for key, change in self._classes.items() if change]:
            yield Many(_UPDATE_CLASS, sorted(changes, key=lambda change: change["id"]))
        self._classes.clear()

    def _write_workflow(self, sequence: int) -> Steps:
        values = dict(self.columns)
        for status, change in self._counts.items():
            if change:
                column = COUNT_COLUMNS[status]
                values[column] = self.workflow[column] + change
        if self._failed:
            values["num_failed"] = values.get("num_failed", self.workflow["num_failed"]) + self._failed
        if self.events:
            values["event_sequence"] = sequence + len(self.events)
        if values:
            assignments = ", ".join(f"{column} = :{column}" for column in values)
            yield Statement(
                f"UPDATE workflow SET {assignments} WHERE id = :id", {**values, "id": self.workflow_id}
            )

    def _publish(self) -> None:
        effects = self.effects
        # Jobs that this transaction handed out itself are already in the balance of _ready.
        if self._ready > 0:
            effects.add_ready(self.workflow_id, self._ready)
            effects.demand = True
        if self.events or any(self._counts.values()):
            effects.events.add(self.workflow_id)
        if any(self._counts.values()) and self.is_complete:
            effects.finished.add(self.workflow_id)
            effects.demand = True
