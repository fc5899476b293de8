"""What planning remembers between two looks: setbacks, and what has waited for nothing how long."""

from __future__ import annotations

from typing import Any

import pytest

from lading.api.services import planning, progress, submissions
from lading.api.services.documents import collections, writing
from lading.api.services.job_documents import revision
from lading.toolkit.wire.submissions import (
    AllocationReport,
    AllocationRequest,
    ConfigPlanning,
    Launch,
    LaunchReport,
)
from tests.engine.driver import Engine
from tests.engine.model import Ask, JobSpec
from tests.engine.stored import TESTER
from tests.engine.submitting import allocations, launch, ready, tell
from tests.engine.worker import Worker

MANY = [JobSpec(f"j{number}") for number in range(16)]
"""Four allocations' worth."""


def look(engine: Engine, seconds: float = 0.0, *, backends: tuple[str, ...] = ("local",)) -> None:
    """Let a submitter ask what is to be done, so much later."""
    engine.now += int(1000 * seconds)
    engine.write(
        planning.plan_launches(int(engine.workflow), ["local"], engine.now, take_back_backends=backends)
    )


def opened(engine: Engine) -> list[Launch]:
    launches, _ = engine.write(submissions.open_work(["local"], engine.now))
    return list(launches)


def taken_back(engine: Engine) -> list[bool]:
    rows = engine.query(
        "SELECT take_back_reason AS reason FROM scheduled_compute_node WHERE workflow_id = :workflow ORDER BY id"
    )
    return [row["reason"] is not None for row in rows]


def told(engine: Engine) -> ConfigPlanning:
    [config] = engine.write(planning.planning(TESTER, engine.workflow, engine.now)).configs
    assert isinstance(config, ConfigPlanning)
    return config


def end(engine: Engine, key: str, reason: str = "exit code 1") -> None:
    tell(engine, AllocationReport(allocation=key, state="ended", reason=reason, proof_of_death=True))


def change(engine: Engine, **fields: Any) -> None:
    key = engine.config.partition("/")[2]
    [row] = engine.query("SELECT rev FROM scheduler_config WHERE id = :id", id=int(key))
    collection, fields = collections.SCHEDULERS["local_schedulers"], {**fields, "_rev": revision(row["rev"])}
    engine.write(
        lambda effects: writing.modify_document(
            TESTER, engine.workflow, collection, key, fields, engine.now, effects
        )
    )


def request(engine: Engine, count: int = 1) -> str:
    asked = AllocationRequest(scheduler_config_id=engine.config, count=count)
    answer = engine.write(submissions.request_allocations(TESTER, engine.workflow, asked, engine.now))
    return str(answer.tag)


# ---- setbacks ------------------------------------------------------------------------------------


def test_after_an_allocation_of_no_use_the_next_one_comes_later_and_later(engine: Engine) -> None:
    ready(engine)
    for number, seconds in enumerate((5, 10, 20, 40), start=1):
        engine.now += 1
        _, [key] = launch(engine)
        end(engine, key)
        look(engine)
        assert allocations(engine) == ["complete"] * number, "asked for again at once"
        config = told(engine)
        assert config.retry_at is not None
        assert f"allocation {key} ended without running a job: exit code 1" in config.why
        look(engine, seconds - 0.1)
        assert allocations(engine) == ["complete"] * number, "asked for again too early"
        engine.now += 101
    launch(engine)
    assert allocations(engine)[-1] == "pending"


def test_the_pause_has_an_end_however_often_it_fails(engine: Engine) -> None:
    ready(engine)
    for _ in range(14):
        engine.now += 1_800_001
        _, [key] = launch(engine)
        end(engine, key)
    assert told(engine).retry_at is not None
    look(engine, 1800.0)
    assert allocations(engine)[-1] == "uninitialized"


def test_allocations_that_fail_together_are_one_setback(engine: Engine) -> None:
    ready(engine, *MANY)
    _, keys = launch(engine)
    for key in keys:
        engine.now += 1
        end(engine, key)
    look(engine, 5.0)
    assert allocations(engine) == ["complete"] * 4 + ["uninitialized"] * 4


def test_one_that_works_makes_the_setbacks_forgotten(engine: Engine) -> None:
    ready(engine, *MANY)
    change(engine, max_allocations=1)
    for seconds in (5, 10):
        engine.now += 1
        _, [key] = launch(engine)
        end(engine, key)
        engine.now += 1000 * seconds
    _, [key] = launch(engine)
    worker = Worker(engine, allocation=key)
    worker.claim(1)
    look(engine)
    [row] = engine.query("SELECT setbacks FROM scheduler_config WHERE workflow_id = :workflow")
    assert row["setbacks"] == 0
    # The next failure is the first one again.
    worker.sync(held=(), leave=True)
    engine.now += 1
    _, [key] = launch(engine)
    end(engine, key)
    assert told(engine).retry_at is not None
    look(engine, 5.0)
    assert told(engine).retry_at is None


def test_an_allocation_that_is_ended_by_hand_or_not_needed_any_more_is_no_setback(engine: Engine) -> None:
    ready(engine)
    _, [key] = launch(engine)
    Worker(engine, "by hand").claim()
    end(engine, key, "idle")
    assert told(engine).retry_at is None


@pytest.mark.parametrize("by", ["a person's request", "a change of the config"])
def test_a_person_need_not_wait_for_the_next_try(engine: Engine, by: str) -> None:
    ready(engine)
    _, [key] = launch(engine)
    end(engine, key)
    assert told(engine).retry_at is not None
    if by == "a person's request":
        request(engine)
        assert allocations(engine) == ["complete", "uninitialized"]
    else:
        change(engine, idle_minutes=3)
        look(engine)
        assert allocations(engine) == ["complete", "uninitialized"]
    assert told(engine).retry_at is None


# ---- taking back ---------------------------------------------------------------------------------


def test_what_waits_for_nothing_for_a_minute_is_taken_back(engine: Engine) -> None:
    ready(engine, *MANY)
    launch(engine)
    worker = Worker(engine, "by hand")
    worker.claim(9)
    # Seven are left: two allocations do. It is not the moment that counts.
    look(engine, 1)
    look(engine, 59.9)
    assert taken_back(engine) == [False] * 4
    worker.claim(3)
    look(engine, 0.2)
    assert taken_back(engine) == [False, False, True, True], "the youngest, and as many as all the time"
    assert told(engine).pending == 2
    look(engine, 30)
    assert allocations(engine) == ["pending"] * 4, "what is taken back is not asked for again"


def test_demand_that_comes_back_in_time_keeps_them(engine: Engine) -> None:
    ready(engine, *MANY)
    launch(engine)
    worker = Worker(engine, "by hand")
    worker.claim()
    look(engine, 1)
    worker.give_back(*[spec.name for spec in MANY])
    look(engine, 30)
    worker.claim()
    look(engine, 31)
    look(engine, 59)
    assert taken_back(engine) == [False] * 4
    look(engine, 2)
    assert taken_back(engine) == [True] * 4


def test_the_minimum_stays(engine: Engine) -> None:
    ready(engine, *MANY)
    change(engine, min_allocations=3)
    launch(engine)
    Worker(engine, "by hand").claim()
    look(engine, 1)
    look(engine, 61)
    assert taken_back(engine) == [False, False, False, True]


def test_what_a_person_asked_for_is_not_taken_back(engine: Engine) -> None:
    ready(engine)
    change(engine, max_allocations=0)
    tag = request(engine, 2)
    tell(engine, LaunchReport(tag=tag, kind="submitted", external_ids=["one", "two"]))
    Worker(engine, "by hand").claim()
    look(engine, 1)
    look(engine, 61)
    assert taken_back(engine) == [False, False]


def test_a_backend_that_cannot_tell_waiting_from_running_takes_nothing_back(engine: Engine) -> None:
    ready(engine, *MANY)
    launch(engine)
    Worker(engine, "by hand").claim()
    look(engine, 1, backends=())
    look(engine, 61, backends=())
    assert taken_back(engine) == [False] * 4


def test_a_launch_that_waits_for_room_in_vain_is_withdrawn(engine: Engine) -> None:
    ready(engine, *MANY)
    look(engine)
    [planned] = [one for one in opened(engine) if one.workflow == engine.workflow]
    tell(engine, LaunchReport(tag=planned.tag, kind="begun"))
    tell(engine, LaunchReport(tag=planned.tag, kind="retry", error="no room", retry_seconds=900))
    Worker(engine, "by hand").claim()
    look(engine, 1)
    look(engine, 61)
    [unwanted] = [one for one in opened(engine) if one.workflow == engine.workflow]
    assert (planned.withdraw, unwanted.withdraw) == (False, True)
    tell(engine, LaunchReport(tag=planned.tag, kind="withdrawn"))
    assert allocations(engine) == ["complete"] * 4
    assert not [one for one in opened(engine) if one.workflow == engine.workflow]
    assert told(engine).retry_at is None


def test_what_no_living_node_can_run_is_told_beside_what_they_run(engine: Engine) -> None:
    ready(engine, *MANY, JobSpec("huge", Ask(1_000)))
    look(engine)
    [planned] = [one for one in opened(engine) if one.workflow == engine.workflow]

    def reasons() -> list[str]:
        return list(engine.write(progress.progress(TESTER, engine.workflow, engine.now)).reasons)

    worker = Worker(engine, "by hand")
    worker.claim(2)
    [misfit] = reasons()
    assert misfit.startswith("1 job is ready and fit no config: ")
    assert "num_cpus 1000 asked" in misfit
    # Also why no more nodes come, for the others wait for these.
    tell(engine, LaunchReport(tag=planned.tag, kind="begun"))
    tell(engine, LaunchReport(tag=planned.tag, kind="retry", error="no more jobs of this user"))
    assert [("no more jobs of this user" in reason) for reason in reasons()] == [False, True]
    assert misfit in reasons()


def test_a_launch_for_which_there_is_no_room_becomes_two(engine: Engine) -> None:
    ready(engine, *MANY)
    look(engine)
    [planned] = [one for one in opened(engine) if one.workflow == engine.workflow]
    tell(engine, LaunchReport(tag=planned.tag, kind="begun"))
    tell(engine, LaunchReport(tag=planned.tag, kind="divided", error="no more jobs of this user"))
    older, newer = (one for one in opened(engine) if one.workflow == engine.workflow)
    assert [*older.allocations, *newer.allocations] == planned.allocations
    assert [(one.count, one.state, one.not_before_seconds) for one in (older, newer)] == [
        (2, "stored", 60.0), (2, "stored", 0.0)
    ]  # fmt: skip
    assert len({planned.tag, older.tag, newer.tag}) == 3
    tell(engine, LaunchReport(tag=newer.tag, kind="begun"))
    tell(engine, LaunchReport(tag=newer.tag, kind="submitted", external_ids=["a", "b"]))
    assert allocations(engine) == ["uninitialized"] * 2 + ["pending"] * 2
    # None is planned beside those that wait for room.
    look(engine, 1)
    assert len([one for one in opened(engine) if one.workflow == engine.workflow]) == 1
    single = LaunchReport(tag=older.tag, kind="divided", error="no more jobs of this user")
    tell(engine, single)
    singles = [one for one in opened(engine) if one.workflow == engine.workflow]
    assert [one.count for one in singles] == [1, 1]
    tell(engine, LaunchReport(tag=singles[1].tag, kind="divided", error="no more jobs of this user"))
    assert [one.tag for one in opened(engine) if one.workflow == engine.workflow] == [
        one.tag for one in singles
    ], "one allocation cannot be divided"


@pytest.mark.parametrize("heard", ["from the batch system", "from its node"])
def test_one_that_starts_while_it_is_taken_back_stays(engine: Engine, heard: str) -> None:
    ready(engine, *MANY)
    _, keys = launch(engine)
    worker = Worker(engine, "by hand")
    worker.claim()
    look(engine, 1)
    look(engine, 61)
    assert taken_back(engine) == [True] * 4
    if heard == "from its node":
        worker.give_back("j0")
        assert Worker(engine, "new", allocation=keys[0]).claim() == ["j0"]
    else:
        tell(engine, AllocationReport(allocation=keys[0], state="active"))
    assert taken_back(engine) == [False, True, True, True]
    tell(engine, AllocationReport(allocation=keys[1], state="ended", reason="CANCELLED", proof_of_death=True))
    [row] = engine.query("SELECT reason FROM scheduled_compute_node WHERE id = :id", id=int(keys[1]))
    assert row["reason"] == "taken back from the queue: no job needs it any more"
    assert told(engine).retry_at is None


# ---- what will never start -----------------------------------------------------------------------

HOPELESS = "waits in Slurm's queue (PartitionTimeLimit)"


def test_an_allocation_that_will_never_start_pauses_its_config(engine: Engine) -> None:
    ready(engine)
    _, [key] = launch(engine)
    tell(engine, AllocationReport(allocation=key, state="pending", reason=HOPELESS, cannot_start=True))
    assert taken_back(engine) == [True]
    assert told(engine).why == f"1 allocation leaving; paused: {HOPELESS}"
    tell(engine, AllocationReport(allocation=key, state="ended", reason="CANCELLED", proof_of_death=True))
    look(engine, 3600)
    assert allocations(engine) == ["complete"]
    [row] = engine.query("SELECT reason FROM scheduled_compute_node WHERE id = :id", id=int(key))
    assert row["reason"] == f"taken back from the queue: {HOPELESS}"
    events = engine.query("SELECT body FROM event WHERE workflow_id = :workflow")
    assert sum("is paused" in row["body"] for row in events) == 1
    change(engine, num_cpus=2)
    look(engine)
    assert allocations(engine) == ["complete", "uninitialized"]


def test_it_is_kept_where_the_config_says_so(engine: Engine) -> None:
    ready(engine)
    change(engine, on_cannot_start="keep")
    _, [key] = launch(engine)
    tell(engine, AllocationReport(allocation=key, state="pending", reason=HOPELESS, cannot_start=True))
    look(engine)
    assert taken_back(engine) == [False]
    assert told(engine).why == f"1 allocation waiting to start: {HOPELESS}"
