"""The workflow's completion script: who may run it, how it ended, and when another may run it.

The claim of a node lasts as long as the node: it is an event that names the node, and the end of the
node without a report gives the script back.
"""

from __future__ import annotations

from typing import Any

import orjson

from lading.api.services import lifecycle
from lading.api.services.ledger import Ledger, Steps
from lading.api.services.workflows import lock_workflow_id
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.errors import NotFound
from lading.toolkit.wire.extensions import CompletionScript, CompletionScriptReport

CLAIMED, ENDED = "completion_script_start", "completion_script"
_NEWEST_CLAIM = (
    "SELECT sequence, body FROM event WHERE workflow_id = :workflow_id AND category = 'workflow' "
    "AND type = :type ORDER BY sequence DESC LIMIT 1"
)
_REPORTS_SINCE = (
    "SELECT body FROM event WHERE workflow_id = :workflow_id AND sequence > :sequence "
    "AND category = 'workflow' AND type = :type"
)


def claim_by_node(workflow_id: int, node_id: int, now_ms: int) -> Work:
    """Give a node of the workflow the completion script, if it is to be run and nobody has it."""

    def work(effects: Effects) -> Steps:
        row, hostname = yield from _of_node(workflow_id, node_id)
        ledger = Ledger(row, now_ms, effects)
        script = yield from claim(ledger, {"compute_node_key": str(node_id), "node_name": hostname})
        return CompletionScript(run_id=row["run_id"], script=script)

    return work


def claim(ledger: Ledger, claimant: dict[str, str]) -> Steps:
    """Return the script if it is to be run and nobody has it; its claim is then on record."""
    script = lifecycle.unclaimed_completion_script(ledger.workflow) if ledger.is_complete else None
    if script is not None:
        _set_claimed(ledger, claimed=True)
        ledger.add_event(
            {
                "category": "workflow",
                "type": CLAIMED,
                "run_id": ledger.run_id,
                **claimant,
                "message": "The completion script was handed out",
            }
        )
        yield from ledger.flush()
    return script


def report(workflow_id: int, node_id: int, ended: CompletionScriptReport, now_ms: int) -> Work:
    """Put on record how the completion script ended."""

    def work(effects: Effects) -> Steps:
        row, hostname = yield from _of_node(workflow_id, node_id)
        ledger = Ledger(row, now_ms, effects)
        if ended.run_id == row["run_id"] and ended.return_code == 0 and not row["completion_script_claimed"]:
            # The node was held to be dead, and has done the work all the same: nobody needs to do it again.
            _set_claimed(ledger, claimed=True)
        outcome = "succeeded" if ended.return_code == 0 else f"ended with {ended.return_code}"
        ledger.add_event(
            {
                "category": "workflow",
                "type": ENDED,
                "run_id": ended.run_id,
                "compute_node_key": str(node_id),
                "node_name": hostname,
                "return_code": ended.return_code,
                "stdout_path": ended.stdout_path,
                "stderr_path": ended.stderr_path,
                "message": f"The completion script {outcome}. {ended.message}".strip(),
            }
        )
        yield from ledger.flush()
        return {"message": "Noted how the completion script ended"}

    return work


def give_back(ledger: Ledger, node_id: int) -> Steps:
    """Let another node claim what a node that is over has claimed and not reported; the caller flushes.

    Only for a node of which nothing runs any more: two copies of the script must not overlap.
    """
    if not ledger.workflow["completion_script_claimed"]:
        return
    workflow_id, key = ledger.workflow_id, str(node_id)
    claims = yield Statement(_NEWEST_CLAIM, {"workflow_id": workflow_id, "type": CLAIMED})
    # Somebody else's newer claim stands, and so does that of another run.
    if not claims or not _is_of(claims[0], key, ledger.run_id):
        return
    reports = yield Statement(
        _REPORTS_SINCE, {"workflow_id": workflow_id, "sequence": claims[0]["sequence"], "type": ENDED}
    )
    if any(_is_of(row, key, ledger.run_id) for row in reports):
        return
    _set_claimed(ledger, claimed=False)
    # Nodes that wait hear of it at once.
    ledger.effects.finished.add(workflow_id)


def _is_of(event: Any, node_key: str, run_id: int) -> bool:
    body = orjson.loads(event["body"])
    return (body.get("compute_node_key"), body.get("run_id")) == (node_key, run_id)


def _set_claimed(ledger: Ledger, *, claimed: bool) -> None:
    ledger.columns["completion_script_claimed"] = claimed
    ledger.columns["status_rev"] = ledger.workflow["status_rev"] + 1


def _of_node(workflow_id: int, node_id: int) -> Steps:
    """Lock the workflow; return its row and the node's host name."""
    row = yield from lock_workflow_id(workflow_id)
    nodes = yield Statement("SELECT hostname FROM compute_node WHERE id = :id", {"id": node_id})
    if row is None or not nodes:
        raise NotFound(f"no such compute node: {node_id}")
    return row, nodes[0]["hostname"]
