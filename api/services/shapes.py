"""What one allocation of a config offers: asked of the submitter, stored, used by planning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from lading.api.services.ledger import Steps
from lading.api.services.sites import site_of
from lading.api.storage.statements import Effects, Statement, Work
from lading.toolkit.clock import iso_utc
from lading.toolkit.domain.demand import ConfigView, Shape, Sizing
from lading.toolkit.domain.values import parse_memory
from lading.toolkit.wire.submissions import ShapeReport, ShapeWanted

_LASTS_MS: Final = 600_000
"""Partitions change: asked again after so long, the old answer is used meanwhile."""
_PATIENCE_MS: Final = 15_000
"""The first launch of a config waits so long for its shape, then one allocation goes ahead."""


def wanted(backends: Sequence[str], now_ms: int, *, site: str = "") -> Work:
    """Return the configs of workflows with ready jobs whose shape is unknown, old or of another revision."""

    def work(_effects: Effects) -> Steps:
        rows = yield Statement(
            "SELECT c.* FROM scheduler_config c JOIN workflow w ON w.id = c.workflow_id "
            "WHERE c.kind IN_LIST(:kinds) AND NOT w.is_archived AND w.run_id > 0 AND NOT w.is_canceled "
            "AND w.n_ready + w.n_scheduled > 0 "
            "AND (c.shape_rev IS NULL OR c.shape_rev <> c.rev OR c.shape_ms < :old) ORDER BY c.id",
            {"kinds": list(backends), "old": now_ms - _LASTS_MS},
        )
        return [
            ShapeWanted(
                config_row=str(row["id"]),
                rev=row["rev"],
                backend=row["kind"],
                config={"name": row["name"], **orjson.loads(row["body"])},
            )
            for row in rows
            if site_of(row["body"]) == site
        ]

    return work


def store(report: ShapeReport, now_ms: int) -> Work:
    """Store what a backend said of a config, unless the config was changed meanwhile."""

    def work(effects: Effects) -> Steps:
        parameters: dict[str, Any] = {
            "id": int(report.config_row) if report.config_row.isdigit() else -1,
            "rev": report.rev,
        }
        if report.is_failure:
            # Planning waits no longer; an older answer stays in use.
            yield Statement(
                "UPDATE scheduler_config SET shape_asked_ms = 0 WHERE id = :id AND rev = :rev", parameters
            )
        else:
            parameters["shape"] = None if report.shape is None else msgspec.json.encode(report.shape).decode()
            parameters["now"] = now_ms
            yield Statement(
                "UPDATE scheduler_config SET shape = :shape, shape_rev = rev, shape_ms = :now, "
                "shape_asked_ms = NULL WHERE id = :id AND rev = :rev",
                parameters,
            )
        effects.demand = True

    return work


def begin_patience(workflow_id: int, backends: Sequence[str], now_ms: int) -> Steps:
    """Note since when planning waits for the shapes that these backends can tell."""
    if backends:
        yield Statement(
            "UPDATE scheduler_config SET shape_asked_ms = :now WHERE workflow_id = :id "
            "AND kind IN_LIST(:kinds) AND shape_asked_ms IS NULL AND (shape_rev IS NULL OR shape_rev <> rev)",
            {"id": workflow_id, "kinds": list(backends), "now": now_ms},
        )


def _shape_of(config: Mapping[str, Any], body: Mapping[str, Any]) -> Shape | None:
    """Return what one allocation offers, by the backend's word or, for this host, by the config's."""
    if config["kind"] == "local" and body.get("num_cpus"):
        memory = parse_memory(body["memory"]) if body.get("memory") else 2**62
        return Shape(num_cpus=body["num_cpus"], memory_bytes=memory)
    if config["shape"] is None or config["shape_rev"] != config["rev"]:
        return None
    return msgspec.convert(orjson.loads(config["shape"]), Shape)


def _sizing_of(config: Mapping[str, Any], now_ms: int) -> Sizing:
    """Say whether planning may count with the shape, or with there being none."""
    if config["shape_asked_ms"] is None or config["shape_rev"] == config["rev"]:
        return Sizing.SETTLED
    is_awaited = now_ms - config["shape_asked_ms"] < _PATIENCE_MS
    return Sizing.AWAITED if is_awaited else Sizing.UNKNOWN


def view_of(
    config: Mapping[str, Any], now_ms: int, *, unserved: str, name: str, buffer_seconds: float
) -> ConfigView:
    """Return a config as planning sees it."""
    body = orjson.loads(config["body"])
    retry_ms = config["not_before_ms"]
    return ConfigView(
        id=config["config_id"],
        kind=config["kind"],
        shape=_shape_of(config, body),
        sizing=_sizing_of(config, now_ms),
        max_allocations=body.get("max_allocations"),
        min_allocations=body.get("min_allocations") or 0,
        paused=config["paused_reason"] or unserved,
        name=name,
        buffer_seconds=buffer_seconds,
        retry_at=iso_utc(retry_ms / 1000) if retry_ms is not None and retry_ms > now_ms else "",
        setback=config["setback_reason"] or "",
    )
