"""The background task that ends leases, and shows who is silent.

It never trusts a clock that jumped: if its own loop was late, or wall-clock time ran ahead of the
clock that only counts (a step of NTP, a suspended host), nodes could not have renewed in time, so
every lease is extended and the round is skipped.
"""

from __future__ import annotations

import asyncio
import logging

from lading.api.services import nodes
from lading.api.services.idempotency import forget_old
from lading.api.services.resources import Services
from lading.api.storage.statements import Effects, Statement, UseCase, Work
from lading.api.storage.unit_of_work import Database
from lading.toolkit.clock import to_milliseconds
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import LadingError

ROUND_SECONDS = 1.0
LATE_SECONDS = 5.0
SILENT_SECONDS = 60.0
FORGET_SECONDS = 3600.0

log = logging.getLogger(__name__)


async def run(services: Services) -> None:
    """Sweep until cancelled. A server that starts extends every lease by a full one first."""
    await services.database.write(extend_leases(to_milliseconds(services.clock.wall())))
    boottime, wall = services.clock.boottime(), services.clock.wall()
    forgotten = boottime
    while True:
        await asyncio.sleep(ROUND_SECONDS)
        passed = services.clock.boottime() - boottime
        jumped = abs((services.clock.wall() - wall) - passed)
        boottime, wall = services.clock.boottime(), services.clock.wall()
        try:
            if passed > ROUND_SECONDS + LATE_SECONDS or jumped > LATE_SECONDS:
                log.warning("the sweeper was late or the clock jumped: every lease is extended")
                await services.database.write(extend_leases(to_milliseconds(wall)))
                continue
            await sweep(services.database, to_milliseconds(wall))
            if boottime - forgotten > FORGET_SECONDS:
                forgotten = boottime
                await services.database.write(forget_old(to_milliseconds(wall)))
        except LadingError as error:
            # The database's weather: the next round tries again, and leases only grow meanwhile.
            log.warning("sweep failed: %s", error)


async def sweep(database: Database, now_ms: int) -> int:
    """Mark silent nodes, take lost ones' jobs back; return how many nodes were lost."""
    lost, silent = await database.read(_overdue(now_ms))
    if silent:
        await database.write(_mark_silent(silent, now_ms))
    number = 0
    for workflow_id, node_id, hostname in lost:
        reason = "its lease ended without a sign of life"
        work = nodes.lose_by_id(workflow_id, node_id, Cause.NODE_LOST, reason, now_ms)
        if await database.write(work):
            number += 1
            log.warning("compute node %s on %s is lost: %s", node_id, hostname, reason)
    return number


def extend_leases(now_ms: int) -> Work:
    """Give every living node a full lease from now."""

    def work(_effects: Effects) -> UseCase:
        yield Statement(
            "UPDATE compute_node SET lease_until_ms = :now + CAST(1000 * lease_seconds AS BIGINT) "
            "+ :flush WHERE state IN ('active', 'silent') AND lease_until_ms < "
            ":now + CAST(1000 * lease_seconds AS BIGINT) + :flush",
            {"now": now_ms, "flush": int(1000 * nodes.FLUSH_SECONDS)},
        )

    return work


def _overdue(now_ms: int) -> Work:
    def work(_effects: Effects) -> UseCase:
        rows = yield Statement(
            "SELECT id, workflow_id, hostname, state, frozen, lease_until_ms, last_seen_ms FROM compute_node "
            "WHERE state IN ('active', 'silent') AND (lease_until_ms < :now OR last_seen_ms < :silent)",
            {"now": now_ms, "silent": now_ms - int(1000 * SILENT_SECONDS)},
        )
        lost = [
            (row["workflow_id"], row["id"], row["hostname"])
            for row in rows
            if row["lease_until_ms"] < now_ms and not row["frozen"]
        ]
        silent = [
            row["id"]
            for row in rows
            if row["state"] == "active" and row["last_seen_ms"] < now_ms - int(1000 * SILENT_SECONDS)
        ]
        return lost, silent

    return work


def _mark_silent(node_ids: list[int], now_ms: int) -> Work:
    def work(effects: Effects) -> UseCase:
        yield Statement(
            "UPDATE compute_node SET state = 'silent' WHERE id IN_LIST(:ids) AND state = 'active' "
            "AND last_seen_ms < :silent",
            {"ids": node_ids, "silent": now_ms - int(1000 * SILENT_SECONDS)},
        )
        # Its backend is asked what became of it.
        effects.demand = True

    return work
