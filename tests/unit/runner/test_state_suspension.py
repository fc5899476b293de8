"""A batch system that stops all processes for a while: what is said before, and what holds afterwards."""

from __future__ import annotations

import signal
from typing import Any

from lading.toolkit.runner.events import (
    HoldLease,
    LaunchJobs,
    RenewLease,
    SignalJobs,
    StopRequested,
    SuspensionSignaled,
    Tick,
)
from lading.toolkit.wire.extensions import Order
from tests.unit.runner.test_state import LEASE, Driver, job

ASLEEP = 3 * LEASE


def suspended(**policy: Any) -> Driver:
    """Return a node that runs `a`, was warned, and has said so."""
    driver = Driver(**policy)
    driver.run(job("a", runtime_limit_seconds=50.0))
    driver.answer()
    driver.feed(SuspensionSignaled())
    return driver


def test_the_server_hears_of_it_at_once_and_nothing_is_asked_for() -> None:
    driver = suspended()
    request = driver.request
    assert (request.suspending, request.held, request.free, request.wait) == (True, ["a"], None, 0.0)
    driver.answer()
    assert driver.all(HoldLease), "the guardian kills nothing while the lease stands still"
    assert driver.request is request, "silence until it is over"


def test_what_was_queued_or_arrives_is_not_started() -> None:
    driver = suspended()
    before = len(driver.all(LaunchJobs))
    driver.answer(claims=[job("b")])
    assert len(driver.all(LaunchJobs)) == before
    driver.feed(SuspensionSignaled(is_over=True), after=ASLEEP, stopped=True)
    driver.answer()
    assert driver.all(LaunchJobs)[-1].assignments[0].job.attempt_id == "b"


def test_it_goes_on_with_a_full_lease_and_asks_first() -> None:
    driver = suspended()
    driver.answer()
    out = driver.feed(SuspensionSignaled(is_over=True), after=ASLEEP, stopped=True)
    [renewal] = [one for one in out if isinstance(one, RenewLease)]
    assert renewal.until == driver.now + LEASE
    assert (driver.request.suspending, driver.request.free, driver.request.wait) == (False, None, 0.0)
    driver.answer()
    assert driver.request.free is not None


def test_a_late_tick_comes_before_the_signal_that_it_is_over() -> None:
    driver = suspended()
    driver.answer()
    driver.feed(Tick(), after=ASLEEP, stopped=True)
    assert not driver.request.suspending
    assert not driver.all(SignalJobs), "no limit ran meanwhile"
    seq = driver.request.seq
    driver.feed(SuspensionSignaled(is_over=True))
    assert driver.request.seq == seq


def test_time_that_nothing_ran_counts_towards_no_limit() -> None:
    driver = suspended()
    driver.state.end_at = driver.now + 60.0
    driver.answer()
    driver.feed(SuspensionSignaled(is_over=True), after=ASLEEP, stopped=True)
    driver.answer()
    driver.feed(Tick(), after=49.0)
    assert not driver.all(SignalJobs)
    driver.feed(Tick(), after=2.0)
    assert driver.all(SignalJobs)[-1].stop["cause"] == "job_timeout"


def test_without_the_servers_word_the_lease_runs_on() -> None:
    driver = suspended()
    out = driver.feed(SuspensionSignaled(is_over=True), after=ASLEEP, stopped=True)
    assert not [one for one in out if isinstance(one, RenewLease)]
    assert not driver.all(HoldLease)


def test_a_node_that_is_to_end_gets_no_standing_lease() -> None:
    driver = suspended()
    driver.answer(orders=[Order(id="end-1", kind="end", reason="canceled")])
    assert not driver.all(HoldLease)


def test_a_warning_that_nothing_follows_is_forgotten() -> None:
    driver = suspended()
    driver.answer()
    driver.feed(Tick(), after=11.0)
    assert not driver.request.suspending
    driver.answer()
    assert driver.request.free is not None


def test_jobs_are_given_up_where_the_workflow_wants_them_to_run_elsewhere() -> None:
    driver = suspended(on_suspend="requeue")
    assert not driver.request.suspending
    [order] = driver.all(SignalJobs)
    assert (order.attempts, order.number) == (("a",), signal.SIGKILL)
    assert order.stop["cause"] == "allocation_ended"


def test_who_leaves_by_itself_says_so() -> None:
    driver = Driver(idle_seconds=30.0)
    driver.answer(after=25.0)
    driver.feed(Tick(), after=10.0)
    assert (driver.request.leave, driver.request.is_final) == (True, True)


def test_who_was_told_to_stop_may_be_started_again() -> None:
    driver = Driver()
    driver.feed(StopRequested(reason="TERM"))
    driver.answer()
    assert (driver.request.leave, driver.request.is_final) == (True, False)


def test_a_batch_systems_signal_leaves_less_time_than_an_order() -> None:
    driver = Driver(signal_grace_seconds=10.0)
    driver.run(job("a", supports_termination=True))
    driver.feed(StopRequested(reason="TERM"))
    driver.feed(Tick(), after=10.0)
    assert [one.number for one in driver.all(SignalJobs)] == [signal.SIGTERM, signal.SIGKILL]
