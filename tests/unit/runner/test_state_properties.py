"""Whatever happens in whatever order: never oversubscribed, never launched twice, nothing lost."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lading.toolkit.runner.events import (
    Exit,
    Instruction,
    JobsEnded,
    JobsStarted,
    LaunchesRefused,
    LaunchJobs,
    Prepared,
    SendSync,
    SignalJobs,
    StopRequested,
    SuspensionSignaled,
    SyncAnswered,
    SyncFailed,
    Tick,
)
from lading.toolkit.runner.holdings import Capacity
from lading.toolkit.runner.policy import Policy
from lading.toolkit.runner.state import RunnerState
from lading.toolkit.wire.extensions import ClaimedJob, Ended, Order, SyncRequest, SyncResponse

CPUS, MEMORY, GPUS = 4, 1000, ("0", "1")


class RunnerMachine(RuleBasedStateMachine):
    """A level-triggered server and a guardian around a state; answers, ends and losses in any order."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.state = RunnerState.create(
            Capacity(CPUS, MEMORY, GPUS, max_jobs=6),
            now=0.0,
            lease_seconds=60.0,
            policy=Policy(),
            end_at=None,
        )
        self.number = 0
        self.server_open: dict[str, ClaimedJob] = {}
        self.claimed: set[str] = set()
        self.launched: list[str] = []
        self.running: dict[str, tuple[ClaimedJob, tuple[str, ...]]] = {}
        self.killed: set[str] = set()
        self.ended: dict[str, int] = {}
        self.returned: set[str] = set()
        self.open_requests: list[SyncRequest] = []
        self.newest = 0
        self.exit: Exit | None = None
        self.feed(Prepared())

    def feed(self, event: Any) -> None:
        for instruction in self.state.handle(event, now=self.now):
            self.perform(instruction)

    def perform(self, instruction: Instruction) -> None:
        match instruction:
            case LaunchJobs():
                for assignment in instruction.assignments:
                    self.launched.append(assignment.job.attempt_id)
                    self.running[assignment.job.attempt_id] = (assignment.job, assignment.gpus)
            case SignalJobs():
                assert set(instruction.attempts) <= self.running.keys()
                self.killed |= set(instruction.attempts)
            case SendSync():
                assert instruction.request.seq > self.newest
                # Stopped in a moment, a node neither takes work nor leaves a request waiting.
                request = instruction.request
                assert not request.suspending or (request.free, request.wait) == (None, 0.0)
                self.newest = instruction.request.seq
                self.open_requests.append(instruction.request)
            case Exit():
                self.exit = instruction

    def arrive(self, request: SyncRequest) -> SyncResponse:
        """Do what the server does with a request."""
        for ended in request.ended:
            code = self.ended.setdefault(ended.attempt_id, ended.return_code)
            assert code == ended.return_code, "reported twice, differently"
            assert ended.attempt_id not in self.returned
            self.server_open.pop(ended.attempt_id, None)
        for name in request.returned:
            assert name not in self.launched or name not in self.ended
            self.returned.add(name)
            self.server_open.pop(name, None)
        known = {*request.held, *request.returned, *(ended.attempt_id for ended in request.ended)}
        response = SyncResponse(
            seq=request.seq,
            lease_seconds=60.0,
            run_id=1,
            acknowledged=[*(ended.attempt_id for ended in request.ended), *request.returned],
            num_ready=1000,
        )
        if request.leave:
            assert not request.held
            assert not self.running
            # Claims whose answer was lost and that were never asked for again.
            assert not self.server_open.keys() & set(self.launched)
            self.returned |= self.server_open.keys()
            self.server_open.clear()
        else:
            response.claims = [job for name, job in self.server_open.items() if name not in known]
        return response

    def claim(self, request: SyncRequest, response: SyncResponse, shapes: list[tuple[int, int, int]]) -> None:
        free = request.free
        if free is None or request.seq != self.newest:
            return
        cpus, memory, gpus = free.num_cpus, free.memory_bytes, free.num_gpus
        most = 100 if free.max_jobs is None else free.max_jobs
        for num_cpus, size, num_gpus in shapes:
            if num_cpus > min(cpus, free.job_num_cpus or cpus) or size > min(
                memory, free.job_memory_bytes or memory
            ):
                continue
            if num_gpus > gpus or most < 1:
                continue
            cpus, memory, gpus, most = cpus - num_cpus, memory - size, gpus - num_gpus, most - 1
            self.number += 1
            name = f"a{self.number}"
            job = ClaimedJob(
                attempt_id=name, job_key=name, run_id=1, number=1, command="true",
                num_cpus=num_cpus, memory_bytes=size, num_gpus=num_gpus,
                supports_termination=self.number % 2 == 0,
            )  # fmt: skip
            self.claimed.add(name)
            self.server_open[name] = job
            response.claims.append(job)

    @precondition(lambda self: self.open_requests)
    @rule(
        data=st.data(),
        lost=st.booleans(),
        shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 500), st.integers(0, 2)), max_size=8),
        kill=st.booleans(),
    )
    def answer(self, data: st.DataObject, lost: bool, shapes: list[tuple[int, int, int]], kill: bool) -> None:
        request = data.draw(st.sampled_from(self.open_requests))
        self.open_requests.remove(request)
        response = self.arrive(request)
        self.claim(request, response, shapes)
        if kill and self.server_open and not request.leave:
            victims = data.draw(st.lists(st.sampled_from(sorted(self.server_open)), max_size=2))
            response.orders = [Order(id="k", kind="kill", attempts=victims)]
        if lost:
            self.feed(SyncFailed(seq=request.seq, reason="lost"))
        else:
            self.feed(SyncAnswered(seq=request.seq, response=response))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), started=st.booleans(), seconds=st.floats(0.001, 2.0))
    def end(self, data: st.DataObject, started: bool, seconds: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        if started:
            self.feed(JobsStarted(jobs=((name, 5, self.now),)))
        del self.running[name]
        code = -9 if name in self.killed else 0
        ended = Ended(attempt_id=name, cause="exit", return_code=code, exec_seconds=seconds)
        self.feed(JobsEnded(jobs=((ended, self.now),)))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.running.keys() - self.killed) or [""]))
        if name:
            del self.running[name]
            self.feed(LaunchesRefused(attempts=(name,)))

    @rule(seconds=st.sampled_from([0.001, 0.01, 1.0, 10.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    @rule()
    def late(self) -> None:
        self.now += 59.0
        self.feed(Tick())

    @rule(seconds=st.sampled_from([0.0, 5.0, 200.0]), is_noticed=st.booleans())
    def suspend(self, seconds: float, is_noticed: bool) -> None:
        self.feed(SuspensionSignaled())
        self.now += seconds
        self.feed(SuspensionSignaled(is_over=True) if is_noticed else Tick())

    @precondition(lambda self: self.number > 5)
    @rule()
    def stop(self) -> None:
        self.now += 2.0
        self.feed(StopRequested(reason="TERM"))

    @invariant()
    def never_oversubscribed(self) -> None:
        jobs = [job for job, _ in self.running.values()]
        assert sum(job.num_cpus for job in jobs) <= CPUS
        assert sum(job.memory_bytes for job in jobs) <= MEMORY
        given = [gpu for _, gpus in self.running.values() for gpu in gpus]
        assert len(given) == len(set(given)) == sum(job.num_gpus for job in jobs)
        assert len(jobs) <= 6

    @invariant()
    def never_launched_twice(self) -> None:
        assert len(self.launched) == len(set(self.launched))

    def teardown(self) -> None:
        """Let everything end and every request be answered: each attempt has exactly one exit."""
        for _ in range(200):
            if self.exit is not None:
                break
            self.now += 0.5
            self.feed(Tick())
            for name in list(self.running):
                del self.running[name]
                code = -9 if name in self.killed else 0
                ended = Ended(attempt_id=name, cause="exit", return_code=code, exec_seconds=0.1)
                self.feed(JobsEnded(jobs=((ended, self.now),)))
            for request in list(self.open_requests):
                self.open_requests.remove(request)
                self.feed(SyncAnswered(seq=request.seq, response=self.arrive(request)))
            if self.exit is None:
                self.feed(StopRequested(reason="TERM"))
        assert self.exit is not None
        assert not self.server_open
        assert self.ended.keys() | self.returned >= self.claimed
        assert not self.ended.keys() & self.returned


RunnerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestRunnerState = RunnerMachine.TestCase
