"""Registration, leases, and what ends them; allocations, and the word of their batch system."""

from __future__ import annotations

import pytest

from lading.api.services import allocations as allocation_changes
from lading.api.services import planning, submission_reports, submissions, sweeper
from lading.toolkit.domain.states import Cause
from lading.toolkit.wire.submissions import AllocationReport, LaunchReport
from tests.engine.driver import Engine
from tests.engine.model import FLUSH_MS, LEASE_MS, Ask, JobSpec, Refused, Report
from tests.engine.stored import TESTER
from tests.engine.submitting import allocations, launch, ready, tell
from tests.engine.worker import Worker

# ---- the lease -------------------------------------------------------------------------------


def test_a_node_is_silent_after_a_minute_and_lost_after_its_lease(engine: Engine) -> None:
    ready(engine)
    worker = Worker(engine)
    worker.claim()
    engine.now += 60_001
    assert engine.sweep() == 0
    assert engine.look().nodes == {"n": "silent"}
    # Silence reassigns nothing.
    assert engine.look().statuses == {"j": "submitted_pending"}
    engine.now += LEASE_MS + FLUSH_MS - 60_001
    assert engine.sweep() == 0
    engine.now += 1
    assert engine.sweep() == 1
    picture = engine.look()
    assert (picture.nodes, picture.statuses) == ({"n": "lost"}, {"j": "ready"})
    assert picture.causes == {"j": [(1, 1, "node_lost")]}
    assert engine.sweep() == 0


def test_a_call_renews_the_lease_even_where_it_is_not_written(engine: Engine) -> None:
    """Renewals are written now and then only: the stored end lies later by as much."""
    ready(engine)
    worker = Worker(engine)
    worker.claim()
    for _ in range(100):
        engine.now += FLUSH_MS // 2 - 1
        worker.sync()
        assert engine.sweep() == 0
    engine.now += LEASE_MS
    assert engine.sweep() == 0
    engine.now += FLUSH_MS + 1
    assert engine.sweep() == 1


def test_a_silent_node_that_calls_is_active_again(engine: Engine) -> None:
    ready(engine)
    worker = Worker(engine)
    engine.now += 61_000
    engine.sweep()
    assert worker.claim() == ["j"]
    assert engine.look().nodes == {"n": "active"}


def test_a_server_that_starts_gives_every_lease_anew(engine: Engine) -> None:
    ready(engine)
    Worker(engine).claim()
    engine.now += 10 * LEASE_MS
    engine.write(sweeper.extend_leases(engine.now))
    assert engine.sweep() == 0
    engine.now += LEASE_MS
    assert engine.sweep() == 0


def test_nothing_of_a_foreign_client_is_swept_by_time(engine: Engine) -> None:
    ready(engine)
    engine.add_foreign_node("foreign")
    engine.prepare_next(1)
    engine.start_job("j", "foreign", fresh=True, same_run=True)
    engine.now += 1000 * LEASE_MS
    assert engine.sweep() == 0
    assert engine.look().statuses == {"j": "submitted"}
    engine.declare_lost("foreign")
    assert engine.look().statuses == {"j": "ready"}


def test_who_leaves_gives_back_what_it_did_not_finish(engine: Engine) -> None:
    ready(engine, JobSpec("done"), JobSpec("open"))
    worker = Worker(engine)
    worker.claim()
    answer = worker.sync(ended=((worker.handles["done"], Report()),), held=(), leave=True)
    assert (answer.orders, answer.kill) == (frozenset(), frozenset())
    picture = engine.look()
    assert picture.statuses == {"done": "done", "open": "ready"}
    assert picture.nodes == {"n": "left"}
    assert worker.sync(held=()).orders == {"end"}


# ---- registration ----------------------------------------------------------------------------


def test_registering_again_with_the_same_id_is_the_same_node(engine: Engine) -> None:
    ready(engine)
    engine.register("n", Ask())
    key = engine.node_keys["n"]
    engine.register("n", Ask())
    assert engine.node_keys["n"] == key
    assert len(engine.look().nodes) == 1


def test_an_allocation_has_one_node_for_each_place(engine: Engine) -> None:
    ready(engine)
    _, [key] = launch(engine)
    worker = Worker(engine, "first", allocation=key)
    with pytest.raises(Refused, match="Fenced"):
        engine.register("second", Ask(), allocation=key)
    worker.claim()
    # Requeued under the same id: the older copy may still run, so it keeps its jobs and gets no more.
    newer = Worker(engine, "newer", allocation=key, restart_count=1)
    assert worker.sync().orders == {"drain"}
    assert engine.look().statuses == {"j": "submitted_pending"}
    assert newer.claim() == []
    assert allocations(engine) == ["active"]


def test_a_batch_system_alone_only_revokes_and_a_proof_of_death_gives_back(engine: Engine) -> None:
    ready(engine)
    _, [key] = launch(engine)
    worker = Worker(engine, allocation=key)
    worker.claim()
    tell(engine, AllocationReport(allocation=key, state="ended", reason="gone from the queue"))
    assert worker.sync().orders == {"end"}
    assert engine.look().statuses == {"j": "submitted_pending"}
    proof = AllocationReport(allocation=key, state="ended", proof_of_death=True, cause="preempted")
    tell(engine, proof)
    picture = engine.look()
    assert (picture.statuses, picture.causes) == ({"j": "ready"}, {"j": [(1, 1, Cause.PREEMPTED.value)]})
    assert allocations(engine) == ["complete"]
    with pytest.raises(Refused, match="Fenced"):
        engine.register("late", Ask(), allocation=key)


def test_a_node_that_slurm_gave_up_may_finish_what_it_runs_while_it_is_heard(engine: Engine) -> None:
    ready(engine, JobSpec("j"), JobSpec("k"))
    _, keys = launch(engine)
    worker = Worker(engine, allocation=keys[0])
    worker.claim(1)
    tell(engine, AllocationReport(allocation=keys[0], state="ended", cause="node_lost", reason="NODE_FAIL"))
    assert worker.sync().orders == {"drain"}
    assert worker.claim() == []
    worker.end("j")
    assert engine.look().statuses["j"] == "done"


def test_a_suspended_node_keeps_its_lease_for_ever(engine: Engine) -> None:
    ready(engine)
    _, [key] = launch(engine)
    worker = Worker(engine, allocation=key)
    worker.claim()
    tell(engine, AllocationReport(allocation=key, state="suspended"))
    engine.now += 100 * LEASE_MS
    assert engine.sweep() == 0
    tell(engine, AllocationReport(allocation=key, state="active"))
    assert engine.sweep() == 0
    assert worker.sync().kill == frozenset()


# ---- what is launched ------------------------------------------------------------------------


def test_as_many_allocations_are_asked_for_as_the_work_fills(engine: Engine) -> None:
    ready(engine, *(JobSpec(f"j{number}") for number in range(9)))
    planned, keys = launch(engine)
    assert planned.count == len(keys) == 3
    assert allocations(engine) == ["pending"] * 3
    # Planned again, nothing is missing.
    engine.write(planning.plan_launches(int(engine.workflow), ["local"], engine.now))
    assert allocations(engine) == ["pending"] * 3


def test_a_request_of_a_job_is_honoured_once_a_run(engine: Engine) -> None:
    ready(engine, JobSpec("j", schedules=True))
    _, [key] = launch(engine)
    assert engine.look().statuses == {"j": "scheduled"}
    worker = Worker(engine, allocation=key)
    assert worker.claim() == ["j"]
    worker.give_back("j")
    engine.write(planning.plan_launches(int(engine.workflow), ["local"], engine.now))
    assert allocations(engine) == ["active"]


def test_a_refused_launch_pauses_its_config_with_the_reason(engine: Engine) -> None:
    ready(engine)
    engine.write(planning.plan_launches(int(engine.workflow), ["local"], engine.now))
    launches, _ = engine.write(submissions.open_work(["local"], engine.now))
    [planned] = [planned for planned in launches if planned.workflow == engine.workflow]
    tell(engine, LaunchReport(tag=planned.tag, kind="failed", error="no such account"))
    assert allocations(engine) == ["complete"]
    [config] = engine.query("SELECT paused_reason FROM scheduler_config WHERE workflow_id = :workflow")
    assert config["paused_reason"] == "no such account"
    engine.write(planning.plan_launches(int(engine.workflow), ["local"], engine.now))
    assert allocations(engine) == ["complete"]


def test_a_canceled_workflow_takes_its_launches_back(engine: Engine) -> None:
    ready(engine, *(JobSpec(f"j{number}") for number in range(5)))
    launch(engine)
    engine.cancel()
    rows = engine.query("SELECT cancel_requested FROM scheduled_compute_node WHERE workflow_id = :workflow")
    assert [bool(row["cancel_requested"]) for row in rows] == [True, True]


def test_one_submitter_at_a_time_holds_a_backend(engine: Engine) -> None:
    def hold(holder: str, *, leave: bool = False) -> str:
        site = f"site of {engine.workflow}"
        other: str = engine.write(
            submission_reports.hold_lease(site, ["local"], holder, engine.now, leave=leave)
        )
        return other

    assert hold("one") == ""
    assert hold("two") == "one"
    engine.now += int(1000 * submission_reports.LEASE_SECONDS)
    assert hold("one") == ""
    engine.now += int(1000 * submission_reports.LEASE_SECONDS) + 1
    assert hold("two") == ""
    hold("two", leave=True)
    assert hold("one") == ""
    hold("one", leave=True)


def test_allocations_are_canceled_once(engine: Engine) -> None:
    ready(engine)
    _, [key] = launch(engine)
    worker = Worker(engine, allocation=key)
    engine.write(allocation_changes.cancel_allocation(TESTER, engine.workflow, key))
    assert worker.sync().orders == {"end"}
    worker.sync(held=(), leave=True)
    with pytest.raises(Refused, match="BadInput"):
        engine.write(allocation_changes.cancel_allocation(TESTER, engine.workflow, key))


def test_nodes_that_come_after_their_allocation_was_drained_take_nothing(engine: Engine) -> None:
    ready(engine, *(JobSpec(f"j{number}") for number in range(9)))
    _, keys = launch(engine)
    first = Worker(engine, allocation=keys[0])
    engine.write(allocation_changes.drain_allocation(TESTER, engine.workflow, keys[0]))
    late = Worker(engine, "late", allocation=keys[0], node_index=1)
    assert late.claim() == []
    assert [late.sync().orders, first.sync().orders] == [{"drain"}, {"drain"}]


def test_a_drained_allocation_finishes_what_it_runs_and_leaves(engine: Engine) -> None:
    ready(engine, *(JobSpec(f"j{number}") for number in range(9)))
    _, keys = launch(engine)
    worker = Worker(engine, allocation=keys[0])
    held = worker.claim()[0]
    engine.write(allocation_changes.drain_allocation(TESTER, engine.workflow, keys[0]))
    assert worker.sync().orders == {"drain"}
    worker.give_back(held)
    assert worker.claim() == [], "a draining node claims no more"
    # One that only waits has nothing to finish.
    engine.write(allocation_changes.drain_allocation(TESTER, engine.workflow, keys[1]))
    rows = engine.query(
        "SELECT cancel_requested FROM scheduled_compute_node WHERE workflow_id = :workflow ORDER BY id"
    )
    assert [bool(row["cancel_requested"]) for row in rows][:2] == [False, True]
    with pytest.raises(Refused, match="NotFound"):
        engine.write(allocation_changes.drain_allocation(TESTER, engine.workflow, "999999"))
