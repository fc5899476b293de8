"""From stored jobs to a graph that can run: edges from files and user data, what jobs ask for, and
which of them are ready. One transaction, set-based reads, one pass in memory, set-based writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from lading.api.services import attempts, dependents
from lading.api.services.blockers import add_blocks_edges, show_circle
from lading.api.services.ledger import JOB_COLUMNS, JobState, Ledger, Steps
from lading.api.storage.keys import key_of, take_ids
from lading.api.storage.statements import Many, Statement
from lading.toolkit.domain.graph import find_cycle
from lading.toolkit.domain.states import ACTIVE, JOB_COMPLETE, JobStatus
from lading.toolkit.domain.values import parse_duration, parse_memory
from lading.toolkit.errors import BadInput

DEFAULT_CPUS, DEFAULT_NODES, DEFAULT_MEMORY, DEFAULT_RUNTIME = 1, 1, 2**20, 60.0
_CLASS_COLUMNS = (
    "num_cpus", "num_gpus", "num_nodes", "memory_bytes", "runtime_seconds", "scheduler_config_id", "priority",
)  # fmt: skip
_ASKING_COLUMNS = f"id, resource_requirements_id, scheduler_id, request_class_id, {', '.join(_CLASS_COLUMNS)}"
_ASKING_JOB_COLUMNS = ", ".join(dict.fromkeys(f"{JOB_COLUMNS}, {_ASKING_COLUMNS}".split(", ")))
_DERIVED_EDGES = (
    "SELECT DISTINCT w.from_id AS blocker, r.from_id AS blocked FROM edge w JOIN edge r "
    "ON r.workflow_id = w.workflow_id AND r.to_id = w.to_id AND r.name = :reads "
    "WHERE w.workflow_id = :workflow_id AND w.name = :writes AND NOT EXISTS (SELECT 1 FROM edge b "
    "WHERE b.workflow_id = w.workflow_id AND b.name = 'blocks' AND b.from_id = w.from_id "
    "AND b.to_id = r.from_id) ORDER BY 1, 2"
)


def initialize(ledger: Ledger, *, only_uninitialized: bool, clear_ephemeral: bool) -> Steps:
    """Do what torc's initialize_jobs does. Jobs that a node holds are left alone."""
    if clear_ephemeral:
        yield from empty_ephemeral_data(ledger)
    yield from _derive_edges(ledger)
    jobs = {
        job.id: job
        for job in ledger.adopt(
            (
                yield Statement(
                    f"SELECT {JOB_COLUMNS} FROM job WHERE workflow_id = :workflow_id ORDER BY id",
                    {"workflow_id": ledger.workflow_id},
                )
            )
        )
    }
    # Written first: the resources below belong to jobs whose rows the ledger may have changed.
    yield from ledger.write_jobs()
    yield from _copy_requirements(ledger)
    blocked_by, blocks = yield from _edges(ledger)
    _refuse_circle(jobs, blocks)
    _spread_uninitialized(ledger, jobs, blocks)
    unsettled = list(jobs.values())
    while unsettled:
        job = unsettled.pop()
        was_done = job.status is JobStatus.DONE
        _initial_status(ledger, job, blocked_by, jobs, only_uninitialized=only_uninitialized)
        if was_done and job.status is not JobStatus.DONE:
            # A done job with an unfinished blocker is blocked again, and so is what stands behind it.
            unsettled += [jobs[following] for following in blocks.get(job.id, ()) if following in jobs]
    _recount(jobs, blocked_by)


def empty_ephemeral_data(ledger: Ledger) -> Steps:
    """Empty the user data that lives for one run; data that is empty already stays untouched."""
    yield Statement(
        "UPDATE user_data SET data = '{}', rev = rev + 1 WHERE workflow_id = :workflow_id "
        "AND is_ephemeral AND data IS NOT NULL AND data NOT IN ('{}', 'null')",
        {"workflow_id": ledger.workflow_id},
    )


def _derive_edges(ledger: Ledger) -> Steps:
    for writes, reads in (("produces", "needs"), ("stores", "consumes")):
        rows = yield Statement(
            _DERIVED_EDGES, {"workflow_id": ledger.workflow_id, "writes": writes, "reads": reads}
        )
        pairs = [(row["blocker"], row["blocked"]) for row in rows if row["blocker"] != row["blocked"]]
        yield from add_blocks_edges(ledger, pairs)


def _edges(ledger: Ledger) -> Steps:
    rows = yield Statement(
        "SELECT from_id, to_id FROM edge WHERE workflow_id = :workflow_id AND name = 'blocks'",
        {"workflow_id": ledger.workflow_id},
    )
    blocked_by: dict[int, list[int]] = defaultdict(list)
    blocks: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        blocked_by[row["to_id"]].append(row["from_id"])
        blocks[row["from_id"]].append(row["to_id"])
    return blocked_by, blocks


def _refuse_circle(jobs: dict[int, JobState], blocks: dict[int, list[int]]) -> None:
    """Files and user data may close a circle that no single request shows; its jobs would wait for ever."""
    circle = find_cycle(blocks)
    if circle is not None:
        shown = show_circle([jobs[job_id] for job_id in circle])
        raise BadInput(f"the jobs wait for each other in a circle: {shown}; remove one of its edges")


def _spread_uninitialized(ledger: Ledger, jobs: dict[int, JobState], blocks: dict[int, list[int]]) -> None:
    """Everything behind an uninitialized job must be looked at again, whatever it was."""
    stack = [job_id for job_id, job in jobs.items() if job.status is JobStatus.UNINITIALIZED]
    seen = set(stack)
    while stack:
        for following in blocks.get(stack.pop(), ()):
            if following in seen or following not in jobs:
                continue
            seen.add(following)
            stack.append(following)
            job = jobs[following]
            if job.status not in ACTIVE:
                ledger.set_status(job, JobStatus.UNINITIALIZED)


def _recount(jobs: dict[int, JobState], blocked_by: dict[int, list[int]]) -> None:
    """Statuses moved across the line that `unfinished_blockers` counts by: set it anew for all."""
    for job_id, job in jobs.items():
        job.unfinished_blockers = sum(
            1
            for blocker in blocked_by.get(job_id, ())
            if blocker in jobs and jobs[blocker].status not in JOB_COMPLETE
        )


def _initial_status(
    ledger: Ledger,
    job: JobState,
    blocked_by: dict[int, list[int]],
    jobs: dict[int, JobState],
    *,
    only_uninitialized: bool,
) -> None:
    if job.status in ACTIVE or job.status is JobStatus.DISABLED:
        return
    if only_uninitialized and job.status not in (JobStatus.UNINITIALIZED, JobStatus.BLOCKED):
        return
    # Stricter than unblocking by a completion: at the start every blocker must be done.
    if any(jobs[blocker].status is not JobStatus.DONE for blocker in blocked_by.get(job.id, ())):
        ledger.set_status(job, JobStatus.BLOCKED)
    elif job.status not in (JobStatus.DONE, JobStatus.CANCELED):
        ledger.set_status(job, JobStatus.READY)


# ---- what jobs ask for ----------------------------------------------------------------------


def _copy_requirements(ledger: Ledger) -> Steps:
    """Copy the numbers of requirements and schedulers into all jobs, and sort these into classes."""
    requirements = yield Statement(
        "SELECT * FROM resource_requirements WHERE workflow_id = :workflow_id",
        {"workflow_id": ledger.workflow_id},
    )
    configs = yield Statement(
        "SELECT id, kind, key FROM scheduler_config WHERE workflow_id = :workflow_id",
        {"workflow_id": ledger.workflow_id},
    )
    rows = yield Statement(
        f"SELECT {_ASKING_COLUMNS} FROM job WHERE workflow_id = :workflow_id ORDER BY id",
        {"workflow_id": ledger.workflow_id},
    )
    numbers = {row["id"]: _numbers(row) for row in requirements}
    config_ids = {row["id"]: config_id(ledger.workflow_key, row) for row in configs}
    yield from classify(ledger, rows, numbers, config_ids)


def _numbers(requirements: Any) -> tuple[Any, ...]:
    return (
        requirements["num_cpus"],
        requirements["num_gpus"],
        requirements["num_nodes"],
        parse_memory(requirements["memory"]),
        parse_duration(requirements["runtime"]),
    )


def classify(
    ledger: Ledger,
    rows: Iterable[Any],
    numbers: Mapping[int, tuple[Any, ...]] | None = None,
    config_ids: Mapping[int, str] | None = None,
) -> Steps:
    """Sort jobs, which the ledger knows, into the classes of what they ask for; return how many moved.

    `numbers` (of requirements) and `config_ids` (of scheduler configs) are copied into the jobs that
    have these; the others ask for what their rows say.
    """
    classes = yield from load_classes(ledger)
    changes, moves = [], []
    for row in rows:
        asked = (numbers or {}).get(row["resource_requirements_id"])
        if asked is None:
            asked = tuple(row[column] for column in _CLASS_COLUMNS[:5])
        if asked[0] == 0:
            asked = (DEFAULT_CPUS, 0, DEFAULT_NODES, DEFAULT_MEMORY, DEFAULT_RUNTIME)
        config = (config_ids or {}).get(row["scheduler_id"], row["scheduler_config_id"])
        wanted = (*asked, config, row["priority"])
        if wanted != tuple(row[column] for column in _CLASS_COLUMNS):
            changes.append({"id": row["id"], **dict(zip(_CLASS_COLUMNS[:6], wanted[:6], strict=True))})
        moves.append((row, wanted))
    yield from make_classes(ledger, classes, [wanted for _, wanted in moves])
    assignments = []
    for row, wanted in moves:
        if row["request_class_id"] != classes[wanted]:
            ledger.set_class(ledger.jobs[row["id"]], classes[wanted])
            assignments.append({"id": row["id"], "request_class_id": classes[wanted]})
    if changes:
        yield Many(
            "UPDATE job SET num_cpus = :num_cpus, num_gpus = :num_gpus, num_nodes = :num_nodes, "
            "memory_bytes = :memory_bytes, runtime_seconds = :runtime_seconds, "
            "scheduler_config_id = :scheduler_config_id, rev = rev + 1 WHERE id = :id",
            changes,
        )
    if assignments:
        yield Many("UPDATE job SET request_class_id = :request_class_id WHERE id = :id", assignments)
    return len(assignments)


def apply_requirements(ledger: Ledger, requirements: Any, job_id: int | None = None) -> Steps:
    """Let requirements count at once for the initialized jobs that have them (or the one); flushes.

    A job that a node holds keeps what it was started with: its limits are enforced by that node.
    """
    one = " AND id = :job" if job_id is not None else ""
    rows = yield Statement(
        f"SELECT {_ASKING_JOB_COLUMNS} FROM job WHERE workflow_id = :workflow_id "
        "AND resource_requirements_id = :requirements AND request_class_id IS NOT NULL "
        f"AND open_attempt IS NULL AND status NOT IN ('submitted', 'submitted_pending'){one} ORDER BY id",
        {
            "workflow_id": ledger.workflow_id,
            "requirements": requirements["id"],
            **({} if job_id is None else {"job": job_id}),
        },
    )
    jobs = ledger.adopt(rows)
    moved = yield from classify(ledger, rows, {requirements["id"]: _numbers(requirements)})
    if moved:
        # What fitted nowhere may fit now: nodes that wait look again.
        ledger.effects.add_ready(ledger.workflow_id, sum(job.claimable for job in jobs))
        ledger.effects.demand = True
    yield from ledger.flush()


def config_id(workflow: str, row: Any) -> str:
    """Return the `_id` of a scheduler config's row."""
    return f"{row['kind']}_schedulers__{workflow}/{key_of(row)}"


def load_classes(ledger: Ledger) -> Steps:
    """Return what is asked for -> id of its request class."""
    rows = yield Statement(
        "SELECT * FROM request_class WHERE workflow_id = :workflow_id", {"workflow_id": ledger.workflow_id}
    )
    return {tuple(row[column] for column in _CLASS_COLUMNS): row["id"] for row in rows}


def make_classes(
    ledger: Ledger, classes: dict[tuple[Any, ...], int], wanted: Iterable[tuple[Any, ...]]
) -> Steps:
    """Add the request classes that do not exist yet to the table and to `classes`."""
    missing = list(dict.fromkeys(ask for ask in wanted if ask not in classes))
    if not missing:
        return
    ids = yield from take_ids(len(missing))
    yield Many(
        f"INSERT INTO request_class (id, workflow_id, {', '.join(_CLASS_COLUMNS)}) "
        f"VALUES (:id, :workflow_id, {', '.join(':' + column for column in _CLASS_COLUMNS)})",
        [
            {
                "id": class_id,
                "workflow_id": ledger.workflow_id,
                **dict(zip(_CLASS_COLUMNS, ask, strict=True)),
            }
            for class_id, ask in zip(ids, missing, strict=True)
        ],
    )
    classes.update(zip(missing, ids, strict=True))


# ---- resets ---------------------------------------------------------------------------------


def reset_jobs(ledger: Ledger, jobs: Iterable[JobState]) -> Steps:
    """Make jobs uninitialized; running ones are taken away from their nodes first."""
    chosen = [job for job in jobs if job.status is not JobStatus.UNINITIALIZED]
    yield from attempts.revoke(ledger, chosen)
    reopened = [job for job in chosen if job.status in JOB_COMPLETE]
    for job in chosen:
        ledger.set_status(job, JobStatus.UNINITIALIZED)
    yield from dependents.unsettle(ledger, reopened)


def all_jobs(ledger: Ledger) -> Steps:
    """Load every job of the workflow."""
    rows = yield Statement(
        f"SELECT {JOB_COLUMNS} FROM job WHERE workflow_id = :workflow_id ORDER BY id",
        {"workflow_id": ledger.workflow_id},
    )
    return ledger.adopt(rows)


def downstream(ledger: Ledger, jobs: Iterable[JobState]) -> Steps:
    """Load every job that can be reached over `blocks`, each once, nearest first."""
    seen = {job.id for job in jobs}
    wave = list(seen)
    found: list[JobState] = []
    while wave:
        rows = yield Statement(
            "SELECT DISTINCT to_id FROM edge WHERE workflow_id = :workflow_id AND name = 'blocks' "
            "AND from_id IN_LIST(:ids) ORDER BY to_id",
            {"workflow_id": ledger.workflow_id, "ids": wave},
        )
        wave = [row["to_id"] for row in rows if row["to_id"] not in seen]
        seen.update(wave)
        found += yield from ledger.load(wave)
    return found
