"""The server's side of the submitter: what must be activated, and how that is told.

Everything is a row. A launch and its allocation rows are written in the transaction that decides on
them, so a lost answer loses nothing: the submitter is told again what is not finished.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from lading.api.services import shapes, sites
from lading.api.services.identity import Principal
from lading.api.services.initialize import config_id
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.workflows import lock_workflow, lock_workflow_id
from lading.api.storage.keys import key_of, take_ids
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.domain import demand
from lading.toolkit.domain.states import WORKFLOW_COMPLETE, JobStatus
from lading.toolkit.errors import BadInput, NotFound
from lading.toolkit.wire.submissions import (
    AllocationRequest,
    AllocationRequestResponse,
    Launch,
    OpenAllocation,
)

_MOST_AT_ONCE = 1_000
_UNFINISHED = tuple(set(JobStatus) - WORKFLOW_COMPLETE)


def new_tag() -> str:
    """Name a launch: `lading-` and 22 characters of base32, which every batch system accepts."""
    return "lading-" + base64.b32encode(secrets.token_bytes(14)).decode().lower()[:22]


# ---- what must be launched ------------------------------------------------------------------


def workflows_with_demand(backends: Sequence[str]) -> Work:
    """Return ids of workflows whose ready jobs may need an allocation, or whose pending ones may not."""

    def work(_effects: Effects) -> Steps:
        rows = yield Statement(
            "SELECT DISTINCT w.id FROM workflow w JOIN scheduler_config c ON c.workflow_id = w.id "
            "WHERE c.kind IN_LIST(:kinds) AND NOT w.is_archived AND w.run_id > 0 AND ("
            "(NOT w.is_canceled AND w.n_ready + w.n_scheduled > 0) OR EXISTS (SELECT 1 FROM "
            "scheduled_compute_node a WHERE a.workflow_id = w.id AND a.status IN ('uninitialized', "
            "'pending') AND NOT a.cancel_requested)) ORDER BY w.id",
            {"kinds": list(backends)},
        )
        return [row["id"] for row in rows]

    return work


def plan_launches(
    workflow_id: int,
    backends: Sequence[str],
    now_ms: int,
    *,
    site: str = "",
    shape_backends: Sequence[str] = (),
) -> Work:
    """Write the launches that a workflow's ready jobs ask for, and their allocation rows."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow_id(workflow_id)
        if row is None or row["run_id"] == 0:
            return
        ledger = Ledger(row, now_ms, effects)
        if row["is_canceled"] or ledger.count(*_UNFINISHED) == 0:
            # Active allocations leave by themselves; those that only wait in a queue are taken back.
            yield from _take_back_launches(ledger)
            return
        yield from schedule_requested(ledger, write_launches=True)
        yield from ledger.write_jobs()
        yield from shapes.begin_patience(workflow_id, shape_backends, now_ms)
        work_classes, configs, opened = yield from demand_of(ledger)
        rows = {found["config_id"]: found for found in (yield from _configs(ledger))}
        usable = [c for c in configs if c.kind in backends and sites.site_of(rows[c.id]["body"]) == site]
        for plan in demand.plan(work_classes, usable, opened):
            yield from _write_launch(ledger, rows[plan.config_id], plan.count, {}, automatic=True)
        yield from ledger.flush()

    return work


def _take_back_launches(ledger: Ledger) -> Steps:
    """Nobody needs them any more: those whose call was never made are closed, the others canceled."""
    parameters = {"id": ledger.workflow_id, "now": ledger.now_ms}
    yield Statement(
        "UPDATE scheduled_compute_node SET status = 'complete', reason = 'no job needs it any more', "
        "ended_ms = :now, rev = rev + 1 WHERE workflow_id = :id AND status = 'uninitialized' "
        "AND launch_id IN (SELECT id FROM launch WHERE workflow_id = :id AND state = 'stored')",
        parameters,
    )
    yield Statement(
        "UPDATE launch SET state = 'failed', error = 'no job needs it any more' "
        "WHERE workflow_id = :id AND state = 'stored'",
        {"id": ledger.workflow_id},
    )
    yield Statement(
        "UPDATE scheduled_compute_node SET cancel_requested = TRUE WHERE workflow_id = :id "
        "AND status IN ('uninitialized', 'pending')",
        {"id": ledger.workflow_id},
    )


def schedule_requested(ledger: Ledger, *, write_launches: bool) -> Steps:
    """Flip ready jobs with `schedule_compute_nodes` to scheduled; return their requests.

    With `write_launches` (our submitter) each request also becomes a launch, once per (job, run_id);
    without (torc's workers, who submit by themselves) the requests are only answered.
    """
    rows = yield Statement(
        "SELECT * FROM job WHERE workflow_id = :id AND status = 'ready' "
        "AND schedule_compute_nodes IS NOT NULL ORDER BY id",
        {"id": ledger.workflow_id},
    )
    requests, honoured = [], []
    configs = {found["config_id"]: found for found in (yield from _configs(ledger))} if rows else {}
    for row, job in zip(rows, ledger.adopt(rows), strict=True):
        request = orjson.loads(row["schedule_compute_nodes"])
        requests.append(
            {
                "scheduler_id": request["scheduler_id"],
                "num_jobs": request["num_jobs"],
                "max_parallel_jobs": request.get("max_parallel_jobs"),
                "start_one_worker_per_node": request.get("start_one_worker_per_node", False),
            }
        )
        ledger.set_status(job, JobStatus.SCHEDULED)
        if not write_launches or row["scheduled_run_id"] == ledger.run_id:
            continue
        honoured.append({"id": job.id, "run_id": ledger.run_id})
        config = configs.get(request["scheduler_id"])
        if config is not None and config["paused_reason"] is None:
            parameters = {
                name: requests[-1][name] for name in ("max_parallel_jobs", "start_one_worker_per_node")
            }
            yield from _write_launch(ledger, config, request["num_jobs"], parameters, automatic=False)
    yield Many("UPDATE job SET scheduled_run_id = :run_id WHERE id = :id", honoured)
    return requests


def prepare_jobs_for_scheduling(principal: Principal, workflow: str, *, launch: bool, now_ms: int) -> Work:
    """Do what torc's endpoint of that name does: flip and answer; `launch` also writes the launches."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        if row["is_canceled"]:
            return {"schedulers": []}
        ledger = Ledger(row, now_ms, effects)
        requests = yield from schedule_requested(ledger, write_launches=launch)
        yield from ledger.flush()
        return {"schedulers": requests}

    return work


def request_allocations(principal: Principal, workflow: str, request: AllocationRequest, now_ms: int) -> Work:
    """Write the launch that a person asks for; a config that was paused is tried again by that."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        if not 1 <= request.count <= _MOST_AT_ONCE:
            raise BadInput(f"count: {request.count} is not from 1 to {_MOST_AT_ONCE}.")
        if request.max_parallel_jobs is not None and request.max_parallel_jobs < 1:
            raise BadInput(f"max_parallel_jobs: {request.max_parallel_jobs} is not at least 1.")
        if row["run_id"] == 0:
            raise BadInput(f"Workflow {workflow} is not started: its nodes would find no job.")
        ledger = Ledger(row, now_ms, effects)
        configs = {config["config_id"]: config for config in (yield from _configs(ledger))}
        config = configs.get(request.scheduler_config_id)
        if config is None:
            accepted = ", ".join(configs) or "none"
            raise NotFound(
                f"scheduler_config_id: {request.scheduler_config_id!r} is none of this workflow; "
                f"accepted: {accepted}."
            )
        yield Statement(
            "UPDATE scheduler_config SET paused_reason = NULL WHERE id = :id", {"id": config["id"]}
        )
        parameters = {
            "max_parallel_jobs": request.max_parallel_jobs,
            "start_one_worker_per_node": request.start_one_worker_per_node,
        }
        tag, ids = yield from _write_launch(ledger, config, request.count, parameters, automatic=False)
        yield from ledger.flush()
        return AllocationRequestResponse(tag=tag, allocations=[str(row_id) for row_id in ids])

    return work


def _configs(ledger: Ledger) -> Steps:
    rows = yield Statement(
        "SELECT * FROM scheduler_config WHERE workflow_id = :id ORDER BY id", {"id": ledger.workflow_id}
    )
    return [{**dict(row), "config_id": config_id(ledger.workflow_key, row)} for row in rows]


def _write_launch(
    ledger: Ledger, config: Mapping[str, Any], count: int, parameters: Mapping[str, Any], *, automatic: bool
) -> Steps:
    """Store a launch with its rows; return its tag and the rows' ids."""
    ids = yield from take_ids(count + 1)
    tag = new_tag()
    yield Statement(
        "INSERT INTO launch (id, tag, workflow_id, backend, scheduler_id, scheduler_config_id, count, "
        "state, automatic, parameters, created_ms) VALUES (:id, :tag, :workflow_id, :backend, "
        ":scheduler_id, :config_id, :count, 'stored', :automatic, :parameters, :now)",
        {
            "id": ids[0],
            "tag": tag,
            "workflow_id": ledger.workflow_id,
            "backend": config["kind"],
            "scheduler_id": config["id"],
            "config_id": config["config_id"],
            "count": count,
            "automatic": automatic,
            "parameters": orjson.dumps(parameters).decode(),
            "now": ledger.now_ms,
        },
    )
    yield Many(
        "INSERT INTO scheduled_compute_node (id, workflow_id, scheduler_config_id, status, launch_id, "
        "row_index, created_ms) VALUES (:id, :workflow_id, :config_id, 'uninitialized', :launch, :index, :now)",
        [
            {
                "id": row_id,
                "workflow_id": ledger.workflow_id,
                "config_id": config["config_id"],
                "launch": ids[0],
                "index": index,
                "now": ledger.now_ms,
            }
            for index, row_id in enumerate(ids[1:])
        ],
    )
    ledger.effects.demand = True
    return tag, ids[1:]


def demand_of(ledger: Ledger) -> Steps:
    """Return (ready work by class, configs, open allocations per config) for the planner."""
    classes = yield Statement(
        "SELECT * FROM request_class WHERE workflow_id = :id AND n_claimable > 0 ORDER BY id",
        {"id": ledger.workflow_id},
    )
    running = yield Statement(
        "SELECT request_class_id, count(*) AS number FROM job WHERE workflow_id = :id "
        "AND status IN ('submitted', 'submitted_pending') GROUP BY request_class_id",
        {"id": ledger.workflow_id},
    )
    busy = {row["request_class_id"]: row["number"] for row in running}
    work_classes = [
        demand.WorkClass(
            count=row["n_claimable"],
            num_cpus=row["num_cpus"],
            memory_bytes=row["memory_bytes"],
            num_gpus=row["num_gpus"],
            num_nodes=row["num_nodes"],
            runtime_seconds=row["runtime_seconds"],
            scheduler_config_id=row["scheduler_config_id"] or None,
            running=busy.get(row["id"], 0),
        )
        for row in classes
    ]
    unserved = yield from sites.unserved(ledger.workflow_id, ledger.now_ms)
    configs = [
        shapes.view_of(config, ledger.now_ms, unserved.get(config["id"], ""))
        for config in (yield from _configs(ledger))
    ]
    opened = yield Statement(
        "SELECT scheduler_config_id, count(*) AS total, "
        "sum(CASE WHEN status = 'active' THEN 1 ELSE 0 END) AS active FROM scheduled_compute_node "
        "WHERE workflow_id = :id AND status <> 'complete' GROUP BY scheduler_config_id",
        {"id": ledger.workflow_id},
    )
    counts = {row["scheduler_config_id"]: demand.OpenCount(row["total"], row["active"]) for row in opened}
    return work_classes, configs, counts


# ---- what the submitter is told -------------------------------------------------------------


def open_work(backends: Sequence[str], now_ms: int, *, site: str = "") -> Work:
    """Return every launch that is not finished and every allocation that is open, of backends at a site."""

    def work(_effects: Effects) -> Steps:
        rows = yield Statement(
            "SELECT l.*, c.body, c.name AS config_name, w.key AS workflow_text_key, w.config AS workflow_config "
            "FROM launch l JOIN workflow w ON w.id = l.workflow_id "
            "LEFT JOIN scheduler_config c ON c.id = l.scheduler_id "
            "WHERE l.backend IN_LIST(:backends) AND l.state IN ('stored', 'submitting') ORDER BY l.id",
            {"backends": list(backends)},
        )
        rows = [row for row in rows if sites.site_of(row["body"]) == site]
        members = yield Statement(
            "SELECT id, key, launch_id FROM scheduled_compute_node WHERE launch_id IN_LIST(:ids) "
            "ORDER BY launch_id, row_index",
            {"ids": [row["id"] for row in rows]},
        )
        keys: dict[int, list[str]] = {}
        for member in members:
            keys.setdefault(member["launch_id"], []).append(key_of(member))
        launches = [_launch(row, keys.get(row["id"], []), now_ms) for row in rows]
        return launches, (yield from _open_allocations(backends, site))

    return work


def _launch(row: Any, allocations: list[str], now_ms: int) -> Launch:
    config = orjson.loads(row["workflow_config"])
    return Launch(
        tag=row["tag"],
        backend=row["backend"],
        workflow=row["workflow_text_key"] or str(row["workflow_id"]),
        config_id=row["scheduler_config_id"],
        config={"name": row["config_name"], **orjson.loads(row["body"] or "{}")},
        count=row["count"],
        state=row["state"],
        allocations=allocations,
        parameters=orjson.loads(row["parameters"]),
        working_directory=config.get("working_directory"),
        output_directory=config.get("output_directory"),
        not_before_seconds=max(0.0, (row["not_before_ms"] - now_ms) / 1000),
    )


def _open_allocations(backends: Sequence[str], site: str) -> Steps:
    rows = yield Statement(
        "SELECT a.*, l.tag, l.backend, w.key AS workflow_text_key, c.body, c.name AS config_name, "
        "(SELECT count(*) FROM compute_node n WHERE n.allocation_id = a.id "
        "AND n.state IN ('active', 'silent') AND (n.state = 'silent' OR n.ending)) AS suspects "
        "FROM scheduled_compute_node a JOIN launch l ON l.id = a.launch_id "
        "JOIN workflow w ON w.id = a.workflow_id LEFT JOIN scheduler_config c ON c.id = l.scheduler_id "
        "WHERE a.status <> 'complete' AND l.backend IN_LIST(:backends) ORDER BY a.id",
        {"backends": list(backends)},
    )
    return [
        OpenAllocation(
            allocation=key_of(row),
            workflow=row["workflow_text_key"] or str(row["workflow_id"]),
            backend=row["backend"],
            tag=row["tag"],
            state=row["status"],
            external_id=row["scheduler_id"] or "",
            config={"name": row["config_name"], **orjson.loads(row["body"] or "{}")},
            cancel=bool(row["cancel_requested"]),
            suspect=row["suspects"] > 0,
        )
        for row in rows
        if sites.site_of(row["body"]) == site
    ]
