"""Handing jobs to a node: choose, mark, open an attempt, all under the workflow's lock.

The lock makes it impossible that two claimants see one job claimable; the partial index on claimable
jobs makes the cost that of the jobs handed out, not of the jobs that exist.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import orjson

from lading.api.services.ledger import Ledger, Steps
from lading.api.storage.keys import key_of, take_ids
from lading.api.storage.statements import Many, Statement
from lading.toolkit.domain.packing import (
    Candidate,
    Offer,
    RequestClass,
    SortMethod,
    groups_in_order,
    pick,
    refusals,
)
from lading.toolkit.domain.states import CLAIMABLE, AttemptState, JobStatus
from lading.toolkit.wire.extensions import ClaimedJob, OutputFile

PAGE = 256
"""Jobs of classes that tie are looked at so many at a time."""

_CLASSES = "SELECT * FROM request_class WHERE workflow_id = :workflow_id AND n_claimable > 0"
_FIRST_OF_CLASS = (
    "SELECT * FROM job WHERE request_class_id = :class_id AND claimable ORDER BY id LIMIT :number"
)
_NEXT_OF_CLASS = (
    "SELECT id FROM job WHERE request_class_id = :class_id AND claimable AND id > :after "
    "ORDER BY id LIMIT :number"
)
# One index walk for each status: a single one over both would pass all jobs that have ended.
_FIRST_OF_STATUS = (
    "SELECT id FROM (SELECT id FROM job WHERE workflow_id = :workflow_id AND status = '{status}' "
    "AND claimable ORDER BY id LIMIT :number) AS of_{status}"
)
_FIRST = (
    "SELECT * FROM job WHERE id IN ("
    + " UNION ALL ".join(_FIRST_OF_STATUS.format(status=status.value) for status in sorted(CLAIMABLE))
    + ") ORDER BY id LIMIT :number"
)
_JOBS = "SELECT * FROM job WHERE id IN_LIST(:ids) ORDER BY id"
_NUMBERS = (
    "SELECT job_id, max(number) AS number FROM attempt WHERE job_id IN_LIST(:ids) AND run_id = :run_id "
    "GROUP BY job_id"
)
_INSERT_ATTEMPT = (
    "INSERT INTO attempt (id, attempt_id, workflow_id, job_id, run_id, number, compute_node_id, state, "
    "claimed_ms, num_cpus, num_gpus, memory_bytes) VALUES (:id, :attempt_id, :workflow_id, :job_id, "
    ":run_id, :number, :compute_node_id, :state, :claimed_ms, :num_cpus, :num_gpus, :memory_bytes)"
)
_OUTPUT_FILES = (
    "SELECT e.id AS edge, e.from_id, f.id, f.key, f.path FROM edge e JOIN file f ON f.id = e.to_id "
    "WHERE e.workflow_id = :workflow_id AND e.name = 'produces' AND e.from_id IN_LIST(:ids)"
)


def request_class(row: Any) -> RequestClass:
    return RequestClass(
        row["id"],
        row["num_cpus"],
        row["num_gpus"],
        row["num_nodes"],
        row["memory_bytes"],
        row["runtime_seconds"],
        row["scheduler_config_id"],
        row["priority"],
        row["n_claimable"],
    )


def choose(
    ledger: Ledger, offer: Offer, method: SortMethod, *, candidates: int, jobs: int | None = None
) -> Steps:
    """Return the rows of the jobs that a claim takes, in claim order.

    `candidates` bounds how many fitting jobs are looked at (torc's `limit`), `jobs` how many are taken.
    """
    # Jobs that this very transaction made ready must be seen by the queries below.
    yield from ledger.write_jobs()
    rows = yield Statement(_CLASSES, {"workflow_id": ledger.workflow_id})
    fitting = [request for row in rows if not refusals(request := request_class(row), offer)]
    wanted = candidates if jobs is None else min(candidates, jobs)
    chosen: list[Any] = []
    for group in groups_in_order(fitting, method):
        if candidates <= 0 or len(chosen) >= wanted or offer.is_used_up:
            break
        if len(group) == 1:
            [request] = group
            number = min(request.count, candidates, offer.fitting(request), wanted - len(chosen))
            candidates -= request.count
            if number > 0:
                chosen += yield Statement(_FIRST_OF_CLASS, {"class_id": request.id, "number": number})
                offer = offer.without(request, number)
            continue
        taken, offer, passed = yield from _choose_from_tied(group, offer, candidates, wanted - len(chosen))
        candidates -= passed
        chosen += taken
    return chosen


def _choose_from_tied(group: list[RequestClass], offer: Offer, candidates: int, wanted: int) -> Steps:
    """Walk the jobs of classes that tie, in storage order; return (rows, what is left, jobs passed)."""
    number = sum(request.count for request in group)
    taken: list[Candidate] = []
    passed, after = 0, 0
    while passed < candidates and len(taken) < wanted:
        fitting = [request for request in group if offer.fitting(request) > 0]
        if not fitting:
            break
        # Jobs that no longer fit need not be looked at, except to count them against the limit.
        page = yield from _page(fitting if number <= candidates else group, after, candidates - passed)
        picked, offer = pick(page, offer, wanted - len(taken))
        taken += picked
        passed += len(page)
        if not page or offer.is_used_up:
            break
        after = page[-1].id
    rows = (yield Statement(_JOBS, {"ids": [candidate.id for candidate in taken]})) if taken else []
    return list(rows), offer, min(number, candidates)


def _page(group: list[RequestClass], after: int, most: int) -> Steps:
    """Return the next claimable jobs of those classes in storage order, at most a page."""
    number = min(most, PAGE)
    found = []
    for request in group:
        rows = yield Statement(_NEXT_OF_CLASS, {"class_id": request.id, "after": after, "number": number})
        found += [Candidate(row["id"], request) for row in rows]
    return sorted(found, key=lambda candidate: candidate.id)[:number]


def first_in_storage_order(ledger: Ledger, number: int) -> Steps:
    """Return the first claimable jobs whatever they ask for (torc's prepare_next_jobs)."""
    yield from ledger.write_jobs()
    return (yield Statement(_FIRST, {"workflow_id": ledger.workflow_id, "number": number}))


def open_attempts(ledger: Ledger, rows: Sequence[Any], compute_node_id: int | None) -> Steps:
    """Mark the chosen jobs as claimed and open one attempt for each; return (row, attempt) pairs.

    The node is set at once for our own runners; a torc client names its node when it starts the job.
    """
    if not rows:
        return []
    job_ids = [row["id"] for row in rows]
    before = yield Statement(_NUMBERS, {"ids": job_ids, "run_id": ledger.run_id})
    numbers = {row["job_id"]: row["number"] for row in before}
    ids = yield from take_ids(len(rows))
    attempts = []
    for attempt_row, row, job in zip(ids, rows, ledger.adopt(rows), strict=True):
        ledger.set_attempt(job, attempt_row)
        ledger.set_status(job, JobStatus.SUBMITTED_PENDING)
        attempts.append(
            {
                "id": attempt_row,
                "attempt_id": secrets.token_urlsafe(15),
                "workflow_id": ledger.workflow_id,
                "job_id": row["id"],
                "run_id": ledger.run_id,
                "number": numbers.get(row["id"], 0) + 1,
                "compute_node_id": compute_node_id,
                "state": AttemptState.CLAIMED.value,
                "claimed_ms": ledger.now_ms,
                "num_cpus": row["num_cpus"],
                "num_gpus": row["num_gpus"],
                "memory_bytes": row["memory_bytes"],
            }
        )
    yield Many(_INSERT_ATTEMPT, attempts)
    return list(zip(rows, attempts, strict=True))


def claimed_jobs(ledger: Ledger, pairs: Sequence[tuple[Any, Any]]) -> Steps:
    """Describe claimed jobs to the runner that will launch them."""
    if not pairs:
        return []
    files = yield Statement(
        _OUTPUT_FILES, {"workflow_id": ledger.workflow_id, "ids": [row["id"] for row, _ in pairs]}
    )
    outputs: dict[int, list[OutputFile]] = {}
    # Sorted here: for ORDER BY, SQLite would walk the outputs of all jobs in the order of their edges.
    for file in sorted(files, key=lambda file: int(file["edge"])):
        outputs.setdefault(file["from_id"], []).append(OutputFile(key=key_of(file), path=file["path"]))
    return [_claimed_job(row, attempt, outputs.get(row["id"], [])) for row, attempt in pairs]


def _claimed_job(row: Any, attempt: Any, outputs: list[OutputFile]) -> ClaimedJob:
    # Limits are enforced only where the author set some: torc's defaults of one minute and 1 MiB,
    # which jobs without requirements get, are for packing and would kill nearly everything.
    limited = row["resource_requirements_id"] is not None
    return ClaimedJob(
        attempt_id=attempt["attempt_id"],
        job_key=key_of(row),
        run_id=attempt["run_id"],
        number=attempt["number"],
        command=row["command"],
        name=row["name"] or "",
        invocation_script=row["invocation_script"],
        env=orjson.loads(row["env"]) if row["env"] else {},
        workdir=row["workdir"],
        stdout=row["stdout"],
        num_cpus=row["num_cpus"],
        num_gpus=row["num_gpus"],
        num_nodes=row["num_nodes"],
        memory_bytes=row["memory_bytes"],
        runtime_seconds=row["runtime_seconds"],
        runtime_limit_seconds=row["runtime_seconds"] if limited else None,
        memory_limit_bytes=row["memory_bytes"] if limited else None,
        supports_termination=bool(row["supports_termination"]),
        output_files=outputs,
    )
