"""What the submitter tells: that it is there, what became of launches, what backends say.

Every report may come twice, since its answer may be lost; the second time it changes nothing. One
submitter at a time holds the lease of a (site, backend).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from lading.api.services import attempts, nodes, submissions, taking_back
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.sync import end_of
from lading.api.services.workflows import lock_workflow_id
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.domain.states import Cause, LaunchState
from lading.toolkit.wire.submissions import AllocationReport, LaunchReport

LEASE_SECONDS = 30.0
_LOOK_AGE_SECONDS = 30.0
"""A look at the queue may be so old when it is reported."""

# ---- the submitter's lease ------------------------------------------------------------------


def hold_lease(site: str, backends: Sequence[str], holder: str, now_ms: int, *, leave: bool) -> Work:
    """Take or renew the lease of each backend at a site; return the holder if it is somebody else."""

    def work(_effects: Effects) -> Steps:
        if leave:
            yield Statement("DELETE FROM submitter_lease WHERE holder = :holder", {"holder": holder})
            return ""
        other = ""
        for backend in sorted(backends):
            [row_id] = yield from take_ids(1)
            taken = yield Statement(
                "INSERT INTO submitter_lease (id, site, backend, holder, until_ms) "
                "VALUES (:id, :site, :backend, :holder, :until) ON CONFLICT (site, backend) DO UPDATE "
                "SET holder = excluded.holder, until_ms = excluded.until_ms "
                "WHERE submitter_lease.holder = excluded.holder OR submitter_lease.until_ms < :now "
                "RETURNING holder",
                {
                    "id": row_id,
                    "site": site,
                    "backend": backend,
                    "holder": holder,
                    "until": now_ms + int(1000 * LEASE_SECONDS),
                    "now": now_ms,
                },
            )
            if not taken:
                rows = yield Statement(
                    "SELECT holder FROM submitter_lease WHERE site = :site AND backend = :backend",
                    {"site": site, "backend": backend},
                )
                other = rows[0]["holder"] if rows else "another submitter"
        return other

    return work


# ---- what the submitter reports -------------------------------------------------------------


def report_launch(report: LaunchReport, now_ms: int) -> Work:
    """Store what became of one launch. A report that comes twice changes nothing the second time."""

    def work(effects: Effects) -> Steps:
        rows = yield Statement("SELECT workflow_id FROM launch WHERE tag = :tag", {"tag": report.tag})
        workflow = (yield from lock_workflow_id(rows[0]["workflow_id"])) if rows else None
        if workflow is None:
            return
        [launch] = yield Statement("SELECT * FROM launch WHERE tag = :tag", {"tag": report.tag})
        if launch["state"] not in (LaunchState.STORED, LaunchState.SUBMITTING):
            return
        ledger = Ledger(workflow, now_ms, effects)
        match report.kind:
            case "begun":
                yield Statement("UPDATE launch SET state = 'submitting' WHERE id = :id", {"id": launch["id"]})
            case "retry":
                yield Statement(
                    "UPDATE launch SET error = :error, not_before_ms = :later WHERE id = :id",
                    {
                        "id": launch["id"],
                        "error": report.error,
                        "later": now_ms + int(1000 * max(0.0, report.retry_seconds)),
                    },
                )
            case "submitted":
                yield from _submitted(ledger, launch, report)
            case "withdrawn":
                yield from taking_back.withdrawn(launch["id"], now_ms)
            case "divided":
                yield from submissions.divide_launch(ledger, launch, report.error)
            case "failed":
                yield from _failed(ledger, launch, report)
        yield from ledger.flush()

    return work


def _submitted(ledger: Ledger, launch: Any, report: LaunchReport) -> Steps:
    rows = yield Statement(
        "SELECT id, row_index FROM scheduled_compute_node WHERE launch_id = :id ORDER BY row_index",
        {"id": launch["id"]},
    )
    yield Many(
        "UPDATE scheduled_compute_node SET scheduler_id = :external_id, rev = rev + 1, "
        "status = CASE status WHEN 'uninitialized' THEN 'pending' ELSE status END WHERE id = :id",
        [
            {"id": row["id"], "external_id": report.external_ids[row["row_index"]]}
            for row in rows
            if row["row_index"] < len(report.external_ids)
        ],
    )
    yield Statement(
        "UPDATE launch SET state = 'submitted', error = NULL WHERE id = :id", {"id": launch["id"]}
    )
    [config] = yield Statement(
        "SELECT max(name) AS name FROM scheduler_config WHERE id = :id", {"id": launch["scheduler_id"]}
    )
    ledger.add_event(
        {
            "category": "scheduler",
            "type": "submit",
            "num_jobs": len(report.external_ids),
            "job_ids": list(report.external_ids),
            "scheduler_config_id": launch["scheduler_config_id"],
            "message": f"Asked for {len(report.external_ids)} allocations of {config['name'] or launch['scheduler_config_id']}",
        }
    )


def _failed(ledger: Ledger, launch: Any, report: LaunchReport) -> Steps:
    """Permanently refused: the config is paused with the reason, and nothing of it is tried again."""
    yield Statement(
        "UPDATE launch SET state = 'failed', error = :error WHERE id = :id",
        {"id": launch["id"], "error": report.error},
    )
    yield Statement(
        "UPDATE scheduled_compute_node SET status = 'complete', reason = :error, ended_ms = :now, "
        "rev = rev + 1 WHERE launch_id = :id AND status <> 'complete'",
        {"id": launch["id"], "error": report.error, "now": ledger.now_ms},
    )
    yield from taking_back.pause(ledger, launch["scheduler_id"], launch["scheduler_config_id"], report.error)


def report_allocation(report: AllocationReport, now_ms: int) -> Work:
    """Store what a backend says of an allocation; only a proof of death gives its jobs to others."""

    def work(effects: Effects) -> Steps:
        row_id = int(report.allocation) if report.allocation.isdigit() else -1
        rows = yield Statement(
            "SELECT workflow_id FROM scheduled_compute_node WHERE id = :id", {"id": row_id}
        )
        workflow = (yield from lock_workflow_id(rows[0]["workflow_id"])) if rows else None
        if workflow is None:
            return
        [row] = yield Statement("SELECT * FROM scheduled_compute_node WHERE id = :id", {"id": row_id})
        ledger = Ledger(workflow, now_ms, effects)
        living = yield Statement(
            "SELECT * FROM compute_node WHERE allocation_id = :id AND state IN ('active', 'silent')",
            {"id": row_id},
        )
        yield from _end_told(ledger, living, report)
        for copy, earlier in enumerate(report.earlier_causes):
            if earlier is not None:
                yield from _refine_causes(row_id, earlier, copy)
        if report.cause is not None:
            yield from _refine_causes(row_id, report.cause, (yield from _last_copy(row_id)))
        if report.state == "ended":
            yield from _ended(ledger, row, living, report)
        elif row["status"] != "complete":
            yield from _observed(ledger, row, living, report)
            if report.state == "active":
                yield from taking_back.started(row["id"])
            elif report.cannot_start:
                yield from taking_back.give_up_hopeless(ledger, row, report.reason)
        yield from ledger.flush()

    return work


def _ended(ledger: Ledger, row: Any, living: Sequence[Any], report: AllocationReport) -> Steps:
    reason = report.reason or "its allocation ended"
    if row["take_back_reason"] is not None and not living:
        reason = f"taken back from the queue: {row['take_back_reason']}"
    if living and not report.proof_of_death:
        # The batch system's word alone: the node gets nothing new and is told to end; its jobs stay
        # with it until it confirms or its lease ends. One that was only given up (its slurmd is dead,
        # nobody else gets the node) and still talks to us may finish them.
        column = "draining" if report.cause == Cause.NODE_LOST.value else "ending"
        for node in living:
            yield Statement(
                f"UPDATE compute_node SET {column} = TRUE, reason = :reason WHERE id = :id AND NOT {column}",
                {"id": node["id"], "reason": reason},
            )
            ledger.effects.nodes.add(node["id"])
        return
    for node in living:
        yield from nodes.lose(ledger, node, Cause(report.cause or "infrastructure"), reason)
    yield from nodes.complete_allocation(ledger, row["id"], reason, report.cause)


def _end_told(ledger: Ledger, living: Sequence[Any], report: AllocationReport) -> Steps:
    """What ended by itself and was written down before its node died did not die with it.

    Without a proof of death too: a large spool comes in several reports, and each line is its node's own.
    """
    told = {end.attempt_id: end for end in report.ended}
    if not told:
        return
    for node in living:
        rows = yield Statement(nodes.OPEN_OF_NODE, {"node": node["id"]})
        ends = [end_of(ledger, row, told[row["attempt_id"]]) for row in rows if row["attempt_id"] in told]
        yield from attempts.end_attempts(ledger, ends, node["hostname"])


def _last_copy(allocation_id: int) -> Steps:
    """Return the restart count of the copy that ended last."""
    [row] = yield Statement(
        "SELECT max(restart_count) AS copy FROM compute_node WHERE allocation_id = :id "
        "AND state IN ('left', 'lost')",
        {"id": allocation_id},
    )
    return row["copy"]


def _refine_causes(allocation_id: int, cause: str, copy: int | None) -> Steps:
    """Put right what a runner could not know: at TERM it only sees that its allocation ends.

    The charge moves to the budget of the true cause and nothing else changes. Only the attempts of that copy
    are meant: one that Slurm preempted and started again may be ended a second time for another reason.
    """
    if cause == Cause.ALLOCATION_ENDED or copy is None:
        return
    yield Statement(
        "UPDATE attempt SET cause = :cause WHERE state = 'ended' AND cause = 'allocation_ended' "
        "AND compute_node_id IN (SELECT id FROM compute_node WHERE allocation_id = :id "
        "AND state IN ('left', 'lost') AND restart_count = :copy)",
        {"id": allocation_id, "cause": cause, "copy": copy},
    )


def _observed(ledger: Ledger, row: Any, living: Sequence[Any], report: AllocationReport) -> Steps:
    now_ms = ledger.now_ms
    if report.state == "pending" and row["status"] == "active" and not living:
        # Put back into the queue: until it starts again it may be taken back like any that waits.
        yield Statement(
            "UPDATE scheduled_compute_node SET status = 'pending', rev = rev + 1 WHERE id = :id",
            {"id": row["id"]},
        )
    end_ms = row["end_ms"] if report.end_seconds is None else now_ms + int(1000 * report.end_seconds)
    if report.state in {"pending", "suspended"}:
        # Of an earlier copy, and the next one would leave as soon as it came; or not true any more, for
        # suspended time does not count.
        end_ms = None
    reason = report.reason or None
    if (end_ms, reason) != (row["end_ms"], row["reason"]):
        yield Statement(
            "UPDATE scheduled_compute_node SET end_ms = :end_ms, reason = :reason WHERE id = :id",
            {"id": row["id"], "end_ms": end_ms, "reason": reason},
        )
    if report.is_observed:
        yield from _freeze(ledger, living, is_suspended=report.state == "suspended")


def _freeze(ledger: Ledger, living: Sequence[Any], *, is_suspended: bool) -> Steps:
    """Let the leases of suspended nodes stand still: those cannot renew, and nothing of them runs."""
    if is_suspended and orjson.loads(ledger.workflow["config"]).get("on_suspend") == "requeue":
        # The leases end, and the jobs run elsewhere.
        return
    for node in living:
        if is_suspended and not node["frozen"]:
            yield Statement("UPDATE compute_node SET frozen = TRUE WHERE id = :id", {"id": node["id"]})
        elif node["frozen"] and not is_suspended and _is_older(node, ledger.now_ms):
            yield from nodes.thaw(node, ledger.now_ms)


def _is_older(node: Any, now_ms: int) -> bool:
    """Tell whether a suspended node spoke last before the batch system was asked.

    A look that was taken before the node's own word that it is about to be suspended says that it runs.
    """
    return bool(node["last_seen_ms"] < now_ms - int(1000 * _LOOK_AGE_SECONDS))
