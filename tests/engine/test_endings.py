"""What the end of a job does to itself and to the jobs behind it."""

from __future__ import annotations

import pytest

from lading.toolkit.domain.retry import BUDGETS
from lading.toolkit.domain.states import Cause, JobStatus
from tests.engine.driver import Engine
from tests.engine.model import JobSpec, Refused, Report
from tests.engine.worker import FAILED, Worker, add_graph

LOST = Report(Cause.NODE_LOST, -9, JobStatus.TERMINATED)


def test_a_failure_cancels_to_the_end_of_its_graph_and_nothing_else(engine: Engine) -> None:
    chain = [f"c{number}" for number in range(20)]
    add_graph(
        engine,
        JobSpec("bad"),
        JobSpec("other"),
        *(
            JobSpec(name, blocked_by=(before,))
            for name, before in zip(chain, ["bad", *chain[:-1]], strict=True)
        ),
        JobSpec("behind other", blocked_by=("other",)),
        JobSpec("careless", blocked_by=("bad",), cancel=False),
    )
    engine.start()
    worker = Worker(engine)
    assert worker.claim() == ["bad", "other"]
    worker.end("bad", report=FAILED)
    statuses = engine.look().statuses
    assert {statuses[name] for name in chain} == {"canceled"}
    assert (statuses["careless"], statuses["behind other"]) == ("ready", "blocked")
    worker.end("other")
    assert sorted(worker.claim()) == ["behind other", "careless"]
    answer = worker.end("behind other", "careless")
    assert answer.is_complete


def test_a_branch_that_shares_a_blocker_with_a_canceled_job_finishes(engine: Engine) -> None:
    add_graph(
        engine,
        JobSpec("bad", priority=1),
        JobSpec("shared"),
        JobSpec("useless"),
        JobSpec("doomed", blocked_by=("bad", "shared", "useless")),
        JobSpec("healthy", blocked_by=("shared",)),
    )
    engine.start()
    worker = Worker(engine)
    assert worker.claim(1) == ["bad"]
    worker.end("bad", report=FAILED)
    # Only for `doomed` was `useless` there; `healthy` still needs `shared`.
    assert engine.look().statuses == {
        "bad": "done", "shared": "ready", "useless": "canceled", "doomed": "canceled", "healthy": "blocked",
    }  # fmt: skip
    assert worker.claim() == ["shared"]
    worker.end("shared")
    assert worker.claim() == ["healthy"]
    assert worker.end("healthy").is_complete


def test_a_blocker_that_became_ready_with_the_failure_is_canceled_too(engine: Engine) -> None:
    add_graph(
        engine,
        JobSpec("first"),
        JobSpec("bad"),
        JobSpec("useless", blocked_by=("first",)),
        JobSpec("doomed", blocked_by=("bad", "useless")),
    )
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.sync(ended=((worker.handles["first"], Report()), (worker.handles["bad"], FAILED)))
    assert engine.look().statuses["useless"] == "canceled"


def test_success_is_decided_by_the_return_code_alone(engine: Engine) -> None:
    add_graph(
        engine,
        JobSpec("terminated well"),
        JobSpec("terminated badly"),
        JobSpec("after well", blocked_by=("terminated well",)),
        JobSpec("after badly", blocked_by=("terminated badly",)),
    )
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.end("terminated well", report=Report(Cause.JOB_TIMEOUT, 0, JobStatus.TERMINATED))
    worker.end("terminated badly", report=Report(Cause.JOB_TIMEOUT, -15, JobStatus.TERMINATED))
    statuses = engine.look().statuses
    assert (statuses["after well"], statuses["after badly"]) == ("ready", "canceled")


def test_an_end_reported_again_changes_nothing_and_is_acknowledged(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.end("j", report=FAILED)
    before = engine.look()
    answer = worker.end("j")
    assert answer.acknowledged == {worker.handles["j"]}
    assert engine.look() == before


def test_a_late_report_of_a_lost_node_is_acknowledged_and_counts_for_nothing(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    late, other = Worker(engine, "late"), Worker(engine, "other")
    late.claim()
    engine.declare_lost("late")
    assert other.claim() == ["j"]
    answer = late.end("j", report=FAILED)
    assert answer.acknowledged == {late.handles["j"]}
    assert answer.orders == {"end"}
    other.end("j")
    assert engine.look().results == {("j", 1): ("done", 0)}


def test_a_job_taken_away_is_claimed_by_nobody_until_its_node_confirms(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    holder, other = Worker(engine, "holder"), Worker(engine, "other")
    holder.claim()
    holder.start("j")
    engine.put_status("j", JobStatus.READY, fresh=True)
    assert engine.look().statuses["j"] == "ready"
    assert other.claim() == []
    # The order is repeated until it has been carried out.
    assert holder.sync().kill == {holder.handles["j"]}
    assert holder.sync().kill == {holder.handles["j"]}
    holder.end("j", report=Report(Cause.CANCELED, -15, JobStatus.CANCELED))
    assert engine.look().causes == {"j": [(1, 1, "canceled")]}
    assert other.claim() == ["j"]


@pytest.mark.parametrize("how", ["cancel_job", "cancel"])
def test_a_canceled_job_gets_its_one_result(engine: Engine, how: str) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.start("j")
    if how == "cancel_job":
        engine.cancel_job("j")
    else:
        engine.cancel()
    assert engine.look().results == {}
    worker.end("j", report=Report(Cause.CANCELED, -15, JobStatus.CANCELED))
    worker.end("j", report=FAILED)
    assert engine.look().results == {("j", 1): ("canceled", -15)}
    assert engine.look().statuses == {"j": "canceled"}


def test_a_job_that_ran_again_in_its_run_has_the_last_result(engine: Engine) -> None:
    """A report of a runner must never be refused because an older one is in the way."""
    add_graph(engine, JobSpec("j"))
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.end("j", report=FAILED)
    engine.put_status("j", JobStatus.UNINITIALIZED, fresh=True)
    engine.initialize(only_uninitialized=True)
    assert worker.claim() == ["j"]
    worker.end("j")
    assert engine.look().results == {("j", 1): ("done", 0)}


# ---- attempts and budgets ----------------------------------------------------------------------


def test_what_machines_do_never_uses_up_the_retries_of_the_author(engine: Engine) -> None:
    add_graph(engine, JobSpec("j", retries=1))
    engine.start()
    worker = Worker(engine)
    for cause in (Cause.INFRASTRUCTURE, Cause.PREEMPTED, Cause.ALLOCATION_ENDED, Cause.SPOT_INTERRUPTION):
        assert worker.claim() == ["j"]
        worker.end("j", report=Report(cause, -9, JobStatus.TERMINATED))
    assert worker.claim() == ["j"]
    worker.end("j", report=FAILED)
    assert worker.claim() == ["j"]
    worker.end("j", report=Report(Cause.SIGNAL, -11))
    picture = engine.look()
    assert picture.results == {("j", 1): ("done", -11)}
    assert [number for _, number, _ in picture.causes["j"]] == [1, 2, 3, 4, 5, 6]


def test_a_job_that_survives_no_node_is_given_up(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"), JobSpec("behind", blocked_by=("j",)))
    engine.start()
    for number in range(BUDGETS[Cause.NODE_LOST] + 1):
        worker = Worker(engine, f"n{number}")
        assert worker.claim() == ["j"]
        engine.declare_lost(f"n{number}")
    picture = engine.look()
    assert picture.statuses == {"j": "terminated", "behind": "canceled"}
    assert picture.results == {("j", 1): ("terminated", -9)}


def test_a_retry_after_a_success_leaves_the_budget_whole(engine: Engine) -> None:
    add_graph(engine, JobSpec("j", retries=1))
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.end("j")
    engine.retry_job("j")
    worker.claim()
    worker.end("j", report=FAILED)
    assert worker.claim() == ["j"]


def test_a_claim_handed_back_costs_nothing(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    worker = Worker(engine)
    for _ in range(30):
        assert worker.claim() == ["j"]
        assert worker.give_back("j").acknowledged == {worker.handles["j"]}
    assert engine.look().causes == {}
    worker.claim()
    assert worker.handles["j"].startswith("j/1/1#")


# ---- retrying ----------------------------------------------------------------------------------


def test_a_retry_undoes_what_followed_and_leaves_disabled_and_new_jobs_alone(engine: Engine) -> None:
    add_graph(
        engine,
        JobSpec("j"),
        JobSpec("behind", blocked_by=("j",)),
        JobSpec("far", blocked_by=("behind",)),
        JobSpec("off", blocked_by=("j",)),
    )
    engine.start()
    engine.put_status("off", JobStatus.DISABLED, fresh=True)
    worker = Worker(engine)
    worker.claim()
    worker.end("j", report=FAILED)
    add_graph(engine, JobSpec("new", blocked_by=("j",)))
    engine.retry_job("j")
    assert engine.look().statuses == {
        "j": "ready", "behind": "blocked", "far": "blocked", "off": "disabled", "new": "uninitialized",
    }  # fmt: skip
    assert engine.look().results == {}


def test_only_a_finished_job_of_a_living_workflow_is_retried(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    with pytest.raises(Refused, match="BadInput"):
        engine.retry_job("j")
    worker = Worker(engine)
    worker.claim()
    worker.end("j")
    engine.cancel()
    with pytest.raises(Refused, match="BadInput"):
        engine.retry_job("j")


def test_a_restart_counts_failures_anew(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.end("j", report=FAILED)
    engine.start()
    [row] = engine.query("SELECT num_failed FROM workflow WHERE id = :workflow")
    assert row["num_failed"] == 0
    assert engine.look().run_id == 2
