"""Compute nodes of our own runner: registration, leases, loss, good-bye.

A node's jobs are given to others only after its lease has ended or its death was proven; a runner
kills what it runs before its lease ends, so an ended lease means that nothing of it runs.
"""

from __future__ import annotations

from typing import Any

import orjson

from lading.api.services import attempts, completion_script, setbacks, taking_back
from lading.api.services.attempts import End
from lading.api.services.identity import Principal, Scope
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.tokens import hash_of
from lading.api.services.workflows import lock_workflow, lock_workflow_id, workflow_key
from lading.api.storage.keys import key_filter, key_of, take_ids
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain.buffers import DEFAULT_BUFFER_SECONDS, buffer_seconds
from lading.toolkit.domain.states import AllocationState, Cause, JobStatus, NodeState
from lading.toolkit.errors import BadInput, Conflict, Fenced, Forbidden, NotFound
from lading.toolkit.wire.extensions import RegisterRequest, RegisterResponse

LEASE_FLOOR_SECONDS = 5.0
FLUSH_SECONDS = 20.0
"""A renewal is written when the stored one is this old, or a sixth of the lease."""

OPEN_OF_NODE = "SELECT * FROM attempt WHERE compute_node_id = :node AND state <> 'ended'"


def lease_seconds(config: dict[str, Any]) -> float:
    """Return the tolerated outage: `lease_seconds`, else torc's minutes of waiting for the database."""
    explicit = config.get("lease_seconds")
    minutes = config.get("compute_node_wait_for_healthy_database_minutes", 20)
    return max(LEASE_FLOOR_SECONDS, float(explicit if explicit is not None else 60 * minutes))


def flush_seconds(lease: float) -> float:
    """Return how old a stored renewal may become before it is written anew."""
    return min(FLUSH_SECONDS, lease / 6)


def lease_until(now_ms: int, lease: float) -> int:
    """Return when a lease that was renewed now may be swept, in milliseconds.

    A renewal is written only now and then: the stored end lies later by that much, so that a reader
    (the sweeper, another server) never takes a node for lost whose last renewal was not written.
    """
    return now_ms + int(1000 * (lease + flush_seconds(lease)))


def register(
    principal: Principal, workflow: str, request: RegisterRequest, *, server_id: str, now_ms: int
) -> Work:
    """Add a node, or answer the same one to the same `registration_id`."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        allocation = yield from _allocation_of(principal, row, request)
        config = orjson.loads(row["config"])
        found = yield Statement(
            "SELECT * FROM compute_node WHERE registration_id = :id", {"id": request.registration_id}
        )
        if found:
            if found[0]["workflow_id"] != row["id"]:
                raise Conflict(f"registration_id: {request.registration_id!r} is of another workflow's node.")
            node_id = found[0]["id"]
        else:
            if row["is_archived"]:
                raise BadInput(f"Workflow {workflow} is archived: no node can join it.")
            ledger = Ledger(row, now_ms, effects)
            is_draining = yield from _fence_rivals(ledger, request, allocation)
            node_id = yield from _insert_node(ledger, request, allocation, lease_seconds(config))
            if is_draining or (allocation is not None and allocation["draining"]):
                # It came late, or Slurm started again what a person lets run out.
                yield Statement("UPDATE compute_node SET draining = TRUE WHERE id = :id", {"id": node_id})
            ledger.add_event(_worker_event("start", node_id, request.hostname, "Started worker"))
            if allocation is not None:
                yield from _activate(allocation)
            yield from ledger.flush()
        end_ms = allocation["end_ms"] if allocation is not None else None
        return RegisterResponse(
            workflow=workflow_key(row),
            compute_node=str(node_id),
            lease_seconds=lease_seconds(config),
            run_id=row["run_id"],
            server_id=server_id,
            config=config,
            working_directory=config.get("working_directory"),
            output_directory=config.get("output_directory"),
            end_seconds=end_seconds(end_ms, now_ms, config, now_ms),
            idle_seconds=(yield from _idle_seconds(allocation)),
        )

    return work


def end_seconds(end_ms: int | None, began_ms: int, config: dict[str, Any], now_ms: int) -> float | None:
    """Return the time until the runner, there since `began_ms`, must have left: the end minus the buffer."""
    if end_ms is None:
        return None
    asked = asked_buffer_seconds(config)
    return max(0.0, (end_ms - now_ms) / 1000 - buffer_seconds(asked, (end_ms - began_ms) / 1000))


def asked_buffer_seconds(config: dict[str, Any]) -> float:
    """Return how long before the end of an allocation its runner leaves, as the workflow asks."""
    return float(config.get("compute_node_expiration_buffer_seconds", DEFAULT_BUFFER_SECONDS))


def _allocation_of(principal: Principal, workflow: Any, request: RegisterRequest) -> Steps:
    if request.allocation is None:
        if principal.scope is Scope.NODE:
            raise Forbidden("This token registers nodes of one allocation; the request names none.")
        return None
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    condition = key_filter(request.allocation, parameters)
    rows = yield Statement(
        f"SELECT * FROM scheduled_compute_node WHERE workflow_id = :workflow_id AND {condition}", parameters
    )
    if not rows:
        raise NotFound(f"no such allocation: {request.allocation}")
    allocation = rows[0]
    if principal.scope is Scope.NODE and principal.allocation_id != allocation["id"]:
        raise Forbidden("This token belongs to another allocation.")
    if allocation["status"] == AllocationState.COMPLETE or allocation["cancel_requested"]:
        raise Fenced(f"allocation {request.allocation} is over: {allocation['reason'] or 'it ended'}")
    return allocation


def _idle_seconds(allocation: Any) -> Steps:
    """Return how long a node of the allocation stays without work; None where its config does not say."""
    if allocation is None or allocation["launch_id"] is None:
        return None
    rows = yield Statement(
        "SELECT c.body FROM launch l JOIN scheduler_config c ON c.id = l.scheduler_id WHERE l.id = :id",
        {"id": allocation["launch_id"]},
    )
    minutes = orjson.loads(rows[0]["body"]).get("idle_minutes") if rows else None
    return None if minutes is None else 60.0 * minutes


def _fence_rivals(ledger: Ledger, request: RegisterRequest, allocation: Any) -> Steps:
    """One living node per place of an allocation: a second one leaves, a restarted one takes over.

    Returns whether the newest copy before this one was draining.
    """
    if allocation is None:
        return False
    rows = yield Statement(
        "SELECT * FROM compute_node WHERE allocation_id = :allocation AND node_index = :node_index "
        "ORDER BY id",
        {"allocation": allocation["id"], "node_index": request.node_index},
    )
    for rival in rows:
        if request.restart_count <= rival["restart_count"]:
            raise Fenced(
                f"allocation {request.allocation} has had its node {request.node_index} "
                f"({rival['hostname']}, pid {rival['pid']}): a second one must not run."
            )
        # Requeued under the same id: the older copy may still run (it was seen to, on a node whose slurmd
        # is dead), so its jobs stay with it. It gets nothing new and leaves when they have ended.
        yield Statement(
            "UPDATE compute_node SET draining = TRUE, frozen = FALSE, reason = :reason WHERE id = :id",
            {"id": rival["id"], "reason": "its allocation was started again"},
        )
        if rival["frozen"]:
            # Suspended, it could not renew: its lease goes on from here.
            yield from thaw(rival, ledger.now_ms)
        ledger.effects.nodes.add(rival["id"])
    return bool(rows and rows[-1]["draining"])


def _insert_node(ledger: Ledger, request: RegisterRequest, allocation: Any, lease: float) -> Steps:
    resources = request.resources
    node_id, token_id = yield from take_ids(2)
    now_ms = ledger.now_ms
    yield Statement(
        "INSERT INTO compute_node (id, workflow_id, hostname, pid, start_time, is_active, resources, "
        "scheduler, state, registration_id, boot_id, allocation_id, node_index, restart_count, num_cpus, "
        "num_gpus, memory_bytes, scheduler_config_id, lease_seconds, lease_until_ms, last_seen_ms, "
        "started_ms) VALUES (:id, :workflow_id, :hostname, :pid, :start_time, TRUE, :resources, :scheduler, "
        "'active', :registration_id, :boot_id, :allocation_id, :node_index, :restart_count, :num_cpus, "
        ":num_gpus, :memory_bytes, :scheduler_config_id, :lease_seconds, :lease_until_ms, :now_ms, :now_ms)",
        {
            "id": node_id,
            "workflow_id": ledger.workflow_id,
            "hostname": request.hostname,
            "pid": request.pid,
            "start_time": iso_utc(now_ms / 1000),
            "resources": orjson.dumps(
                {
                    "num_cpus": resources.num_cpus,
                    "memory_gb": resources.memory_bytes / 2**30,
                    "num_gpus": resources.num_gpus,
                    "num_nodes": resources.num_nodes,
                    "scheduler_config_id": resources.scheduler_config_id,
                }
            ).decode(),
            "scheduler": orjson.dumps(request.scheduler).decode(),
            "registration_id": request.registration_id,
            "boot_id": request.boot_id,
            "allocation_id": allocation["id"] if allocation is not None else None,
            "node_index": request.node_index,
            "restart_count": request.restart_count,
            "num_cpus": resources.num_cpus,
            "num_gpus": resources.num_gpus,
            "memory_bytes": resources.memory_bytes,
            "scheduler_config_id": allocation["scheduler_config_id"]
            if allocation is not None
            else resources.scheduler_config_id,
            "lease_seconds": lease,
            "lease_until_ms": lease_until(now_ms, lease),
            "now_ms": now_ms,
        },
    )
    yield Statement(
        "INSERT INTO token (id, hash, label, scope, user_name, workflow_id, compute_node_id, created_ms) "
        "VALUES (:id, :hash, 'session', 'node', :user_name, :workflow_id, :node_id, :now)",
        {
            "id": token_id,
            "hash": hash_of(request.session_token),
            "user_name": ledger.workflow["owner"],
            "workflow_id": ledger.workflow_id,
            "node_id": node_id,
            "now": now_ms,
        },
    )
    return node_id


def _activate(allocation: Any) -> Steps:
    yield from taking_back.started(allocation["id"])
    if allocation["status"] != AllocationState.ACTIVE:
        # The reason was why it had not started; the batch system is not asked again for a while.
        yield Statement(
            "UPDATE scheduled_compute_node SET status = 'active', reason = NULL, rev = rev + 1 WHERE id = :id",
            {"id": allocation["id"]},
        )


def _worker_event(kind: str, node_id: int, hostname: str, message: str) -> dict[str, Any]:
    return {
        "category": "worker",
        "type": kind,
        "compute_node_key": str(node_id),
        "node_name": hostname,
        "message": message,
    }


# ---- the end of a node ----------------------------------------------------------------------


def thaw(node: Any, now_ms: int) -> Steps:
    """Let the lease of a suspended node run again, from now."""
    yield Statement(
        "UPDATE compute_node SET frozen = FALSE, lease_until_ms = :until WHERE id = :id",
        {"id": node["id"], "until": lease_until(now_ms, node["lease_seconds"])},
    )


def say_goodbye(ledger: Ledger, node: Any, *, is_final: bool) -> Steps:
    """The node's last call: nothing of it runs any more."""
    yield from _give_up(ledger, node, NodeState.LEFT, Cause.INFRASTRUCTURE, "left without a report", is_final)
    ledger.add_event(_worker_event("stop", node["id"], node["hostname"], "Stopped worker"))


def lose(ledger: Ledger, node: Any, cause: Cause, reason: str) -> Steps:
    """Its lease ended, or its death was proven: give its jobs back."""
    yield from _give_up(ledger, node, NodeState.LOST, cause, reason)
    ledger.add_event(_worker_event("stop", node["id"], node["hostname"], f"Lost worker: {reason}"))
    ledger.effects.nodes.add(node["id"])


def _give_up(
    ledger: Ledger, node: Any, state: NodeState, cause: Cause, reason: str, is_final: bool = False
) -> Steps:
    rows = yield Statement(OPEN_OF_NODE, {"node": node["id"]})
    ends = [
        End(
            row,
            cause,
            -9,
            JobStatus.TERMINATED,
            signal=9,
            exec_seconds=max(0.0, (ledger.now_ms - row["started_ms"]) / 1000) if row["started_ms"] else 0.0,
            started=row["started_ms"] is not None,
            message=reason,
        )
        for row in rows
    ]
    yield from attempts.end_attempts(ledger, ends, node["hostname"])
    yield from completion_script.give_back(ledger, node["id"])
    yield Statement(
        "UPDATE compute_node SET state = :state, is_active = FALSE, rev = rev + 1, reason = :reason, "
        "duration_seconds = :duration WHERE id = :id",
        {
            "id": node["id"],
            "state": state.value,
            "reason": reason if state is NodeState.LOST else None,
            "duration": max(0.0, (ledger.now_ms - (node["started_ms"] or ledger.now_ms)) / 1000),
        },
    )
    told = reason if state is NodeState.LOST else "its runner left"
    yield from _complete_allocation(ledger, node, told, is_final=is_final)


def _complete_allocation(ledger: Ledger, node: Any, reason: str, *, is_final: bool) -> Steps:
    """An allocation whose last node is gone is over as far as jobs are concerned."""
    if node["allocation_id"] is None:
        return
    others = yield Statement(
        "SELECT id FROM compute_node WHERE allocation_id = :allocation AND id <> :id "
        "AND state IN ('active', 'silent')",
        {"allocation": node["allocation_id"], "id": node["id"]},
    )
    if others:
        return
    if is_final:
        yield from complete_allocation(ledger, node["allocation_id"], reason)
        return
    # Slurm starts a preempted or requeued job again under its number: the row, and with it the right to
    # register, ends when Slurm says so.
    yield Statement(
        "UPDATE scheduled_compute_node SET reason = :reason, rev = rev + 1 WHERE id = :id "
        "AND status <> 'complete' AND launch_id IN (SELECT id FROM launch WHERE backend = 'slurm')",
        {"id": node["allocation_id"], "reason": reason},
    )
    kept = yield Statement(
        "SELECT a.id FROM scheduled_compute_node a JOIN launch l ON l.id = a.launch_id "
        "WHERE a.id = :id AND l.backend = 'slurm'",
        {"id": node["allocation_id"]},
    )
    if not kept:
        yield from complete_allocation(ledger, node["allocation_id"], reason)


def complete_allocation(ledger: Ledger, allocation_id: int, reason: str, cause: str | None = None) -> Steps:
    """Close an allocation's row; its node file opens nothing any more."""
    closed = yield Statement(
        "UPDATE scheduled_compute_node SET status = 'complete', reason = :reason, cause = :cause, "
        "ended_ms = :now, rev = rev + 1 WHERE id = :id AND status <> 'complete' RETURNING id",
        {"id": allocation_id, "reason": reason, "cause": cause, "now": ledger.now_ms},
    )
    if closed:
        yield from setbacks.allocation_ended(ledger, allocation_id, reason)
    ledger.effects.demand = True
    ledger.effects.tokens = True


# ---- what people do to nodes ----------------------------------------------------------------


def find_node(workflow: Any, key: str) -> Steps:
    """Return the row of a node of that workflow; accepts a full `_id`. Raises NotFound."""
    plain = key.removeprefix(f"compute_nodes__{key_of(workflow)}/")
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    condition = key_filter(plain, parameters)
    rows = yield Statement(
        f"SELECT * FROM compute_node WHERE workflow_id = :workflow_id AND {condition}", parameters
    )
    if not rows:
        raise NotFound(f"no such compute node: {key}")
    return rows[0]


def drain(principal: Principal, workflow: str, key: str) -> Work:
    """Let a node finish what it runs, claim nothing more, and leave."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        node = yield from find_node(row, key)
        if node["state"] not in (NodeState.ACTIVE, NodeState.SILENT):
            raise BadInput(f"compute node {key} is not running here: {node['state'] or 'of another client'}")
        yield Statement("UPDATE compute_node SET draining = TRUE WHERE id = :id", {"id": node["id"]})
        effects.nodes.add(node["id"])
        return {"message": f"compute node {key} claims no more jobs and leaves when it is idle"}

    return work


def declare_lost(principal: Principal, workflow: str, key: str, now_ms: int) -> Work:
    """End a lease by hand: a person vouches that nothing of the node runs."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        node = yield from find_node(row, key)
        if node["state"] in (NodeState.LEFT, NodeState.LOST):
            raise BadInput(f"compute node {key} is over already: {node['state']}")
        ledger = Ledger(row, now_ms, effects)
        yield from lose(ledger, node, Cause.NODE_LOST, f"declared lost by {principal.user}")
        yield from ledger.flush()
        return {"message": f"compute node {key} is lost; its jobs go to other nodes"}

    return work


def lose_by_id(workflow_id: int, node_id: int, cause: Cause, reason: str, now_ms: int) -> Work:
    """Sweep one node whose lease has ended, if it still has; returns whether it was lost now."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow_id(workflow_id)
        if row is None:
            return False
        nodes = yield Statement(
            "SELECT * FROM compute_node WHERE id = :id AND state IN ('active', 'silent') "
            "AND NOT frozen AND lease_until_ms < :now",
            {"id": node_id, "now": now_ms},
        )
        if not nodes:
            # It renewed between the sweeper's look and this lock.
            return False
        ledger = Ledger(row, now_ms, effects)
        yield from lose(ledger, nodes[0], cause, reason)
        yield from ledger.flush()
        return True

    return work
