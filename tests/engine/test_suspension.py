"""Nodes that a batch system stops for a while, and allocations that it may start again."""

from __future__ import annotations

from typing import Any

import pytest

from lading.api.storage.statements import Effects, Statement, UseCase
from lading.toolkit.wire.submissions import AllocationReport
from tests.engine.driver import Engine
from tests.engine.model import FLUSH_MS, LEASE_MS, Refused
from tests.engine.submitting import allocations, launch, ready, tell
from tests.engine.worker import Worker

LOOK_MS = 30_001


def change(engine: Engine, text: str) -> None:
    def work(_effects: Effects) -> UseCase:
        yield Statement(text, {"workflow": int(engine.workflow)})

    engine.write(work)


def at_work(engine: Engine, **registration: Any) -> tuple[Worker, str]:
    """Return a node that holds a job, and its allocation."""
    ready(engine)
    _, [key] = launch(engine)
    worker = Worker(engine, allocation=key, **registration)
    worker.claim()
    return worker, key


def test_a_node_that_says_that_it_is_stopped_keeps_its_jobs_until_it_is_heard_again(engine: Engine) -> None:
    worker, _ = at_work(engine)
    worker.sync(suspending=True)
    engine.now += 100 * LEASE_MS
    assert engine.sweep() == 0
    assert worker.sync().kill == frozenset()
    engine.now += LEASE_MS + FLUSH_MS + 1
    assert engine.sweep() == 1, "heard again, its lease counts"


def test_a_request_that_was_overtaken_knows_nothing_of_a_suspension(engine: Engine) -> None:
    worker, _ = at_work(engine)
    worker.sync(suspending=True)
    worker.sync(is_newest=False)
    engine.now += 100 * LEASE_MS
    assert engine.sweep() == 0
    worker.sync()
    worker.sync(suspending=True, is_newest=False)
    engine.now += LEASE_MS + FLUSH_MS + 1
    assert engine.sweep() == 1


def test_a_look_from_before_the_nodes_own_word_changes_nothing(engine: Engine) -> None:
    worker, key = at_work(engine)
    worker.sync(suspending=True)
    tell(engine, AllocationReport(allocation=key, state="active"))
    engine.now += 100 * LEASE_MS
    assert engine.sweep() == 0


def test_who_is_dead_when_slurm_goes_on_is_lost_a_lease_later(engine: Engine) -> None:
    worker, key = at_work(engine)
    worker.sync(suspending=True)
    tell(engine, AllocationReport(allocation=key, state="suspended"))
    engine.now += LOOK_MS
    tell(engine, AllocationReport(allocation=key, state="active"))
    engine.now += LEASE_MS
    assert engine.sweep() == 0
    engine.now += FLUSH_MS + 1
    assert engine.sweep() == 1


def test_weather_of_the_batch_system_is_no_end_of_a_suspension(engine: Engine) -> None:
    _, key = at_work(engine)
    tell(engine, AllocationReport(allocation=key, state="suspended"))
    engine.now += LOOK_MS
    tell(engine, AllocationReport(allocation=key, state="active", reason="no answer", is_observed=False))
    engine.now += 100 * LEASE_MS
    assert engine.sweep() == 0


def test_jobs_that_are_not_to_wait_run_elsewhere_after_the_lease(engine: Engine) -> None:
    _, key = at_work(engine)
    change(engine, 'UPDATE workflow SET config = \'{"on_suspend": "requeue"}\' WHERE id = :workflow')
    tell(engine, AllocationReport(allocation=key, state="suspended"))
    engine.now += LEASE_MS + FLUSH_MS + 1
    assert engine.sweep() == 1


def test_the_end_that_was_told_before_a_suspension_holds_no_more(engine: Engine) -> None:
    worker, key = at_work(engine)
    tell(engine, AllocationReport(allocation=key, state="active", end_seconds=1000.0))
    assert engine.query("SELECT end_ms FROM scheduled_compute_node")[0]["end_ms"] is not None
    tell(engine, AllocationReport(allocation=key, state="suspended"))
    assert engine.query("SELECT end_ms FROM scheduled_compute_node")[0]["end_ms"] is None
    assert worker.sync().kill == frozenset()


def test_a_suspended_copy_that_was_started_again_loses_its_jobs_a_lease_later(engine: Engine) -> None:
    worker, key = at_work(engine)
    worker.sync(suspending=True)
    Worker(engine, "newer", allocation=key, restart_count=1)
    engine.now += LEASE_MS
    assert engine.sweep() == 0
    engine.now += FLUSH_MS + 1
    assert engine.sweep() == 2


@pytest.mark.parametrize("is_final", [False, True])
def test_slurm_may_start_an_allocation_again_unless_its_runner_left_by_itself(
    engine: Engine, is_final: bool
) -> None:
    worker, key = at_work(engine)
    change(engine, "UPDATE launch SET backend = 'slurm' WHERE workflow_id = :workflow")
    worker.end("j")
    worker.sync(leave=True, is_final=is_final)
    assert allocations(engine) == ["complete" if is_final else "active"]
    if is_final:
        with pytest.raises(Refused, match="Fenced"):
            Worker(engine, "newer", allocation=key, restart_count=1)
    else:
        Worker(engine, "newer", allocation=key, restart_count=1)
