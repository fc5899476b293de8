"""`blocks` edges: adding and removing them, with the counters and statuses that depend on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lading.api.services.ledger import JobState, Ledger, Steps
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Many, Statement
from lading.toolkit.domain.states import CLAIMABLE, JOB_COMPLETE, JobStatus
from lading.toolkit.errors import BadInput

_CIRCLE_SHOWN = 20
"""Jobs of a circle that a refusal names."""


def add_blocks_edges(ledger: Ledger, pairs: Sequence[tuple[int, int]], *, known: bool = True) -> Steps:
    """Add (blocker, blocked) edges that do not exist yet; the caller has seen to that.

    `known`: the jobs' rows exist already; their counters are changed. Returns the edges' ids.
    """
    if not pairs:
        return []
    ids = yield from take_ids(len(pairs))
    yield Many(
        "INSERT INTO edge (id, workflow_id, name, from_id, to_id) "
        "VALUES (:id, :workflow_id, 'blocks', :from_id, :to_id)",
        [
            {"id": edge_id, "workflow_id": ledger.workflow_id, "from_id": blocker, "to_id": blocked}
            for edge_id, (blocker, blocked) in zip(ids, pairs, strict=True)
        ],
    )
    if known:
        yield from ledger.load({job_id for pair in pairs for job_id in pair})
        for blocker, blocked in pairs:
            if blocker in ledger.jobs and ledger.jobs[blocker].status not in JOB_COMPLETE:
                ledger.jobs[blocked].unfinished_blockers += 1
    return ids


def connect(ledger: Ledger, blocker: int, blocked: int) -> Steps:
    """Let one job wait for another, whatever state the two are in; returns the edge's id.

    A job that waits to be claimed is blocked again. One that runs or has ended keeps its status until
    the jobs are initialized the next time. Raises BadInput for an edge that would close a circle.
    """
    if (circle := (yield from _path(ledger, blocked, blocker))) is not None:
        jobs = yield from ledger.load(circle)
        raise BadInput(f"_to: the jobs would wait for each other in a circle: {show_circle(jobs)}.")
    [edge_id] = yield from add_blocks_edges(ledger, [(blocker, blocked)])
    job = ledger.jobs[blocked]
    if job.status in CLAIMABLE and ledger.jobs[blocker].status not in JOB_COMPLETE:
        ledger.set_status(job, JobStatus.BLOCKED)
    return edge_id


def show_circle(jobs: Sequence[JobState]) -> str:
    """Name the jobs of a circle in order, the first again at the end."""
    names = [job.name or job.key for job in jobs]
    shown = names if len(names) <= _CIRCLE_SHOWN else [*names[:_CIRCLE_SHOWN], "…"]
    return " → ".join((*shown, names[0]))


def _path(ledger: Ledger, start: int, end: int) -> Steps:
    """Return the jobs on a shortest way over `blocks` from one job to another, or None."""
    came_from: dict[int, int | None] = {start: None}
    wave = [start]
    while wave and end not in came_from:
        rows = yield Statement(
            "SELECT from_id, to_id FROM edge WHERE workflow_id = :workflow_id AND name = 'blocks' "
            "AND from_id IN_LIST(:ids) ORDER BY id",
            {"workflow_id": ledger.workflow_id, "ids": wave},
        )
        wave = []
        for row in rows:
            if row["to_id"] not in came_from:
                came_from[row["to_id"]] = row["from_id"]
                wave.append(row["to_id"])
    if end not in came_from:
        return None
    path = []
    step: int | None = end
    while step is not None:
        path.append(step)
        step = came_from[step]
    return path[::-1]


def remove_blocks_edges(ledger: Ledger, pairs: Sequence[tuple[int, int]]) -> Steps:
    """Remove (blocker, blocked) edges; a blocked job that has no unfinished blocker left is ready."""
    if not pairs:
        return
    yield Many(
        "DELETE FROM edge WHERE workflow_id = :workflow_id AND name = 'blocks' "
        "AND from_id = :from_id AND to_id = :to_id",
        [
            {"workflow_id": ledger.workflow_id, "from_id": blocker, "to_id": blocked}
            for blocker, blocked in pairs
        ],
    )
    yield from ledger.load({job_id for pair in pairs for job_id in pair})
    freed: Counter[int] = Counter()
    for blocker, blocked in pairs:
        job = ledger.jobs.get(blocker)
        # An edge from a finished job held nobody up, but its removal may be what a job waits for that
        # was blocked at the start because of how that one had ended.
        freed[blocked] += job is not None and job.status not in JOB_COMPLETE
    for blocked, number in freed.items():
        job = ledger.jobs.get(blocked)
        if job is None:
            continue
        job.unfinished_blockers -= number
        if job.unfinished_blockers == 0 and job.status is JobStatus.BLOCKED:
            ledger.set_status(job, JobStatus.READY)
