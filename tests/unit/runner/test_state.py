"""Events in, instructions out: nothing here starts a process or looks at a clock."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from lading.toolkit.runner.events import (
    Event,
    Exit,
    Forget,
    GuardianLost,
    Instruction,
    JobsEnded,
    JobsStarted,
    KillMarked,
    LaunchesRefused,
    LaunchJobs,
    Prepared,
    ProcessesKilled,
    RenewLease,
    ResidentSampled,
    SendSync,
    SignalJobs,
    StopRequested,
    SyncAnswered,
    SyncFailed,
    Tick,
)
from lading.toolkit.runner.holdings import Capacity
from lading.toolkit.runner.policy import Mode, Policy
from lading.toolkit.runner.state import RunnerState
from lading.toolkit.wire.extensions import ClaimedJob, Ended, Order, SyncRequest, SyncResponse

LEASE = 100.0


class Driver:
    """Feeds a state and keeps what it wanted."""

    def __init__(
        self, *, cpus: int = 2, prepared: bool = True, end_at: float | None = None, **policy: Any
    ) -> None:
        self.now = 1000.0
        self.out: list[Instruction] = []
        self.state = RunnerState.create(
            Capacity(cpus, 1 << 30, gpus=("0", "1")),
            now=self.now,
            lease_seconds=LEASE,
            policy=Policy(**policy),
            end_at=end_at,
        )
        if prepared:
            self.feed(Prepared())

    def feed(
        self, event: Event, *, after: float = 0.0, asleep: float = 0.0, stopped: bool = False
    ) -> list[Instruction]:
        # As the loop does unless it is stopped: a tick whenever one is due on the way.
        until = self.now + after
        while not stopped and self.state.mode is not Mode.LEFT and self.state.wakeup_at < until:
            self.now = self.state.wakeup_at
            self.out += self.state.handle(Tick(), now=self.now, asleep=asleep)
        self.now = until
        got = self.state.handle(event, now=self.now, asleep=asleep)
        self.out += got
        return got

    def answer(self, *, after: float = 0.0, **fields: Any) -> list[Instruction]:
        request = self.request
        defaults: dict[str, Any] = {
            "seq": request.seq,
            "lease_seconds": LEASE,
            "run_id": 1,
            "acknowledged": [*(ended.attempt_id for ended in request.ended), *request.returned],
        }
        response = SyncResponse(**{**defaults, **fields})
        return self.feed(SyncAnswered(seq=request.seq, response=response), after=after)

    def run(self, *jobs: ClaimedJob) -> None:
        self.answer(claims=list(jobs))
        self.feed(JobsStarted(jobs=tuple((job.attempt_id, 77, self.now) for job in jobs)))

    def end(
        self, attempt: str, code: int = 0, *, after: float = 0.0, seconds: float = 1.0
    ) -> list[Instruction]:
        ended = Ended(attempt_id=attempt, cause="exit", return_code=code, exec_seconds=seconds)
        return self.feed(JobsEnded(jobs=((ended, self.now + after),)), after=after)

    @property
    def request(self) -> SyncRequest:
        return [one for one in self.out if isinstance(one, SendSync)][-1].request

    def all(self, kind: type[Instruction]) -> list[Any]:
        return [one for one in self.out if isinstance(one, kind)]


def job(name: str, **fields: Any) -> ClaimedJob:
    return ClaimedJob(attempt_id=name, job_key=name, run_id=1, number=1, command="true", **fields)


def test_first_request_asks_for_the_whole_node_and_waits() -> None:
    request = Driver().request
    assert request.wait == 25.0
    assert request.free is not None
    assert (request.free.num_cpus, request.free.memory_bytes, request.free.num_gpus) == (2, 1 << 30, 2)


def test_nothing_is_claimed_while_the_start_up_script_runs() -> None:
    driver = Driver(prepared=False)
    driver.feed(Tick())
    assert driver.request.free is None
    assert driver.request.wait > 0
    driver.feed(Prepared())
    assert driver.request.free is not None, "the waiting request is replaced at once"


def test_claims_are_launched_and_a_full_node_still_keeps_a_request_open() -> None:
    driver = Driver()
    got = driver.answer(claims=[job("a", num_gpus=1), job("b", num_gpus=1)])
    [launch] = [one for one in got if isinstance(one, LaunchJobs)]
    assert [(one.job.attempt_id, one.gpus) for one in launch.assignments] == [("a", ("0",)), ("b", ("1",))]
    assert driver.request.free is None
    assert driver.request.held == ["a", "b"]
    assert driver.request.wait == 25.0


def test_lease_counts_from_when_the_answered_request_was_sent() -> None:
    driver = Driver()
    driver.answer(after=20.0)
    renewal = driver.all(RenewLease)[-1]
    assert renewal.until == 1000.0 + LEASE
    assert renewal.kill_at == 1000.0 + LEASE - 15.0


def test_an_end_is_reported_at_once_when_nothing_else_runs_and_ends_the_wait() -> None:
    driver = Driver()
    driver.run(job("a"))
    waiting = driver.request
    got = driver.end("a", 3)
    [sent] = [one for one in got if isinstance(one, SendSync)]
    assert sent.request.seq > waiting.seq
    assert [ended.return_code for ended in sent.request.ended] == [3]
    assert [ended.attempt_id for ended, _ in sent.records] == ["a"]
    assert sent.request.started == [], "its end says that it started"
    got = driver.answer()
    assert [one.attempts for one in got if isinstance(one, Forget)] == [("a",)]
    assert driver.request.ended == []


def test_ends_gather_for_two_milliseconds_while_others_run() -> None:
    driver = Driver(cpus=3)
    driver.run(job("a"), job("b"), job("c"))
    driver.end("a")
    driver.end("b", after=0.001)
    assert driver.request.ended == []
    driver.feed(Tick(), after=0.002)
    assert [ended.attempt_id for ended in driver.request.ended] == ["a", "b"]


def test_a_start_is_told_when_the_job_lives() -> None:
    driver = Driver()
    driver.run(job("a"))
    driver.feed(Tick(), after=0.03)
    assert [started.attempt_id for started in driver.request.started] == ["a"]
    driver.answer()
    assert driver.request.started == []


def test_the_answer_to_a_superseded_request_is_ignored() -> None:
    driver = Driver()
    driver.run(job("a"))
    old = driver.request
    driver.end("a")
    response = SyncResponse(seq=old.seq, lease_seconds=LEASE, run_id=1, claims=[job("b")])
    assert driver.feed(SyncAnswered(seq=old.seq, response=response)) == []


def test_a_claim_that_comes_twice_is_launched_once() -> None:
    driver = Driver()
    driver.answer(claims=[job("a")])
    driver.answer(claims=[job("a")])
    assert len(driver.all(LaunchJobs)) == 1
    driver.end("a")
    driver.answer(claims=[job("a")])
    assert len(driver.all(LaunchJobs)) == 1


def test_reports_are_repeated_until_they_are_acknowledged() -> None:
    driver = Driver()
    driver.run(job("a"))
    driver.end("a")
    for _ in range(3):
        seq = driver.request.seq
        driver.feed(SyncFailed(seq=seq, reason="gone"))
        driver.feed(Tick(), after=10.0)
        assert driver.request.seq > seq
        assert [ended.attempt_id for ended in driver.request.ended] == ["a"]
    assert driver.request.ended[0].age_seconds > 20.0
    records = [one.records for one in driver.all(SendSync) if one.records]
    assert len(records) == 1, "spooled once"
    driver.answer(acknowledged=[])
    assert [ended.attempt_id for ended in driver.request.ended] == ["a"]


def test_kill_order_of_a_job_that_supports_termination() -> None:
    driver = Driver()
    driver.run(job("a", supports_termination=True), job("b"))
    order = Order(id="o", kind="kill", attempts=["a", "b"], grace_seconds=5.0)
    driver.answer(orders=[order])
    signals = {one.attempts: one.number for one in driver.all(SignalJobs)}
    assert signals == {("a",): signal.SIGTERM, ("b",): signal.SIGKILL}
    driver.answer(orders=[order])
    assert len(driver.all(SignalJobs)) == 2, "an order that is repeated is obeyed once"
    driver.feed(Tick(), after=5.1)
    assert driver.all(SignalJobs)[-1].attempts == ("a",)
    assert driver.all(SignalJobs)[-1].number == signal.SIGKILL


def test_kill_order_for_an_attempt_that_never_arrived() -> None:
    driver = Driver()
    driver.answer(orders=[Order(id="o", kind="kill", attempts=["lost"])])
    [ended] = driver.request.ended
    assert (ended.attempt_id, ended.status, ended.started) == ("lost", "canceled", False)


def test_kill_order_that_crossed_the_report_adds_no_second_report() -> None:
    driver = Driver()
    driver.run(job("a"))
    driver.end("a")
    driver.answer(orders=[Order(id="o", kind="kill", attempts=["a"])])
    assert driver.request.ended == []


def test_drain_leaves_when_the_last_job_has_ended() -> None:
    driver = Driver(cpus=1)
    driver.run(job("a"))
    driver.answer(orders=[Order(id="d", kind="drain")])
    assert driver.request.acknowledged_orders == ["d"]
    assert driver.request.free is None
    driver.answer()
    assert driver.request.acknowledged_orders == []
    driver.end("a")
    assert driver.request.leave
    assert [ended.attempt_id for ended in driver.request.ended] == ["a"]
    driver.answer()
    assert driver.all(Exit)[-1].code == 0


def test_leaves_when_the_workflow_is_over_unless_told_not_to() -> None:
    driver = Driver()
    driver.answer(is_complete=True)
    assert driver.request.leave
    stays = Driver(ignore_completion=True)
    stays.answer(is_complete=True)
    assert not stays.request.leave


def test_work_that_comes_with_the_last_answer_keeps_the_node() -> None:
    driver = Driver()
    driver.run(job("a"))
    driver.end("a")
    driver.answer(is_complete=True, claims=[job("b")])
    assert not driver.request.leave
    assert driver.request.held == ["b"]


def test_idle_node_leaves() -> None:
    driver = Driver(wait_for_new_jobs_seconds=90.0)
    for _ in range(3):
        driver.answer(after=25.0)
    assert not driver.request.leave
    driver.feed(Tick(), after=20.0)
    assert driver.request.leave


def test_idle_node_stays_as_long_as_its_scheduler_config_says() -> None:
    short, long = Driver(idle_seconds=30.0), Driver(idle_seconds=300.0)
    for driver in (short, long):
        driver.answer(after=25.0)
        assert not driver.request.leave
        driver.feed(Tick(), after=10.0)
    assert short.request.leave
    assert not long.request.leave


def test_run_time_limit_and_grace() -> None:
    driver = Driver()
    driver.run(
        job("a", runtime_limit_seconds=10.0, supports_termination=True), job("b", runtime_limit_seconds=20.0)
    )
    driver.feed(Tick(), after=10.0)
    assert [(one.attempts, one.number) for one in driver.all(SignalJobs)] == [(("a",), signal.SIGTERM)]
    assert driver.all(SignalJobs)[0].stop["cause"] == "job_timeout"
    driver.feed(Tick(), after=10.0)
    assert driver.all(SignalJobs)[-1].attempts == ("b",)
    driver.feed(Tick(), after=20.0)
    assert (driver.all(SignalJobs)[-1].attempts, driver.all(SignalJobs)[-1].number) == (
        ("a",),
        signal.SIGKILL,
    )


@pytest.mark.parametrize(("policy", "killed"), [("off", False), ("warn", False), ("kill", True)])
def test_memory_over_the_limit(policy: str, killed: bool) -> None:
    driver = Driver(memory_limit=policy)
    driver.run(job("a", memory_limit_bytes=100), job("b"))
    driver.feed(ResidentSampled(resident_bytes={"a": 101, "b": 1 << 40}))
    assert [one.attempts for one in driver.all(SignalJobs)] == ([("a",)] if killed else [])
    driver.end("a")
    driver.feed(Tick(), after=0.01)
    assert ("limit is 100" in driver.request.ended[0].message) is (policy == "warn")


def test_two_signals_close_together_are_one_a_later_one_kills() -> None:
    driver = Driver()
    driver.run(job("a", supports_termination=True))
    driver.feed(StopRequested(reason="TERM"))
    driver.feed(StopRequested(reason="TERM"), after=0.2)
    assert [one.number for one in driver.all(SignalJobs)] == [signal.SIGTERM]
    driver.feed(StopRequested(reason="TERM"), after=2.0)
    assert [one.number for one in driver.all(SignalJobs)] == [signal.SIGTERM, signal.SIGKILL]
    assert driver.request.free is None


def test_end_of_the_allocation() -> None:
    driver = Driver(end_at=1050.0)
    assert driver.request.free is not None
    assert driver.request.free.time_limit_seconds == 50.0
    driver.run(job("a"))
    driver.feed(Tick(), after=50.0)
    assert driver.all(SignalJobs)[-1].stop["cause"] == "allocation_ended"
    assert driver.state.mode is Mode.STOPPING


def test_fenced_node_kills_and_leaves() -> None:
    driver = Driver()
    driver.run(job("a", supports_termination=True))
    driver.feed(SyncFailed(seq=driver.request.seq, reason="not yours", fenced=True))
    assert driver.all(SignalJobs)[-1].number == signal.SIGKILL
    driver.end("a", -9, after=0.01)
    driver.feed(Tick(), after=0.5)
    assert driver.request.leave
    driver.feed(SyncFailed(seq=driver.request.seq, reason="not yours", fenced=True), after=0.1)
    assert driver.all(Exit)[-1].code == 1


def test_waking_late_launches_nothing_before_the_server_has_answered_anew() -> None:
    driver = Driver()
    stale = driver.request
    response = SyncResponse(seq=stale.seq, lease_seconds=LEASE, run_id=1, claims=[job("a")])
    got = driver.feed(SyncAnswered(seq=stale.seq, response=response), after=55.0, stopped=True)
    assert driver.all(LaunchJobs) == []
    assert [one.request.wait for one in got if isinstance(one, SendSync)] == [0.0]
    driver.answer(claims=[job("a")])
    assert len(driver.all(LaunchJobs)) == 1


def test_suspension_is_noticed_by_the_clocks() -> None:
    driver = Driver()
    seq = driver.request.seq
    driver.feed(Tick(), asleep=6.0)
    assert driver.request.seq > seq
    assert driver.request.free is None


def test_refused_launches_are_handed_back() -> None:
    driver = Driver()
    driver.answer(claims=[job("a")])
    driver.feed(LaunchesRefused(attempts=("a",)))
    assert driver.request.returned == ["a"]
    driver.answer()
    assert driver.request.free is not None
    assert driver.request.free.num_cpus == 2


def test_a_claim_that_can_never_run_here_is_handed_back() -> None:
    driver = Driver()
    driver.answer(claims=[job("wide", num_cpus=3)])
    assert driver.request.returned == ["wide"]
    assert driver.all(LaunchJobs) == []


def test_guardian_lost() -> None:
    driver = Driver()
    driver.run(job("a"), job("b"))
    got = driver.feed(GuardianLost())
    assert KillMarked() in got
    driver.feed(ProcessesKilled(remaining={"b": 99}))
    assert [ended.attempt_id for ended in driver.request.ended] == ["a"]
    assert driver.request.ended[0].cause == "infrastructure"
    assert driver.request.held == ["b"]
    assert not driver.request.leave, "a process that does not die keeps the lease"
    driver.answer()
    driver.feed(Tick(), after=6.0)
    assert len(driver.all(KillMarked)) == 2
    driver.feed(ProcessesKilled(remaining={}))
    driver.answer()
    assert [driver.request.leave] == [True]
    driver.answer()
    assert driver.all(Exit)[-1].code == 1


def test_short_jobs_are_claimed_ahead_and_handed_back_when_stopping() -> None:
    driver = Driver()
    driver.run(job("a"), job("b"))
    driver.end("a", seconds=0.01)
    driver.end("b", seconds=0.01)
    driver.answer(num_ready=1000)
    free = driver.request.free
    assert free is not None
    assert free.max_jobs is not None
    assert free.max_jobs > 2
    assert free.job_num_cpus == 2
    driver.answer(claims=[job(f"q{number}") for number in range(10)], num_ready=990)
    assert len(driver.all(LaunchJobs)[-1].assignments) == 2
    driver.feed(StopRequested(reason="TERM"))
    assert driver.request.returned == [f"q{number}" for number in range(2, 10)]


@pytest.mark.parametrize(("seconds", "ready"), [(1.0, 1000), (0.01, 2)])
def test_no_claim_ahead_of_long_jobs_or_little_work(seconds: float, ready: int) -> None:
    driver = Driver()
    driver.run(job("a"))
    driver.end("a", seconds=seconds)
    driver.answer(num_ready=ready)
    assert driver.request.free is not None
    assert driver.request.free.max_jobs is None


def test_server_that_does_not_wait_does_not_make_us_spin() -> None:
    driver = Driver()
    before = driver.request.seq
    for _ in range(1000):
        if driver.now > 1010.0:
            break
        driver.answer(after=0.001)
        driver.feed(Tick(), after=max(0.0, driver.state.wakeup_at - driver.now))
    assert driver.request.seq - before < 100
