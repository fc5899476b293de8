"""The completion script keeps a node, but not against its orders; and groups of CPUs go around."""

from __future__ import annotations

from lading.toolkit.runner.events import (
    CompletionScriptOver,
    Exit,
    LaunchJobs,
    RunCompletionScript,
    StopRequested,
    Tick,
)
from lading.toolkit.runner.holdings import Capacity
from lading.toolkit.runner.state import RunnerState
from tests.unit.runner.test_state import Driver, job


def completed(**policy: object) -> Driver:
    driver = Driver(**policy)  # type: ignore[arg-type]
    driver.answer(is_complete=True, has_completion_script=True)
    return driver


def test_a_node_asks_once_and_stays_until_the_script_is_over() -> None:
    driver = completed()
    assert len(driver.all(RunCompletionScript)) == 1
    assert not driver.request.leave
    driver.answer(is_complete=True, has_completion_script=True, after=300.0)
    assert len(driver.all(RunCompletionScript)) == 1, "whoever has it, this node has asked"
    assert not driver.request.leave, "a long script is no idleness"
    driver.feed(CompletionScriptOver())
    assert [driver.request.leave] == [True]
    driver.answer(is_complete=True)
    assert driver.all(Exit)


def test_waiting_for_a_script_costs_no_turns() -> None:
    driver = completed()
    driver.feed(Tick(), after=100.0)
    assert driver.state.wakeup_at > driver.now


def test_a_node_that_stops_waits_for_no_script() -> None:
    driver = completed()
    driver.feed(StopRequested(reason="TERM"))
    assert [driver.request.leave] == [True]


def test_a_node_that_stays_asks_again_in_the_next_run() -> None:
    driver = completed(ignore_completion=True)
    driver.feed(CompletionScriptOver())
    assert not driver.request.leave
    driver.answer(run_id=2, is_complete=True, has_completion_script=True)
    assert len(driver.all(RunCompletionScript)) == 2


def test_no_script_no_question() -> None:
    driver = Driver()
    driver.answer(is_complete=True)
    assert not driver.all(RunCompletionScript)
    assert [driver.request.leave] == [True]


def test_each_running_job_has_groups_of_its_own() -> None:
    driver = Driver()
    groups = ((0, 1), (2, 3))
    driver.state = RunnerState.create(
        Capacity(2, 1 << 30, cpu_groups=groups), now=driver.now, lease_seconds=100.0,
        policy=driver.state.policy, end_at=None,
    )  # fmt: skip
    driver.state.mode = Driver().state.mode
    driver.feed(Tick())
    driver.run(job("a"), job("b"))
    (launched,) = driver.all(LaunchJobs)
    assert [assignment.cpus for assignment in launched.assignments] == [(0, 1), (2, 3)]
    driver.end("a")
    driver.run(job("c"))
    assert driver.all(LaunchJobs)[-1].assignments[0].cpus == (0, 1)
    driver.end("b")
    driver.end("c")
    driver.run(job("wide", num_cpus=2))
    assert sorted(driver.all(LaunchJobs)[-1].assignments[0].cpus) == [0, 1, 2, 3]


def test_a_node_that_stays_asks_again_when_the_script_is_offered_again() -> None:
    driver = completed(ignore_completion=True)
    driver.feed(CompletionScriptOver())
    # Another node has it, and dies.
    driver.answer(is_complete=True)
    assert len(driver.all(RunCompletionScript)) == 1
    driver.feed(Tick(), after=30.0)
    driver.answer(is_complete=True, has_completion_script=True)
    assert len(driver.all(RunCompletionScript)) == 2
    driver.feed(CompletionScriptOver())
    driver.feed(Tick(), after=30.0)
    driver.answer(is_complete=True, has_completion_script=True)
    assert len(driver.all(RunCompletionScript)) == 2, "still the same offer"
