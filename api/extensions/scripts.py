"""The workflow's completion script: claimed and reported by one of its nodes."""

from __future__ import annotations

from typing import Any

from lading.api.context import Call
from lading.api.routing import Route
from lading.api.services import completion_script
from lading.api.services.idempotency import once
from lading.api.services.identity import Scope
from lading.api.storage.statements import Effects, UseCase
from lading.toolkit.clock import to_milliseconds
from lading.toolkit.errors import Forbidden, NotFound
from lading.toolkit.wire.extensions import CompletionScript, CompletionScriptReport

_NODE = "/workflows/{workflow}/compute_nodes/{key}"
_SCOPES = frozenset({Scope.NODE})


def _node(call: Call) -> tuple[int, int]:
    """Return (workflow, node) of the calling runner, which speaks for itself only."""
    principal = call.principal
    if principal.workflow_id is None or principal.compute_node_id is None:
        raise Forbidden("The completion script belongs to a node: send the session token of one.")
    if call.path["key"] != str(principal.compute_node_id):
        raise NotFound(f"no such compute node: {call.path['key']}")
    return principal.workflow_id, principal.compute_node_id


def _now(call: Call) -> int:
    return to_milliseconds(call.services.clock.wall())


async def claim_completion_script(call: Call) -> Any:
    """Give the script to the first node that asks once the workflow is complete, for as long as it lives."""
    workflow_id, node_id = _node(call)
    now_ms = _now(call)
    claim = completion_script.claim_by_node(workflow_id, node_id, now_ms)
    key, body_hash = call.idempotency_key, call.body_hash

    def work(effects: Effects) -> UseCase:
        # A claim whose answer was lost is asked for again: without the key nobody would run the script.
        return (yield from once(call.principal, key, body_hash, now_ms, lambda: claim(effects)))

    return await call.services.database.write(work)


async def report_completion_script(call: Call) -> Any:
    """Record how the script ended, as an event."""
    workflow_id, node_id = _node(call)
    work = completion_script.report(workflow_id, node_id, call.body, _now(call))
    return await call.services.database.write(work)


ROUTES: tuple[Route, ...] = (
    Route(
        "POST", f"{_NODE}/claim_completion_script", "claim_completion_script", claim_completion_script,
        "Give one node the completion script of a complete workflow; another only if that node ends without a report.",
        response=CompletionScript, scopes=_SCOPES, tags=("nodes",), creates=True,
    ),
    Route(
        "POST", f"{_NODE}/report_completion_script", "report_completion_script", report_completion_script,
        "Record how the completion script ended.",
        body=CompletionScriptReport, scopes=_SCOPES, tags=("nodes",),
    ),
)  # fmt: skip
