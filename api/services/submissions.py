"""The server's side of the submitter: what must be activated, and how that is told. How many: `planning`.

Everything is a row. A launch and its allocation rows are written in the transaction that decides on
them, so a lost answer loses nothing: the submitter is told again what is not finished.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from lading.api.services import setbacks, sites
from lading.api.services.identity import Principal
from lading.api.services.initialize import config_id
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.workflows import lock_workflow
from lading.api.storage.keys import key_of, take_ids
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.domain.states import JobStatus
from lading.toolkit.errors import BadInput, NotFound
from lading.toolkit.wire.submissions import (
    AllocationRequest,
    AllocationRequestResponse,
    Launch,
    OpenAllocation,
)

_MOST_AT_ONCE = 1_000
_OTHER_HALF_MS = 60_000


def new_tag() -> str:
    """Name a launch: `lading-` and 22 characters of base32, which every batch system accepts."""
    return "lading-" + base64.b32encode(secrets.token_bytes(14)).decode().lower()[:22]


# ---- what must be launched ------------------------------------------------------------------


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
    configs = {found["config_id"]: found for found in (yield from configs_of(ledger))} if rows else {}
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
            yield from write_launch(ledger, config, request["num_jobs"], parameters, automatic=False)
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
        configs = {config["config_id"]: config for config in (yield from configs_of(ledger))}
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
        yield from setbacks.forget(config["id"])
        parameters = {
            "max_parallel_jobs": request.max_parallel_jobs,
            "start_one_worker_per_node": request.start_one_worker_per_node,
        }
        tag, ids = yield from write_launch(ledger, config, request.count, parameters, automatic=False)
        yield from ledger.flush()
        return AllocationRequestResponse(tag=tag, allocations=[str(row_id) for row_id in ids])

    return work


def configs_of(ledger: Ledger) -> Steps:
    """Return the rows of a workflow's configs, in the order in which they are used, with their `config_id`."""
    rows = yield Statement(
        "SELECT * FROM scheduler_config WHERE workflow_id = :id ORDER BY id", {"id": ledger.workflow_id}
    )
    return [{**dict(row), "config_id": config_id(ledger.workflow_key, row)} for row in rows]


def write_launch(
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
    # What waits from now on has not been too many yet.
    yield Statement("UPDATE scheduler_config SET surplus = 0 WHERE id = :id", {"id": config["id"]})
    ledger.effects.demand = True
    return tag, ids[1:]


def divide_launch(ledger: Ledger, launch: Mapping[str, Any], error: str) -> Steps:
    """Make two launches of one of which nothing was made, and for all of which there is no room.

    The rows keep their keys. The later half is tried at once, the other when that may have found its place. The
    old tag is gone: a report of it that comes twice finds nothing to divide.
    """
    rows = yield Statement(
        "SELECT id FROM scheduled_compute_node WHERE launch_id = :id ORDER BY row_index", {"id": launch["id"]}
    )
    if len(rows) < 2:
        return
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    ids = yield from take_ids(len(halves))
    for launch_id, half, later_ms in zip(ids, halves, (ledger.now_ms + _OTHER_HALF_MS, 0), strict=True):
        yield Statement(
            "INSERT INTO launch (id, tag, workflow_id, backend, scheduler_id, scheduler_config_id, count, state, "
            "automatic, parameters, error, not_before_ms, created_ms) SELECT :id, :tag, workflow_id, backend, "
            "scheduler_id, scheduler_config_id, :count, 'stored', automatic, parameters, :error, :later, "
            "created_ms FROM launch WHERE id = :divided",
            {
                "id": launch_id,
                "tag": new_tag(),
                "count": len(half),
                "error": error,
                "later": later_ms,
                "divided": launch["id"],
            },
        )
        yield Many(
            "UPDATE scheduled_compute_node SET launch_id = :launch, row_index = :index WHERE id = :id",
            [{"id": row["id"], "launch": launch_id, "index": index} for index, row in enumerate(half)],
        )
    yield Statement("DELETE FROM launch WHERE id = :id", {"id": launch["id"]})
    ledger.effects.demand = True


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
            "SELECT id, key, launch_id, cancel_requested, take_back_reason FROM scheduled_compute_node WHERE launch_id IN_LIST(:ids) "
            "ORDER BY launch_id, row_index",
            {"ids": [row["id"] for row in rows]},
        )
        of_launch: dict[int, list[Any]] = {}
        for member in members:
            of_launch.setdefault(member["launch_id"], []).append(member)
        launches = [_launch(row, of_launch.get(row["id"], []), now_ms) for row in rows]
        return launches, (yield from _open_allocations(backends, site))

    return work


def _launch(row: Any, allocations: Sequence[Any], now_ms: int) -> Launch:
    config = orjson.loads(row["workflow_config"])
    return Launch(
        tag=row["tag"],
        backend=row["backend"],
        workflow=row["workflow_text_key"] or str(row["workflow_id"]),
        config_id=row["scheduler_config_id"],
        config={"name": row["config_name"], **orjson.loads(row["body"] or "{}")},
        count=row["count"],
        state=row["state"],
        allocations=[key_of(allocation) for allocation in allocations],
        withdraw=all(
            allocation["cancel_requested"] or allocation["take_back_reason"] is not None
            for allocation in allocations
        ),
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
            take_back=row["take_back_reason"] is not None,
            suspect=row["suspects"] > 0,
        )
        for row in rows
        if sites.site_of(row["body"]) == site
    ]
