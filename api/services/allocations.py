"""What people do to allocations: end them, or let them run out."""

from __future__ import annotations

from typing import Any

from lading.api.services.identity import Principal
from lading.api.services.ledger import Steps
from lading.api.services.workflows import lock_workflow
from lading.api.storage.keys import key_filter, key_of
from lading.api.storage.statements import Effects, Many, Statement, Work
from lading.toolkit.errors import BadInput, NotFound


def cancel_allocation(principal: Principal, workflow: str, key: str) -> Work:
    """Ask for the end of an allocation: its runner reports and leaves, or it leaves the queue."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        allocation, living = yield from _open_allocation(row, key)
        yield from _cancel(effects, allocation)
        # The runner hears it at once by its open call, whatever its batch system does with a signal.
        yield Many(
            "UPDATE compute_node SET ending = TRUE, reason = 'its allocation was canceled' WHERE id = :id",
            [{"id": node["id"]} for node in living],
        )
        effects.nodes.update(node["id"] for node in living)
        return {"message": f"allocation {key} is being ended"}

    return work


def drain_allocation(principal: Principal, workflow: str, key: str) -> Work:
    """Let the nodes of an allocation finish what they run and leave; one without nodes leaves the queue."""

    def work(effects: Effects) -> Steps:
        row = yield from lock_workflow(principal, workflow)
        allocation, living = yield from _open_allocation(row, key)
        if not living and allocation["status"] != "active":
            yield from _cancel(effects, allocation)
            return {"message": f"allocation {key} has no node yet and leaves the queue"}
        yield Many(
            "UPDATE compute_node SET draining = TRUE WHERE id = :id", [{"id": node["id"]} for node in living]
        )
        # Of several nodes some may not have come yet, and Slurm may start all of them again.
        yield Statement(
            "UPDATE scheduled_compute_node SET draining = TRUE WHERE id = :id", {"id": allocation["id"]}
        )
        effects.nodes.update(node["id"] for node in living)
        return {"message": f"allocation {key} takes no more jobs and ends when it is idle"}

    return work


def _open_allocation(workflow: Any, key: str) -> Steps:
    """Return (the row of an allocation, its living nodes). Raises NotFound, and BadInput when it is over."""
    parameters: dict[str, Any] = {"workflow_id": workflow["id"]}
    condition = key_filter(key.removeprefix(f"scheduled_compute_nodes__{key_of(workflow)}/"), parameters)
    found = yield Statement(
        f"SELECT * FROM scheduled_compute_node WHERE workflow_id = :workflow_id AND {condition}", parameters
    )
    if not found:
        raise NotFound(f"no such allocation: {key}")
    if found[0]["status"] == "complete":
        raise BadInput(f"allocation {key} is over already: {found[0]['reason'] or 'complete'}")
    living = yield Statement(
        "SELECT id FROM compute_node WHERE allocation_id = :id AND state IN ('active', 'silent')",
        {"id": found[0]["id"]},
    )
    return found[0], living


def _cancel(effects: Effects, allocation: Any) -> Steps:
    yield Statement(
        "UPDATE scheduled_compute_node SET cancel_requested = TRUE WHERE id = :id", {"id": allocation["id"]}
    )
    effects.demand = True
