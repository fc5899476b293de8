"""`blocks` edges: adding and removing them, with the counters and statuses that depend on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lading.api.services.ledger import Ledger, Steps
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Many
from lading.toolkit.domain.states import JOB_COMPLETE, JobStatus


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
