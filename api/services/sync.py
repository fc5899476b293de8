"""The runner's one call: report, renew, claim, hear orders; in one transaction, level-triggered.

The request states everything that the node holds. So whatever answer was lost, the next call repairs
it: an open attempt that the node does not hold is handed over again, a held one that is not the
node's is ordered killed, an end that is reported again is acknowledged again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from lading.api.services import attempts, claims, dependents, lifecycle, nodes
from lading.api.services.attempts import End
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.workflows import lock_workflow_id
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain.packing import Offer, Whole, parse_sort_method
from lading.toolkit.domain.states import (
    ACTIVE,
    WORKFLOW_COMPLETE,
    AttemptState,
    Cause,
    JobStatus,
    NodeState,
)
from lading.toolkit.errors import NotFound
from lading.toolkit.wire.extensions import Ended, Order, SyncRequest, SyncResponse

UNLIMITED = 100_000
_OPEN = "SELECT * FROM attempt WHERE compute_node_id = :node AND state <> 'ended'"
_JOBS = "SELECT * FROM job WHERE id IN_LIST(:ids)"
_UNFINISHED = tuple(set(JobStatus) - WORKFLOW_COMPLETE)


def sync(
    workflow_id: int, node_id: int, request: SyncRequest, *, newest: Callable[[], bool], now_ms: int
) -> Work:
    """Perform one `sync`. `newest` tells whether no later request of this node has arrived, so it may claim.

    It is asked behind the workflow's lock. A request whose client has given up still runs, and may get the
    lock after a later one: what it says is free has been given away by then.
    """

    def work(effects: Effects) -> Steps:
        workflow = yield from lock_workflow_id(workflow_id)
        rows = yield Statement("SELECT * FROM compute_node WHERE id = :id", {"id": node_id})
        if workflow is None or not rows:
            raise NotFound(f"no such compute node: {node_id}")
        node = rows[0]
        ledger = Ledger(workflow, now_ms, effects)
        opened = {row["attempt_id"]: row for row in (yield Statement(_OPEN, {"node": node_id}))}
        acknowledged = yield from _take_reports(ledger, node, request, opened)
        alive = node["state"] in (NodeState.ACTIVE, NodeState.SILENT)
        if request.leave and alive:
            yield from nodes.say_goodbye(ledger, node, is_final=request.is_final)
            alive = False
        response = SyncResponse(
            seq=request.seq,
            lease_seconds=node["lease_seconds"],
            run_id=ledger.run_id,
            acknowledged=acknowledged,
            is_canceled=bool(workflow["is_canceled"]),
        )
        if alive:
            # A request that a later one has overtaken knows nothing of a suspension, or of its end.
            frozen = request.suspending if newest() else bool(node["frozen"])
            yield from _renew(node, now_ms, frozen=frozen)
            response.claims = yield from _hand_over(ledger, node, request, opened, newest)
            yield from _limits(ledger, node, response)
        response.orders = _orders(node, request, opened, alive=alive)
        yield from ledger.flush()
        response.num_ready = ledger.count(JobStatus.READY, JobStatus.SCHEDULED)
        response.num_unfinished = ledger.count(*_UNFINISHED)
        response.is_complete = response.num_unfinished == 0
        if alive and response.is_complete:
            response.has_completion_script = lifecycle.unclaimed_completion_script(workflow) is not None
        return response

    return work


# ---- reports --------------------------------------------------------------------------------


def _take_reports(ledger: Ledger, node: Any, request: SyncRequest, opened: dict[str, Any]) -> Steps:
    """Store starts, ends and returns; return the attempts whose end is (now or already) stored."""
    yield from _store_starts(ledger, node, request, opened)
    ends = [
        end_of(ledger, opened.pop(report.attempt_id), report)
        for report in request.ended
        if report.attempt_id in opened
    ]
    yield from attempts.end_attempts(ledger, ends, node["hostname"])
    yield from _take_back(ledger, request.returned, opened)
    yield from _store_statistics(ledger, node, request)
    # Also those that ended long ago, or that somebody else ended: the node may forget them all.
    return [report.attempt_id for report in request.ended] + list(request.returned)


def _store_starts(ledger: Ledger, node: Any, request: SyncRequest, opened: dict[str, Any]) -> Steps:
    # By id: a start that is named twice in one request is one start.
    begun = [
        (opened[attempt_id], report)
        for attempt_id, report in {report.attempt_id: report for report in request.started}.items()
        if attempt_id in opened and opened[attempt_id]["started_ms"] is None
    ]
    if not begun:
        return
    yield from ledger.load(row["job_id"] for row, _ in begun)
    updates = []
    for row, report in begun:
        started_ms = ledger.now_ms - int(1000 * _age(ledger, row, report.age_seconds))
        updates.append({"id": row["id"], "started_ms": started_ms, "pid": report.pid})
        opened[report.attempt_id] = {**dict(row), "started_ms": started_ms}
        job = ledger.jobs.get(row["job_id"])
        if job is None or job.open_attempt != row["id"]:
            continue
        if job.status is JobStatus.SUBMITTED_PENDING:
            ledger.set_status(job, JobStatus.SUBMITTED)
        ledger.add_event(attempts.start_event(job, node["hostname"]), started_ms)
    yield Many(
        "UPDATE attempt SET state = CASE state WHEN 'claimed' THEN 'running' ELSE state END, "
        "started_ms = :started_ms, pid = :pid WHERE id = :id AND state <> 'ended'",
        updates,
    )


def _age(ledger: Ledger, attempt: Any, seconds: float) -> float:
    """Return a reported age, kept between now and the claim: a node's clock may have been stepped."""
    since_claim = (ledger.now_ms - int(attempt["claimed_ms"])) / 1000
    return max(0.0, min(seconds, since_claim))


def end_of(ledger: Ledger, attempt: Any, report: Ended) -> End:
    """Return how an attempt's row ends by its node's report."""
    return End(
        attempt,
        Cause(report.cause),
        report.return_code,
        JobStatus(report.status),
        signal=report.signal,
        exec_seconds=max(0.0, report.exec_seconds),
        age_seconds=_age(ledger, attempt, report.age_seconds),
        started=report.started,
        usage=report.usage,
        file_times=report.file_times,
        stdout_path=report.stdout_path,
        stderr_path=report.stderr_path,
        message=report.message
        or (f"did not write: {', '.join(report.missing_files)}" if report.missing_files else ""),
    )


def _take_back(ledger: Ledger, returned: Sequence[str], opened: dict[str, Any]) -> Steps:
    """Jobs that were claimed and never started are ready again; it costs them nothing."""
    rows = [opened.pop(attempt_id) for attempt_id in returned if attempt_id in opened]
    if not rows:
        return
    yield from ledger.load(row["job_id"] for row in rows)
    canceled = []
    for row in rows:
        job = ledger.jobs.get(row["job_id"])
        if job is None or job.open_attempt != row["id"]:
            continue
        ledger.set_attempt(job, None)
        if row["state"] == AttemptState.REVOKING or job.status not in ACTIVE:
            # Somebody took the job away meanwhile: what it is now is theirs to say.
            continue
        if ledger.workflow["is_canceled"]:
            ledger.set_status(job, JobStatus.CANCELED)
            canceled.append(job)
        else:
            ledger.set_status(job, JobStatus.READY)
    yield from dependents.count_down(ledger, canceled)
    # A claim that never ran is no attempt: its row goes, and its number is used again.
    yield Many("DELETE FROM attempt WHERE id = :id", [{"id": row["id"]} for row in rows])


def _store_statistics(ledger: Ledger, node: Any, request: SyncRequest) -> Steps:
    if not request.node_statistics:
        return
    ids = yield from take_ids(len(request.node_statistics))
    # The key makes what is told again, because the answer was lost, the document that is there already.
    yield Many(
        "INSERT INTO compute_node_stats (id, key, workflow_id, hostname, timestamp, stats, compute_node_id) "
        "VALUES (:id, :key, :workflow_id, :hostname, :timestamp, :stats, :node) "
        "ON CONFLICT (workflow_id, key) WHERE key IS NOT NULL DO NOTHING",
        [
            {
                "id": document_id,
                "key": f"node-{node['id']}-{statistics.number}",
                "workflow_id": ledger.workflow_id,
                "hostname": node["hostname"],
                "timestamp": iso_utc(ledger.now_ms / 1000),
                "stats": orjson.dumps(statistics.stats).decode(),
                "node": node["id"],
            }
            for document_id, statistics in zip(ids, request.node_statistics, strict=True)
        ],
    )


# ---- the lease ------------------------------------------------------------------------------


def _renew(node: Any, now_ms: int, *, frozen: bool) -> Steps:
    """Renew the lease; written only when the stored renewal has become old (see nodes.lease_until)."""
    fresh = nodes.lease_until(now_ms, node["lease_seconds"])
    due = fresh - node["lease_until_ms"] >= 1000 * nodes.flush_seconds(node["lease_seconds"]) / 2
    if due or node["state"] == NodeState.SILENT or bool(node["frozen"]) != frozen:
        yield Statement(
            "UPDATE compute_node SET lease_until_ms = :until, last_seen_ms = :now, state = 'active', "
            "frozen = :frozen WHERE id = :id AND state IN ('active', 'silent')",
            {"id": node["id"], "until": fresh, "now": now_ms, "frozen": frozen},
        )


# ---- claims and orders ----------------------------------------------------------------------


def _hand_over(
    ledger: Ledger, node: Any, request: SyncRequest, opened: dict[str, Any], newest: Callable[[], bool]
) -> Steps:
    """Return what this answer gives the node: claims whose answer was lost, then new ones."""
    if not newest():
        return []
    held = set(request.held)
    lost = [
        row
        for attempt_id, row in opened.items()
        if attempt_id not in held and row["state"] == AttemptState.CLAIMED
    ]
    pairs: list[tuple[Any, Any]] = []
    if lost:
        by_id = {row["id"]: row for row in (yield Statement(_JOBS, {"ids": [row["job_id"] for row in lost]}))}
        pairs = [(by_id[row["job_id"]], row) for row in lost if row["job_id"] in by_id]
    free = request.free
    if free is not None and not lost and _may_claim(ledger, node):
        offer = Offer(
            free.num_cpus,
            free.memory_bytes,
            free.num_gpus,
            free.num_nodes,
            free.time_limit_seconds,
            node["scheduler_config_id"],
            free.job_num_cpus,
            free.job_memory_bytes,
            Whole(node["num_cpus"], node["memory_bytes"], node["num_gpus"], free.other_nodes),
        )
        method = parse_sort_method(
            orjson.loads(ledger.workflow["config"]).get("prepare_jobs_sort_method", "gpus_runtime_memory")
        )
        rows = yield from claims.choose(ledger, offer, method, candidates=UNLIMITED, jobs=free.max_jobs)
        new = yield from claims.open_attempts(ledger, rows, node["id"])
        if new and not node["has_worked"]:
            # Once in a node's life: whether its allocation was of use is asked when that ends.
            yield Statement("UPDATE compute_node SET has_worked = TRUE WHERE id = :id", {"id": node["id"]})
        pairs += new
        for _, attempt in new:
            opened[attempt["attempt_id"]] = attempt
    return (yield from claims.claimed_jobs(ledger, pairs))


def _may_claim(ledger: Ledger, node: Any) -> bool:
    return not (node["draining"] or node["ending"] or ledger.workflow["is_canceled"])


def _orders(node: Any, request: SyncRequest, opened: dict[str, Any], *, alive: bool) -> list[Order]:
    """Say what the node must do; the same again in every answer until it has done it."""
    if not alive:
        if request.leave:
            return []
        reason = node["reason"] or "its lease has ended"
        return [Order(id=f"end-{node['id']}", kind="end", grace_seconds=0, cause="node_lost", reason=reason)]
    orders = []
    if node["ending"]:
        reason = node["reason"] or "asked to end"
        cause: Any = "allocation_ended"
        orders.append(Order(id=f"end-{node['id']}", kind="end", cause=cause, reason=reason))
    elif node["draining"]:
        orders.append(
            Order(id=f"drain-{node['id']}", kind="drain", reason=node["reason"] or "asked to drain")
        )
    taken_away = [row["attempt_id"] for row in opened.values() if row["state"] == AttemptState.REVOKING]
    strangers = [attempt_id for attempt_id in request.held if attempt_id not in opened]
    if doomed := taken_away + strangers:
        orders.append(
            Order(id=f"kill-{node['id']}", kind="kill", attempts=doomed, reason="taken away from this node")
        )
    return orders


def _limits(ledger: Ledger, node: Any, response: SyncResponse) -> Steps:
    """Tell the end of the allocation, as its batch system says it."""
    if node["allocation_id"] is None:
        return
    rows = yield Statement(
        "SELECT end_ms FROM scheduled_compute_node WHERE id = :id AND end_ms IS NOT NULL",
        {"id": node["allocation_id"]},
    )
    if rows:
        config = orjson.loads(ledger.workflow["config"])
        began_ms = node["started_ms"] or ledger.now_ms
        response.end_seconds = nodes.end_seconds(rows[0]["end_ms"], began_ms, config, ledger.now_ms)
