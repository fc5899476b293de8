"""Prove the engine's invariants from the tables and the event log, without trusting any counter.

Everything is read in one snapshot per question, also beside a living server. A violation is a
sentence that names the workflow and what is wrong; none means that the promises hold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from lading.api.services.ledger import COUNT_COLUMNS, Steps
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement
from lading.api.storage.unit_of_work import Database
from lading.toolkit.domain.states import CLAIMABLE, JOB_COMPLETE, JobStatus

CLOCK_TOLERANCE_MS = 250
"""Times of starts and ends travel as ages: each may be off by what its report took to arrive."""


async def verify(database: Database) -> list[str]:
    """Return every violation found; an empty list is the proof."""

    def work(_effects: Effects) -> Steps:
        workflows = yield Statement("SELECT * FROM workflow ORDER BY id")
        found: list[str] = []
        for workflow in workflows:
            name = f"workflow {key_of(workflow)}"
            found += [f"{name}: {text}" for text in (yield from _verify_workflow(workflow))]
        return found

    violations: list[str] = await database.read(work, deadline=3600)
    return violations


def _verify_workflow(workflow: Any) -> Steps:
    parameters = {"id": workflow["id"]}
    jobs = yield Statement("SELECT * FROM job WHERE workflow_id = :id ORDER BY id", parameters)
    attempts = yield Statement(
        "SELECT * FROM attempt WHERE workflow_id = :id ORDER BY job_id, run_id, number", parameters
    )
    classes = yield Statement("SELECT * FROM request_class WHERE workflow_id = :id", parameters)
    edges = yield Statement(
        "SELECT from_id, to_id FROM edge WHERE workflow_id = :id AND name = 'blocks'", parameters
    )
    results = yield Statement(
        "SELECT job_id, run_id, return_code FROM result WHERE workflow_id = :id AND job_id IS NOT NULL",
        parameters,
    )
    nodes = yield Statement("SELECT * FROM compute_node WHERE workflow_id = :id", parameters)
    events = yield Statement(
        "SELECT sequence, category, type, body FROM event WHERE workflow_id = :id ORDER BY sequence",
        parameters,
    )
    return [
        *_counters(workflow, jobs, classes),
        *_blockers(jobs, edges),
        *_attempts(jobs, attempts),
        *_results(jobs, results),
        *_resources(nodes, jobs, attempts),
        *_events(workflow, events, attempts),
    ]


def _counters(workflow: Any, jobs: Any, classes: Any) -> Iterator[str]:
    counts = Counter(job["status"] for job in jobs)
    for status, column in COUNT_COLUMNS.items():
        if workflow[column] != counts[status.value]:
            yield f"counts {workflow[column]} jobs {status.value}, there are {counts[status.value]}"
    failed = sum(
        1
        for job in jobs
        if job["status"] in JOB_COMPLETE and job["status"] != JobStatus.CANCELED and job["return_code"]
    )
    if workflow["num_failed"] != failed:
        yield f"counts {workflow['num_failed']} failed jobs, there are {failed}"
    claimable = Counter(job["request_class_id"] for job in jobs if job["claimable"])
    for row in classes:
        if row["n_claimable"] != claimable[row["id"]]:
            number = claimable[row["id"]]
            yield f"request class {row['id']} counts {row['n_claimable']} claimable jobs, there are {number}"
    for job in jobs:
        should = job["status"] in CLAIMABLE and job["open_attempt"] is None
        if should != bool(job["claimable"]) and job["request_class_id"] is not None:
            yield f"job {key_of(job)} is {job['status']} and claimable={bool(job['claimable'])}"


def _blockers(jobs: Any, edges: Any) -> Iterator[str]:
    status = {job["id"]: job["status"] for job in jobs}
    # Done by an attempt. What people declare done, terminate or cancel may leave others blocked,
    # until the workflow is initialized again.
    done = {job["id"] for job in jobs if job["status"] == JobStatus.DONE and job["return_code"] is not None}
    unfinished: Counter[int] = Counter()
    blockers, done_blockers = Counter[int](), Counter[int]()
    for edge in edges:
        if edge["from_id"] in status and status[edge["from_id"]] not in JOB_COMPLETE:
            unfinished[edge["to_id"]] += 1
        blockers[edge["to_id"]] += 1
        done_blockers[edge["to_id"]] += edge["from_id"] in done
    for job in jobs:
        if job["unfinished_blockers"] != unfinished[job["id"]]:
            yield (
                f"job {key_of(job)} counts {job['unfinished_blockers']} unfinished blockers, "
                f"there are {unfinished[job['id']]}"
            )
        if job["status"] == JobStatus.BLOCKED and 0 < blockers[job["id"]] == done_blockers[job["id"]]:
            yield f"job {key_of(job)} is blocked, and all that it waited for is done"


def _attempts(jobs: Any, attempts: Any) -> Iterator[str]:
    by_job = defaultdict(list)
    for attempt in attempts:
        by_job[attempt["job_id"]].append(attempt)
    for job_id, own in by_job.items():
        for earlier, later in pairwise(own):
            if earlier["ended_ms"] is None or earlier["ended_ms"] > later["claimed_ms"]:
                yield (
                    f"job {job_id}: attempt {later['run_id']}/{later['number']} was claimed before "
                    f"attempt {earlier['run_id']}/{earlier['number']} had ended"
                )
    opened = {attempt["id"]: attempt for attempt in attempts if attempt["state"] != "ended"}
    held = {job["open_attempt"]: job for job in jobs if job["open_attempt"] is not None}
    for attempt_id, job in held.items():
        if attempt_id not in opened or opened[attempt_id]["job_id"] != job["id"]:
            yield f"job {key_of(job)} names an open attempt that is none of its own"
    existing = {job["id"] for job in jobs}
    for attempt_id, attempt in opened.items():
        if attempt_id not in held and attempt["job_id"] in existing:
            yield f"attempt {attempt['attempt_id']} is open and its job {attempt['job_id']} does not know it"


def _results(jobs: Any, results: Any) -> Iterator[str]:
    per_run = Counter((result["job_id"], result["run_id"]) for result in results)
    for (job_id, run_id), number in per_run.items():
        if number > 1:
            yield f"job {job_id} has {number} results in run {run_id}"
    # A job that stayed done over a restart has the result of the run in which it ended.
    ended = {job_id for job_id, _ in per_run}
    for job in jobs:
        ran = job["status"] in (JobStatus.DONE, JobStatus.TERMINATED) and job["return_code"] is not None
        if ran and job["id"] not in ended:
            yield f"job {key_of(job)} is {job['status']} and has no result"


def _resources(nodes: Any, jobs: Any, attempts: Any) -> Iterator[str]:
    # Foreign clients' nodes say what they have only as a document, and pack by themselves.
    shapes = {node["id"]: node for node in nodes if node["registration_id"] is not None}
    moments = defaultdict(list)
    # A job of several nodes has them whole; how many the allocation has is in the node's document.
    wide = {job["id"] for job in jobs if job["num_nodes"] > 1}
    for attempt in attempts:
        if (
            attempt["compute_node_id"] not in shapes
            or attempt["started_ms"] is None
            or attempt["job_id"] in wide
        ):
            continue
        begin = attempt["started_ms"] + CLOCK_TOLERANCE_MS
        end = (attempt["ended_ms"] or 2**62) - CLOCK_TOLERANCE_MS
        if begin < end:
            moments[attempt["compute_node_id"]].append((begin, 1, attempt))
            moments[attempt["compute_node_id"]].append((end, -1, attempt))
    for node_id, changes in moments.items():
        node = shapes[node_id]
        for resource in ("num_cpus", "num_gpus", "memory_bytes"):
            used = 0
            for at, sign, attempt in sorted(changes, key=lambda change: change[:2]):
                used += sign * attempt[resource]
                if used > node[resource]:
                    yield f"node {node_id} ran jobs of {used} {resource} at {at} ms, it has {node[resource]}"
                    break


def _events(workflow: Any, events: Any, attempts: Any) -> Iterator[str]:
    sequences = [event["sequence"] for event in events]
    if sequences and sequences[-1] > workflow["event_sequence"]:
        yield f"the last event is number {sequences[-1]}, the counter says {workflow['event_sequence']}"
    if len(sequences) != workflow["event_sequence"]:
        # Somebody deleted events, which clients may do: the log proves nothing then.
        return
    if sequences != list(range(1, len(sequences) + 1)):
        yield "the event sequence has gaps or repeats"
    starts = sum(1 for event in events if event["category"] == "job" and event["type"] == "start")
    begun = sum(1 for attempt in attempts if attempt["started_ms"] is not None)
    if starts > begun:
        yield f"the log tells {starts} starts of jobs, there are {begun} attempts that began"
