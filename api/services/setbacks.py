"""Allocations that ended without running a job: the next one is asked for later, each time twice as late.

It never stops: what cannot work shows up with its reason and the time of the next try, what works again
goes on by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lading.api.services.ledger import Ledger, Steps
from lading.api.storage.keys import key_of
from lading.api.storage.statements import Statement
from lading.toolkit.domain.planning import pause_seconds
from lading.toolkit.domain.states import JobStatus

NONE: Final[Mapping[str, Any]] = {"setbacks": 0, "setback_reason": None, "not_before_ms": None}
"""The columns of a config that has had no setback since the last success."""


def allocation_ended(ledger: Ledger, allocation_id: int, reason: str) -> Steps:
    """Note whether an allocation that has just ended was of use."""
    rows = yield Statement(
        "SELECT a.id, a.key, a.cancel_requested, a.draining, a.take_back_reason, l.scheduler_id, l.created_ms, c.setbacks, "
        "c.setback_ms, EXISTS (SELECT 1 FROM compute_node n WHERE n.allocation_id = a.id AND n.has_worked) "
        "AS has_worked FROM scheduled_compute_node a JOIN launch l ON l.id = a.launch_id "
        "JOIN scheduler_config c ON c.id = l.scheduler_id WHERE a.id = :id",
        {"id": allocation_id},
    )
    for row in rows:
        # One launch may bring ten allocations that fail alike: that is one setback.
        is_news = row["setback_ms"] is None or row["created_ms"] >= row["setback_ms"]
        was_ended = row["cancel_requested"] or row["draining"] or row["take_back_reason"] is not None
        is_needed = (
            ledger.count(JobStatus.READY, JobStatus.SCHEDULED) > 0 and not ledger.workflow["is_canceled"]
        )
        if is_news and is_needed and not row["has_worked"] and not was_ended:
            yield from _note(ledger, row, reason)


def _note(ledger: Ledger, row: Any, reason: str) -> Steps:
    number = row["setbacks"] + 1
    text = f"allocation {key_of(row)} ended without running a job: {reason}"
    seconds = pause_seconds(number)
    yield Statement(
        "UPDATE scheduler_config SET setbacks = :number, setback_reason = :text, setback_ms = :now, "
        "not_before_ms = :later WHERE id = :id",
        {
            "id": row["scheduler_id"],
            "number": number,
            "text": text,
            "now": ledger.now_ms,
            "later": ledger.now_ms + int(1000 * seconds),
        },
    )
    ledger.add_event(
        {
            "category": "scheduler",
            "type": "setback",
            "message": f"{text}; the next one is asked for in {seconds:g} s",
        }
    )


def forgive(ledger: Ledger, configs: Sequence[Mapping[str, Any]]) -> Steps:
    """Return configs without the setbacks of those of which a later allocation ran jobs."""
    burdened = [config["id"] for config in configs if config["setbacks"]]
    if not burdened:
        return configs
    worked = yield Statement(
        "SELECT DISTINCT c.id FROM scheduler_config c JOIN launch l ON l.scheduler_id = c.id "
        "JOIN scheduled_compute_node a ON a.launch_id = l.id JOIN compute_node n ON n.allocation_id = a.id "
        "WHERE c.id IN_LIST(:ids) AND l.workflow_id = :workflow AND l.created_ms > c.setback_ms AND n.has_worked",
        {"workflow": ledger.workflow_id, "ids": burdened},
    )
    forgiven = {row["id"] for row in worked}
    for config_row in sorted(forgiven):
        yield from forget(config_row)
    return [{**config, **NONE} if config["id"] in forgiven else config for config in configs]


def forget(config_row: int) -> Steps:
    """Begin anew: a person asked for allocations, or one of them worked."""
    yield Statement(
        "UPDATE scheduler_config SET setbacks = :setbacks, setback_reason = :setback_reason, "
        "not_before_ms = :not_before_ms WHERE id = :id",
        {**NONE, "id": config_row},
    )
