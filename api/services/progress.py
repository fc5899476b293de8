"""What people ask: how far is it, what was tried, why does nothing move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from lading.api.services import planning
from lading.api.services.identity import Principal
from lading.api.services.jobs import find_job_row
from lading.api.services.ledger import COUNT_COLUMNS, Ledger, Steps
from lading.api.services.lifecycle import is_complete
from lading.api.services.workflows import find_workflow
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain import waiting
from lading.toolkit.domain.demand import WorkClass
from lading.toolkit.domain.states import ACTIVE, CLAIMABLE, JobStatus
from lading.toolkit.wire.extensions import AttemptDocument, Progress

MAXIMUM_LIMIT = 100_000


def progress(principal: Principal, workflow: str, now_ms: int) -> Work:
    """Return counts and reasons; the cost does not grow with the number of jobs."""

    def work(effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        [counts] = yield Statement(
            "SELECT (SELECT count(*) FROM compute_node WHERE workflow_id = :id "
            "AND state IN ('active', 'silent')) AS nodes, (SELECT count(*) FROM scheduled_compute_node "
            "WHERE workflow_id = :id AND status <> 'complete') AS allocations",
            {"id": row["id"]},
        )
        reasons = yield from _reasons(Ledger(row, now_ms, effects), counts["nodes"])
        return Progress(
            sequence=row["event_sequence"],
            run_id=row["run_id"],
            counts={status.value: row[column] for status, column in COUNT_COLUMNS.items() if row[column]},
            num_failed=row["num_failed"],
            is_complete=is_complete(row),
            is_canceled=bool(row["is_canceled"]),
            active_nodes=counts["nodes"],
            open_allocations=counts["allocations"],
            reasons=reasons,
        )

    return work


def workflow_id(principal: Principal, workflow: str) -> Work:
    """Return the id by which waiters register."""

    def work(_effects: Effects) -> Steps:
        return (yield from find_workflow(principal, workflow))["id"]

    return work


def _reasons(ledger: Ledger, nodes: int) -> Steps:
    row = ledger.workflow
    if row["is_canceled"]:
        return ["the workflow is canceled; lading workflows start runs it again from the beginning"]
    if row["run_id"] == 0:
        return ["the workflow was never started; run: lading workflows start"]
    if not (row["n_ready"] + row["n_scheduled"]):
        return []
    work_classes, configs, opened = yield from planning.demand_of(ledger)
    if nodes:
        # What a living node can run comes in its turn.
        living = yield from _living_nodes(row)
        work_classes = [work for work in work_classes if not any(_may_take(node, work) for node in living)]
    reasons = waiting.explain(work_classes, configs, opened)
    labels = {config.id: config.label for config in configs}
    for identity, count in opened.items():
        reasons += [f"an allocation of {labels.get(identity, identity)}: {text}" for text in count.reasons]
    return reasons


def attempts(
    principal: Principal, workflow: str, *, job: str | None, run_id: int | None, skip: int, limit: int
) -> Work:
    """List attempts, oldest first, in torc's list envelope."""

    def work(_effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        where, parameters = "a.workflow_id = :workflow_id", {"workflow_id": row["id"]}
        if job is not None:
            where += " AND a.job_id = :job_id"
            parameters["job_id"] = (yield from find_job_row(row, job))["id"]
        if run_id is not None:
            where += " AND a.run_id = :run_id"
            parameters["run_id"] = run_id
        [total] = yield Statement(f"SELECT count(*) AS number FROM attempt a WHERE {where}", parameters)
        rows = yield Statement(
            "SELECT a.*, j.key AS job_text_key, j.name AS job_name, n.hostname, n.key AS node_text_key "
            "FROM attempt a LEFT JOIN job j ON j.id = a.job_id "
            f"LEFT JOIN compute_node n ON n.id = a.compute_node_id WHERE {where} "
            "ORDER BY a.id LIMIT :limit OFFSET :skip",
            {**parameters, "limit": min(limit, MAXIMUM_LIMIT), "skip": skip},
        )
        return {
            "items": [_attempt(found) for found in rows],
            "skip": skip,
            "max_limit": MAXIMUM_LIMIT,
            "count": len(rows),
            "total_count": total["number"],
            "has_more": bool(rows) and skip + len(rows) < total["number"],
        }

    return work


def _attempt(row: Any) -> AttemptDocument:
    def date(milliseconds: int | None) -> str | None:
        return None if milliseconds is None else iso_utc(milliseconds / 1000)

    node = row["compute_node_id"]
    return AttemptDocument(
        attempt_id=row["attempt_id"],
        job_key=row["job_text_key"] or str(row["job_id"]),
        job_name=row["job_name"] or "",
        run_id=row["run_id"],
        number=row["number"],
        state=row["state"],
        compute_node=None if node is None else row["node_text_key"] or str(node),
        hostname=row["hostname"],
        claimed_at=date(row["claimed_ms"]) or "",
        started_at=date(row["started_ms"]),
        ended_at=date(row["ended_ms"]),
        cause=row["cause"],
        return_code=row["return_code"],
        signal=row["signal"],
        exec_seconds=row["exec_seconds"],
        stdout_path=row["stdout_path"],
        stderr_path=row["stderr_path"],
        message=row["message"] or "",
    )


def explain(principal: Principal, workflow: str, key: str, now_ms: int) -> Work:
    """Say why a job is where it is, in sentences that a person can act on."""

    def work(effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        job = yield from find_job_row(row, key)
        reasons = yield from _explain(Ledger(row, now_ms, effects), job)
        return {"job": key_of(job), "status": job["status"], "reasons": reasons}

    return work


def _explain(ledger: Ledger, job: Any) -> Steps:
    row, status = ledger.workflow, JobStatus(job["status"])
    if status is JobStatus.BLOCKED:
        return (yield from _blockers(row, job))
    if status in CLAIMABLE:
        if job["open_attempt"] is not None:
            return ["its former attempt was taken away and its node has not confirmed that it ended"]
        return (yield from _waiting(ledger, job))
    if status in ACTIVE:
        return (yield from _running(job))
    if status is JobStatus.UNINITIALIZED:
        return ["the workflow was not started, or the job was reset; run: lading workflows start"]
    if status is JobStatus.DISABLED:
        return ["it is disabled and never runs; its status can be set to uninitialized"]
    return (yield from _over(row, job))


def _blockers(row: Any, job: Any) -> Steps:
    rows = yield Statement(
        "SELECT j.key, j.id, j.name, j.status FROM edge e JOIN job j ON j.id = e.from_id "
        "WHERE e.workflow_id = :id AND e.name = 'blocks' AND e.to_id = :job "
        "AND j.status NOT IN ('done', 'canceled', 'terminated') ORDER BY j.id LIMIT 20",
        {"id": row["id"], "job": job["id"]},
    )
    return [f"it waits for job {found['name'] or key_of(found)} ({found['status']})" for found in rows]


def _waiting(ledger: Ledger, job: Any) -> Steps:
    row = ledger.workflow
    if row["is_canceled"]:
        return ["the workflow is canceled: nothing is claimed"]
    _, configs, opened = yield from planning.demand_of(ledger)
    labels = {config.id: config.label for config in configs}
    work = planning.work_class(job, 1)
    reasons = [_why_not_on(node, work, labels) for node in (yield from _living_nodes(row))]
    return reasons + waiting.explain_job(work, configs, opened)


def _living_nodes(workflow: Any) -> Steps:
    return (
        yield Statement(
            "SELECT * FROM compute_node WHERE workflow_id = :id AND state IN ('active', 'silent') ORDER BY id",
            {"id": workflow["id"]},
        )
    )


def _may_take(node: Any, work: WorkClass) -> bool:
    return not (node["draining"] or node["ending"] or _lacks(node, work, {}))


def _lacks(node: Any, work: WorkClass, labels: Mapping[str, str]) -> list[str]:
    """Name what a job of a class asks for beyond what a node is."""
    # Read only where it matters: a workflow may have a thousand nodes, and each is asked about each class.
    num_nodes = (orjson.loads(node["resources"]).get("num_nodes") or 1) if work.num_nodes > 1 else 1
    found = [
        f"{asked} {what} of {has}"
        for asked, what, has in (
            (work.num_cpus, "CPUs", node["num_cpus"]),
            (work.num_gpus, "GPUs", node["num_gpus"]),
            (work.memory_bytes, "bytes of memory", node["memory_bytes"]),
            (work.num_nodes, "nodes", num_nodes),
        )
        if asked > has
    ]
    wants = work.scheduler_config_id
    if wants and wants != node["scheduler_config_id"]:
        found.append(f"only nodes of {labels.get(wants, wants)}")
    return found


def _why_not_on(node: Any, work: WorkClass, labels: Mapping[str, str]) -> str:
    """Say why a living node does not run a ready job."""
    lacks = _lacks(node, work, labels)
    place = f"node {key_of(node)} on {node['hostname']}"
    if lacks:
        return f"{place} cannot run it: it asks for {', '.join(lacks)}"
    if node["draining"] or node["ending"]:
        return f"{place} claims no more jobs"
    return f"{place} can run it and is busy with other jobs, or has too little time left"


def _running(job: Any) -> Steps:
    rows = yield Statement(
        "SELECT a.*, n.hostname, n.state AS node_state FROM attempt a "
        "LEFT JOIN compute_node n ON n.id = a.compute_node_id WHERE a.id = :id",
        {"id": job["open_attempt"]},
    )
    if not rows:
        return ["it runs on a node of another client"]
    attempt = rows[0]
    where = f"attempt {attempt['number']} runs on {attempt['hostname'] or 'a node of another client'}"
    return [where + (" (silent)" if attempt["node_state"] == "silent" else "")]


def _over(row: Any, job: Any) -> Steps:
    rows = yield Statement(
        "SELECT * FROM attempt WHERE job_id = :job AND run_id = :run_id ORDER BY number DESC LIMIT 1",
        {"job": job["id"], "run_id": row["run_id"]},
    )
    if rows and rows[0]["cause"]:
        last = rows[0]
        text = f"attempt {last['number']} ended: {last['cause']}, return code {last['return_code']}"
        return [text + (f"; {last['message']}" if last["message"] else "")]
    if job["status"] == JobStatus.CANCELED:
        blockers = yield Statement(
            "SELECT j.id, j.key, j.name, j.status, j.return_code FROM edge e JOIN job j ON j.id = e.from_id "
            "WHERE e.workflow_id = :id AND e.name = 'blocks' AND e.to_id = :job "
            "AND (j.status = 'canceled' OR j.return_code <> 0) ORDER BY j.id LIMIT 20",
            {"id": row["id"], "job": job["id"]},
        )
        named = [f"{found['name'] or key_of(found)} ({found['status']})" for found in blockers]
        return [f"it was canceled because of job {', '.join(named)}" if named else "it was canceled"]
    return [f"it is {job['status']}"]
