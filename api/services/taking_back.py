"""Allocations that wait in a queue for nothing: closed if nobody was asked yet, else taken out of it.

To take back is not to cancel: one that has started meanwhile stays, and so do its jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from lading.api.services.ledger import Ledger, Steps
from lading.api.storage.statements import Many, Statement

_PATIENCE_MS: Final = 60_000
"""So long there have to be too many: between two jobs of a chain nothing is ready for a moment."""
_NOT_NEEDED: Final = "no job needs it any more"


def note_surplus(ledger: Ledger, config: Mapping[str, Any], surplus: int) -> Steps:
    """Take back what has been too many all the time that a config is given; remember what was not for long."""
    seen, since = config["surplus"], config["surplus_ms"]
    if surplus == 0 and seen == 0:
        return
    if surplus == 0 or seen == 0 or since is None:
        yield from _remember(config, surplus, ledger.now_ms)
        return
    lowest = min(seen, surplus)
    if ledger.now_ms - since < _PATIENCE_MS:
        if lowest != seen:
            yield from _remember(config, lowest, since)
        return
    # The youngest: the others have waited longer, and batch systems count that.
    rows = yield Statement(
        "SELECT a.id FROM scheduled_compute_node a JOIN launch l ON l.id = a.launch_id "
        "WHERE l.scheduler_id = :config AND l.automatic AND (a.status = 'pending' OR (a.status = 'uninitialized' "
        "AND l.error IS NOT NULL)) AND NOT a.cancel_requested AND NOT a.draining AND a.take_back_reason IS NULL "
        "ORDER BY a.id DESC LIMIT :number",
        {"config": config["id"], "number": lowest},
    )
    yield Many(
        "UPDATE scheduled_compute_node SET take_back_reason = :reason WHERE id = :id",
        [{"id": row["id"], "reason": _NOT_NEEDED} for row in rows],
    )
    yield from _remember(config, 0, ledger.now_ms)
    ledger.effects.demand = True


def _remember(config: Mapping[str, Any], surplus: int, since_ms: int) -> Steps:
    yield Statement(
        "UPDATE scheduler_config SET surplus = :surplus, surplus_ms = :since WHERE id = :id",
        {"id": config["id"], "surplus": surplus, "since": since_ms},
    )


def give_up_hopeless(ledger: Ledger, allocation: Any, reason: str) -> Steps:
    """Of an allocation that will not start as it stands: take it back and pause its config, if that says so."""
    if allocation["cancel_requested"] or allocation["take_back_reason"] is not None:
        return
    rows = yield Statement(
        "SELECT c.id, c.body, c.paused_reason, l.scheduler_config_id FROM launch l "
        "JOIN scheduler_config c ON c.id = l.scheduler_id WHERE l.id = :id",
        {"id": allocation["launch_id"]},
    )
    for config in rows:
        if orjson.loads(config["body"]).get("on_cannot_start") == "keep":
            return
        yield Statement(
            "UPDATE scheduled_compute_node SET take_back_reason = :reason WHERE id = :id",
            {"id": allocation["id"], "reason": reason},
        )
        if config["paused_reason"] is None:
            yield from pause(ledger, config["id"], config["scheduler_config_id"], reason)
    ledger.effects.demand = True


def pause(ledger: Ledger, config_row: int, config_id: str, reason: str) -> Steps:
    """Ask for nothing of a config until a person changes it or asks for allocations; said as an event."""
    rows = yield Statement(
        "UPDATE scheduler_config SET paused_reason = :reason WHERE id = :id RETURNING name",
        {"id": config_row, "reason": reason},
    )
    name = rows[0]["name"] if rows else None
    ledger.add_event(
        {
            "category": "scheduler",
            "type": "pause",
            "scheduler_config_id": config_id,
            "message": f"{name or config_id} is paused: {reason}",
        }
    )


def withdrawn(launch_id: int, now_ms: int) -> Steps:
    """Close a launch that waited for room and of which the backend has made nothing."""
    parameters = {"id": launch_id, "reason": _NOT_NEEDED, "now": now_ms}
    yield Statement("UPDATE launch SET state = 'failed', error = :reason WHERE id = :id", parameters)
    yield Statement(
        "UPDATE scheduled_compute_node SET status = 'complete', reason = :reason, ended_ms = :now, "
        "rev = rev + 1 WHERE launch_id = :id AND status <> 'complete'",
        parameters,
    )


def started(allocation_id: int) -> Steps:
    """Keep one that has started before it could be taken back: its node may work."""
    yield Statement(
        "UPDATE scheduled_compute_node SET take_back_reason = NULL "
        "WHERE id = :id AND take_back_reason IS NOT NULL",
        {"id": allocation_id},
    )


def everything(ledger: Ledger) -> Steps:
    """The workflow is over: launches whose call was never made are closed, what waits is canceled.

    Also what starts in this moment: nothing is left to do for its node.
    """
    parameters = {"id": ledger.workflow_id, "now": ledger.now_ms, "reason": _NOT_NEEDED}
    yield Statement(
        "UPDATE scheduled_compute_node SET status = 'complete', reason = :reason, "
        "ended_ms = :now, rev = rev + 1 WHERE workflow_id = :id AND status = 'uninitialized' "
        "AND launch_id IN (SELECT id FROM launch WHERE workflow_id = :id AND state = 'stored')",
        parameters,
    )
    yield Statement(
        "UPDATE launch SET state = 'failed', error = :reason WHERE workflow_id = :id AND state = 'stored'",
        {"id": ledger.workflow_id, "reason": _NOT_NEEDED},
    )
    yield Statement(
        "UPDATE scheduled_compute_node SET cancel_requested = TRUE WHERE workflow_id = :id "
        "AND status IN ('uninitialized', 'pending')",
        {"id": ledger.workflow_id},
    )
