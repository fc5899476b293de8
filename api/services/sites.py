"""Where a config is submitted: the submitter of its `site` alone acts for it."""

from __future__ import annotations

from typing import Final

import orjson

from lading.api.services.ledger import Steps
from lading.api.storage.statements import Statement

_ELSEWHERE: Final = "no submitter of site {site!r} runs; start one there: lading submitter --site {site}"


def site_of(body: str | None) -> str:
    """Return the site that a stored config names; empty for the submitter without `--site`."""
    return str(orjson.loads(body or "{}").get("site") or "")


def unserved(workflow_id: int, now_ms: int) -> Steps:
    """Return config row -> why nobody activates it, for configs whose site has no living submitter."""
    rows = yield Statement(
        "SELECT id, kind, body FROM scheduler_config WHERE workflow_id = :id", {"id": workflow_id}
    )
    placed = [(row, site) for row in rows if (site := site_of(row["body"]))]
    if not placed:
        return {}
    leases = yield Statement(
        "SELECT site, backend FROM submitter_lease WHERE until_ms >= :now", {"now": now_ms}
    )
    held = {(lease["site"], lease["backend"]) for lease in leases}
    return {
        row["id"]: _ELSEWHERE.format(site=site) for row, site in placed if (site, row["kind"]) not in held
    }
