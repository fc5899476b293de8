"""Whatever clients, nodes and clocks do, in any order: the engine is what the model says it is.

After every step both databases are compared with the model, and `verify` recounts every counter.
Attacked promises: a job is never handed out twice, its attempts never overlap, and it has one result
a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lading.api.storage.unit_of_work import Database
from lading.toolkit.domain.states import ACTIVE, JOB_COMPLETE, Cause, JobStatus
from tests.engine.conftest import NOW, PROFILE
from tests.engine.driver import Engine
from tests.engine.model import Ask, JobSpec, Refused, Report
from tests.engine.operations import ModelEngine, SyncAnswer, SyncCall
from tests.engine.stored import Run

MOST_JOBS = 10
MOST_NODES = 3
FILES = ("a", "b", "c")
ASKS = (
    Ask(),
    Ask(cpus=2, memory=2**30),
    Ask(memory=2**21, runtime=7200.0),
    Ask(gpus=1),
    Ask(only_config=True),
)
SHAPES = (Ask(cpus=4, memory=2**32, gpus=1), Ask(cpus=2, memory=2**31, only_config=True))
REPORTS = (
    Report(),
    Report(),
    Report(return_code=3),
    Report(Cause.SIGNAL, -11),
    Report(Cause.JOB_TIMEOUT, -15, JobStatus.TERMINATED),
    Report(Cause.ALLOCATION_ENDED, -15, JobStatus.TERMINATED),
    Report(Cause.INFRASTRUCTURE, -9, JobStatus.TERMINATED),
    Report(Cause.CANCELED, -15, JobStatus.CANCELED),
)
METHODS = ("gpus_runtime_memory", "gpus_memory_runtime", "none")
seldom = st.integers(0, 5).map(lambda number: number == 0)
mostly = st.integers(0, 5).map(lambda number: number > 0)
now_and_then = st.integers(0, 2).map(lambda number: number == 0)


class EngineMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self, databases: Sequence[Database], run: Run) -> None:
        super().__init__()
        self.model = ModelEngine(NOW)
        self.engines = [Engine(database, run, NOW) for database in databases]
        self.held: dict[str, list[str]] = {}
        """What each of our nodes believes to have: only what an answer that arrived has told it."""
        self.doomed: dict[str, set[str]] = {}
        """What each was told to kill."""
        self.begun: set[str] = set()
        self.made = 0

    def teardown(self) -> None:
        for engine in self.engines:
            engine.remove()

    # ---- doing a thing everywhere ----------------------------------------------------------

    def do(self, operation: str, *given: Any, **named: Any) -> Any:
        """Do it to the model and in each database; all answer alike, and look alike afterwards."""
        self.tick(1000)
        expected = _outcome(self.model, operation, *given, **named)
        for engine in self.engines:
            assert _outcome(engine, operation, *given, **named) == expected
        self.check()
        return expected

    def tick(self, milliseconds: int) -> None:
        self.model.now += milliseconds
        for engine in self.engines:
            engine.now += milliseconds

    def check(self) -> None:
        expected = self.model.look()
        for engine in self.engines:
            assert engine.violations() == []
            assert engine.look() == expected

    def some_job(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.model.jobs)))

    def active_jobs(self) -> list[str]:
        return sorted(name for name, job in self.model.jobs.items() if job.status in ACTIVE)

    def busy_nodes(self) -> list[str]:
        return sorted(name for name in self.held if self.held[name] or self.doomed[name])

    def our_nodes(self) -> list[str]:
        return [name for name, node in self.model.nodes.items() if node.is_ours]

    # ---- jobs and edges --------------------------------------------------------------------

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.add_jobs(data)
        self.do("add_foreign_node", "foreign")
        self.register(data)
        self.do("start")

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(data=st.data())
    def add_jobs(self, data: st.DataObject) -> None:
        specs = []
        for _ in range(data.draw(st.integers(1, 4))):
            self.made += 1
            specs.append(self._spec(data, f"j{self.made}"))
        self.do("add_jobs", specs)

    def _spec(self, data: st.DataObject, name: str) -> JobSpec:
        existing = sorted(self.model.jobs)
        unwritten = [
            file for file in FILES if not any(file in job.spec.produces for job in self.model.jobs.values())
        ]
        few: Any = st.lists(st.sampled_from(existing), max_size=3, unique=True) if existing else st.just([])
        writes: bool = data.draw(seldom)
        return JobSpec(
            name,
            data.draw(st.sampled_from(ASKS)),
            tuple(data.draw(few)),
            needs=tuple(data.draw(st.lists(st.sampled_from(FILES), max_size=1))),
            produces=(unwritten[0],) if unwritten and writes else (),
            cancel=data.draw(mostly),
            retries=data.draw(st.sampled_from((0, 0, 1, 2))),
            priority=data.draw(st.sampled_from((0, 0, 1))),
            schedules=data.draw(seldom),
        )

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def delete_job(self, data: st.DataObject) -> None:
        if data.draw(seldom):
            self.do("delete_job", self.some_job(data))

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def add_edge(self, data: st.DataObject) -> None:
        self.do("add_edge", self.some_job(data), self.some_job(data))

    @precondition(lambda self: self.model.edges)
    @rule(data=st.data())
    def remove_edge(self, data: st.DataObject) -> None:
        self.do("remove_edge", *data.draw(st.sampled_from(sorted(self.model.edges))))

    # ---- the workflow ----------------------------------------------------------------------

    @rule(only_uninitialized=mostly)
    def initialize_jobs(self, *, only_uninitialized: bool) -> None:
        self.do("initialize", only_uninitialized=only_uninitialized)

    @rule(really=now_and_then)
    def start(self, *, really: bool) -> None:
        if really:
            self.do("start")

    @rule(really=seldom)
    def cancel(self, *, really: bool) -> None:
        if really:
            self.do("cancel")

    @precondition(lambda self: self.model.is_canceled)
    @rule()
    def reset_status(self) -> None:
        self.do("reset_status")

    @rule(really=now_and_then, failed_only=mostly)
    def reset_job_status(self, *, really: bool, failed_only: bool) -> None:
        if really:
            self.do("reset_job_status", failed_only=failed_only)

    @rule(really=now_and_then)
    def schedule(self, *, really: bool) -> None:
        if really:
            self.do("schedule")

    # ---- one job ---------------------------------------------------------------------------

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel_job(self, data: st.DataObject) -> None:
        if data.draw(now_and_then):
            self.do("cancel_job", self.some_job(data))

    @precondition(lambda self: any(job.status in JOB_COMPLETE for job in self.model.jobs.values()))
    @rule(data=st.data())
    def retry_job(self, data: st.DataObject) -> None:
        over = sorted(name for name, job in self.model.jobs.items() if job.status in JOB_COMPLETE)
        self.do("retry_job", data.draw(st.sampled_from(over)))

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def put_status(self, data: st.DataObject) -> None:
        if not data.draw(now_and_then):
            return
        name = self.some_job(data)
        self.do("put_status", name, self._some_status(data, name), fresh=data.draw(mostly))

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def manage_status(self, data: st.DataObject) -> None:
        if not data.draw(now_and_then):
            return
        name = self.some_job(data)
        status = self._some_status(data, name)
        fresh, same_run = data.draw(mostly), data.draw(mostly)
        self.do("manage_status", name, status, fresh=fresh, same_run=same_run)

    def _some_status(self, data: st.DataObject, name: str) -> JobStatus:
        status = data.draw(st.sampled_from(JobStatus))
        # Who declares a job blocked that waits for nothing gets what `verify` is there to find.
        idle = status is JobStatus.BLOCKED and self.model.unfinished(name) == 0
        return JobStatus.UNINITIALIZED if idle else status

    # ---- torc's workers --------------------------------------------------------------------

    @rule(data=st.data(), limit=st.sampled_from((1, 3, 100)))
    def prepare(self, data: st.DataObject, limit: int) -> None:
        if data.draw(now_and_then):
            self.do("prepare", data.draw(st.sampled_from(SHAPES)), data.draw(st.sampled_from(METHODS)), limit)

    @rule(really=now_and_then, limit=st.integers(1, 3))
    def prepare_next(self, *, really: bool, limit: int) -> None:
        if really:
            self.do("prepare_next", limit)

    @precondition(lambda self: self.active_jobs())
    @rule(data=st.data())
    def start_job(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.active_jobs()))
        self.do("start_job", name, "foreign", fresh=data.draw(mostly), same_run=data.draw(mostly))

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def complete_job(self, data: st.DataObject) -> None:
        active = self.active_jobs() if data.draw(mostly) else []
        name = data.draw(st.sampled_from(active or sorted(self.model.jobs)))
        status = data.draw(st.sampled_from(sorted(JOB_COMPLETE)))
        return_code = data.draw(st.sampled_from((0, 0, 1)))
        fresh, same_run = data.draw(mostly), data.draw(mostly)
        self.do("complete_job", name, "foreign", status, return_code, fresh=fresh, same_run=same_run)

    # ---- our nodes -------------------------------------------------------------------------

    @precondition(lambda self: sum(node.is_alive for node in self.model.nodes.values()) < MOST_NODES)
    @rule(data=st.data())
    def register(self, data: st.DataObject) -> None:
        name = f"n{len(self.model.nodes)}"
        self.held[name], self.doomed[name] = [], set()
        self.do("register", name, data.draw(st.sampled_from(SHAPES)))

    @precondition(lambda self: self.our_nodes())
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """Ask for work, and say what of the last has been started."""
        name = data.draw(st.sampled_from(self.our_nodes()))
        fresh = tuple(handle for handle in self.held[name] if handle not in self.begun)
        most = data.draw(st.sampled_from((1, 100)))
        call = SyncCall(tuple(self.held[name]), fresh, free=self._free(name), max_jobs=most)
        self._sync(name, call, is_lost=data.draw(seldom))

    @precondition(lambda self: self.our_nodes())
    @rule(data=st.data())
    def claim_more(self, data: st.DataObject) -> None:
        """The same rule once more: most of what happens should be work."""
        self.claim(data)

    @precondition(lambda self: self.busy_nodes())
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        """Report ends and returns, perhaps with a claim, perhaps late, or twice."""
        name = data.draw(st.sampled_from(self.busy_nodes()))
        known = sorted({*self.held[name], *self.doomed[name]})
        over = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
        back = [handle for handle in over if handle not in self.begun and data.draw(seldom)]
        call = SyncCall(
            held=tuple(handle for handle in self.held[name] if handle not in over),
            ended=tuple(
                (handle, data.draw(st.sampled_from(REPORTS))) for handle in over if handle not in back
            ),
            returned=tuple(back),
            free=self._free(name, over) if data.draw(st.booleans()) else None,
            is_newest=data.draw(mostly),
        )
        self._sync(name, call, is_lost=data.draw(seldom))
        if data.draw(seldom):
            # The same once more: its answer was lost, or the network delivered it twice.
            self._sync(name, call, is_lost=False)

    @precondition(lambda self: self.busy_nodes())
    @rule(data=st.data())
    def report_more(self, data: st.DataObject) -> None:
        self.report(data)

    @precondition(lambda self: self.our_nodes())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Say good-bye; what is not reported with it never finished."""
        if not data.draw(seldom):
            return
        name = data.draw(st.sampled_from(self.our_nodes()))
        some: Any = st.sampled_from(self.held[name]) if self.held[name] else st.nothing()
        ended = tuple((handle, Report()) for handle in data.draw(st.lists(some, unique=True)))
        self._sync(name, SyncCall(ended=ended, leave=True), is_lost=False)
        self.held[name].clear()

    def _sync(self, name: str, call: SyncCall, *, is_lost: bool) -> None:
        answer: SyncAnswer = self.do("sync", name, call)
        self.begun.update(call.started)
        if is_lost or not call.is_newest:
            return
        held = set(self.held[name]) - answer.acknowledged
        self.doomed[name] = (self.doomed[name] | answer.kill) - answer.acknowledged
        self.held[name] = sorted({*held, *answer.new, *answer.again})
        if "end" in answer.orders:
            self.held[name].clear()

    def _free(self, name: str, over: Sequence[str] = ()) -> Ask:
        shape = self.model.nodes[name].shape
        asks = [
            self.model.asks[handle] for handle in {*self.held[name], *self.doomed[name]} if handle not in over
        ]
        return Ask(
            shape.cpus - sum(ask.cpus for ask in asks),
            shape.memory - sum(ask.memory for ask in asks),
            shape.gpus - sum(ask.gpus for ask in asks),
            only_config=shape.only_config,
        )

    @precondition(lambda self: self.our_nodes())
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        if data.draw(seldom):
            self.do("drain", data.draw(st.sampled_from(self.our_nodes())))

    @precondition(lambda self: self.our_nodes())
    @rule(data=st.data())
    def declare_lost(self, data: st.DataObject) -> None:
        if data.draw(seldom):
            self.do("declare_lost", data.draw(st.sampled_from(sorted(self.model.nodes))))

    @rule(seconds=st.sampled_from((1, 20, 61, 100)))
    def sweep(self, seconds: int) -> None:
        self.tick(1000 * seconds)
        self.do("sweep")


def _outcome(world: Any, operation: str, *given: Any, **named: Any) -> Any:
    try:
        return getattr(world, operation)(*given, **named)
    except Refused as refusal:
        return f"refused: {refusal}"


def test_sqlite_agrees_with_the_model(sqlite_database: Database, run: Run) -> None:
    profile = settings.get_profile(PROFILE)
    _check_machine([sqlite_database], run, profile)


def test_both_databases_agree_with_the_model(
    sqlite_database: Database, postgres_database: Database, run: Run
) -> None:
    """The same steps in both give the same answers."""
    profile = settings.get_profile(PROFILE)
    profile = settings(profile, max_examples=max(1, profile.max_examples // 4))
    _check_machine([sqlite_database, postgres_database], run, profile)


def _check_machine(databases: Sequence[Database], run: Run, profile: settings) -> None:
    def make() -> EngineMachine:
        return EngineMachine(databases, run)

    factory: Any = make
    run_state_machine_as_test(factory, settings=profile)
