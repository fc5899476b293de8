"""How many allocations each config gets: the rules of `domain.planning` on what is stored.

Planned in the transaction that writes the launches, under the workflow's lock: two submitters that
look at the same moment never ask twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from lading.api.services import setbacks, shapes, sites, taking_back
from lading.api.services.identity import Principal
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.nodes import asked_buffer_seconds
from lading.api.services.submissions import configs_of, schedule_requested, write_launch
from lading.api.services.workflows import find_workflow, lock_workflow_id
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain.buffers import buffer_seconds
from lading.toolkit.domain.demand import OpenCount, WorkClass
from lading.toolkit.domain.planning import plan
from lading.toolkit.domain.states import WORKFLOW_COMPLETE, AllocationState, JobStatus
from lading.toolkit.domain.waiting import state_of
from lading.toolkit.wire.submissions import ConfigPlanning, Planning

_UNFINISHED: Final = tuple(set(JobStatus) - WORKFLOW_COMPLETE)
_MOST_REASONS: Final = 3
_OPEN: Final = (
    "SELECT a.*, l.automatic, l.error, l.not_before_ms AS retry_ms, (SELECT min(n.started_ms) FROM compute_node n "
    "WHERE n.allocation_id = a.id AND n.state IN ('active', 'silent')) AS began_ms FROM scheduled_compute_node a "
    "LEFT JOIN launch l ON l.id = a.launch_id WHERE a.workflow_id = :id AND a.status <> 'complete' ORDER BY a.id"
)


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
    take_back_backends: Sequence[str] = (),
) -> Work:
    """Write the launches that a workflow's ready jobs ask for, and note which waiting ones nothing needs."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow_id(workflow_id)
        if row is None or row["run_id"] == 0:
            return
        ledger = Ledger(row, now_ms, effects)
        if row["is_canceled"] or ledger.count(*_UNFINISHED) == 0:
            # Active allocations leave by themselves; those that only wait in a queue are taken back.
            yield from taking_back.everything(ledger)
            return
        yield from schedule_requested(ledger, write_launches=True)
        yield from ledger.write_jobs()
        yield from shapes.begin_patience(workflow_id, shape_backends, now_ms)
        rows = yield from setbacks.forgive(ledger, (yield from configs_of(ledger)))
        demand, views, opened = yield from _views(ledger, rows, take_back_backends)
        stored = {config["config_id"]: config for config in rows}
        usable = [
            view for view in views if view.kind in backends and sites.site_of(stored[view.id]["body"]) == site
        ]
        for planned in plan(demand, usable, opened):
            config = stored[planned.config_id]
            if planned.launch:
                yield from write_launch(ledger, config, planned.launch, {}, automatic=True)
            else:
                yield from taking_back.note_surplus(ledger, config, planned.surplus)
        yield from ledger.flush()

    return work


def demand_of(ledger: Ledger) -> Steps:
    """Return (work by class, configs, open allocations per config) for explanations."""
    return (yield from _views(ledger, (yield from configs_of(ledger)), ()))


def planning(principal: Principal, workflow: str, now_ms: int) -> Work:
    """Return for each config what planning wants of it, and why no more comes."""

    def work(effects: Effects) -> Steps:
        row = yield from find_workflow(principal, workflow)
        demand, views, opened = yield from demand_of(Ledger(row, now_ms, effects))
        plans = {planned.config_id: planned for planned in plan(demand, views, opened)}
        found = []
        for view in views:
            count = opened.get(view.id, OpenCount())
            planned = plans[view.id]
            is_idle = not count.total and not planned.demand
            found.append(
                ConfigPlanning(
                    scheduler_config_id=view.id,
                    name=view.label,
                    demand=planned.demand,
                    running=count.active,
                    pending=count.waiting,
                    wanted=planned.wanted,
                    why="no ready job asks for it" if is_idle and not view.paused else state_of(view, count),
                    retry_at=view.retry_at or None,
                )
            )
        return Planning(configs=found)

    return work


def _views(ledger: Ledger, rows: Sequence[Mapping[str, Any]], take_back_backends: Sequence[str]) -> Steps:
    work_classes = yield from _work_classes(ledger)
    unserved = yield from sites.unserved(ledger.workflow_id, ledger.now_ms)
    buffer = asked_buffer_seconds(orjson.loads(ledger.workflow["config"]))
    names = Counter(config["name"] or "" for config in rows)
    views = [
        shapes.view_of(
            config,
            ledger.now_ms,
            unserved=unserved.get(config["id"], ""),
            name=_label(config, names),
            buffer_seconds=buffer,
        )
        for config in rows
    ]
    returnable = {config["config_id"] for config in rows if config["kind"] in take_back_backends}
    opened = yield Statement(_OPEN, {"id": ledger.workflow_id})
    by_config: dict[str, list[Any]] = {}
    for allocation in opened:
        by_config.setdefault(allocation["scheduler_config_id"], []).append(allocation)
    counts = {
        identity: _count(allocations, ledger.now_ms, buffer, may_return=identity in returnable)
        for identity, allocations in by_config.items()
    }
    return work_classes, views, counts


def _work_classes(ledger: Ledger) -> Steps:
    running = yield Statement(
        "SELECT request_class_id, count(*) AS number FROM job WHERE workflow_id = :id "
        "AND status IN ('submitted', 'submitted_pending') GROUP BY request_class_id",
        {"id": ledger.workflow_id},
    )
    busy = {row["request_class_id"]: row["number"] for row in running if row["request_class_id"] is not None}
    # Also classes of which jobs only run: they fill what is open.
    classes = yield Statement(
        "SELECT * FROM request_class WHERE workflow_id = :id AND (n_claimable > 0 OR id IN_LIST(:busy)) "
        "ORDER BY id",
        {"id": ledger.workflow_id, "busy": sorted(busy)},
    )
    return [work_class(row, row["n_claimable"], busy.get(row["id"], 0)) for row in classes]


def work_class(row: Any, count: int, running: int = 0) -> WorkClass:
    """Return what a request class, or one job, asks for."""
    return WorkClass(
        count=count,
        num_cpus=row["num_cpus"],
        memory_bytes=row["memory_bytes"],
        num_gpus=row["num_gpus"],
        num_nodes=row["num_nodes"],
        runtime_seconds=row["runtime_seconds"],
        scheduler_config_id=row["scheduler_config_id"] or None,
        running=running,
    )


def _label(config: Mapping[str, Any], names: Mapping[str, int]) -> str:
    """Return a config's own name, with its id where several have the same."""
    name = config["name"] or ""
    if not name or names[name] == 1:
        return name or str(config["config_id"])
    return f"{name} ({config['config_id']})"


def _count(allocations: Sequence[Any], now_ms: int, buffer: float, *, may_return: bool) -> OpenCount:
    # One that drains takes no more jobs, so it is no room for any.
    staying = [row for row in allocations if not row["draining"]]
    active = [row for row in staying if row["status"] == AllocationState.ACTIVE]
    waiting = [
        row
        for row in staying
        if row["status"] != AllocationState.ACTIVE
        and not row["cancel_requested"]
        and row["take_back_reason"] is None
    ]
    # Of what was never submitted only that which waits for room, for all else is a matter of a moment.
    returnable = [
        row
        for row in waiting
        if may_return and row["automatic"] and (row["status"] == AllocationState.PENDING or row["error"])
    ]
    reasons = dict.fromkeys(text for row in waiting if (text := _why_waiting(row, now_ms)))
    return OpenCount(
        total=len(allocations),
        active=len(active),
        leaving=len(allocations) - len(active) - len(waiting),
        returnable=len(returnable),
        seconds_left=tuple(_seconds_left(row, now_ms, buffer) for row in active if row["end_ms"] is not None),
        reasons=tuple(list(reasons)[:_MOST_REASONS]),
    )


def _seconds_left(row: Any, now_ms: int, buffer: float) -> float:
    began_ms = now_ms if row["began_ms"] is None else row["began_ms"]
    whole = float(row["end_ms"] - began_ms) / 1000
    return max(0.0, float(row["end_ms"] - now_ms) / 1000 - buffer_seconds(buffer, whole))


def _why_waiting(row: Any, now_ms: int) -> str:
    if row["reason"]:
        return str(row["reason"])
    if not row["error"]:
        return ""
    if row["retry_ms"] > now_ms:
        return f"submission is tried again at {iso_utc(row['retry_ms'] / 1000)}: {row['error']}"
    return f"submission is tried again: {row['error']}"
