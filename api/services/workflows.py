"""Finding a workflow, with or without its lock: the first statement of almost every use case.

Every engine transaction locks its workflow's row first. So counters, run_id and the event sequence
are exact, two completions never deadlock, and no claimant misses a job that another one looked at.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from lading.api.services.identity import Principal
from lading.api.storage.keys import key_filter, key_of
from lading.api.storage.statements import Many, Rows, Statement
from lading.toolkit.errors import NotFound

Steps = Generator[Statement | Many, Rows, Any]


def find_workflow(principal: Principal, key: str) -> Steps:
    """Return the workflow's row without locking it. Raises NotFound also for one of somebody else's."""
    return (yield from _find(principal, key, ""))


def lock_workflow(principal: Principal, key: str) -> Steps:
    """Return the workflow's row, locked until the transaction ends."""
    return (yield from _find(principal, key, " FOR_UPDATE"))


def lock_workflow_id(workflow_id: int) -> Steps:
    """Lock a workflow on the server's own behalf; None when it is gone."""
    rows = yield Statement("SELECT * FROM workflow WHERE id = :id FOR_UPDATE", {"id": workflow_id})
    return rows[0] if rows else None


def _find(principal: Principal, key: str, lock: str) -> Steps:
    # A full `_id` (workflows/4600) is accepted wherever a key is.
    plain = key.removeprefix("workflows/")
    parameters: dict[str, Any] = {}
    condition = key_filter(plain, parameters)
    rows = yield Statement(f"SELECT * FROM workflow WHERE {condition}{lock}", parameters)
    # A chosen key wins over a generated one that reads alike; keys.chosen_id keeps that from happening.
    for row in rows:
        if principal.may_see(row["id"], row["owner"]):
            return row
    raise NotFound(f"no such workflow: {key}")


def workflow_key(row: Any) -> str:
    """Return the `_key` of a workflow's row."""
    return key_of(row)
