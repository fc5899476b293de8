"""Which jobs a claim takes, in which order, and that nobody else gets them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.api.services import claims
from lading.api.storage.unit_of_work import Database
from lading.toolkit.domain.packing import SortMethod
from tests.engine.conftest import NOW
from tests.engine.driver import Engine
from tests.engine.model import Ask, JobSpec
from tests.engine.operations import ModelEngine
from tests.engine.stored import Run
from tests.engine.worker import Worker, add_graph

MIB, GIB = 2**20, 2**30
LARGE = Ask(cpus=1000, memory=1000 * GIB, gpus=100)
BY_RUNTIME = "gpus_runtime_memory"


def ready(engine: Engine, *specs: JobSpec) -> None:
    add_graph(engine, *specs)
    engine.start()


def test_thirty_jobs_against_the_two_offers_of_the_contract(engine: Engine) -> None:
    ready(engine, *(JobSpec(f"j{number}", Ask(cpus=4, memory=4 * GIB)) for number in range(30)))
    assert len(engine.prepare(Ask(cpus=36, memory=92 * GIB), BY_RUNTIME, 100_000)) == 9
    engine.reset_job_status(failed_only=False)
    engine.initialize(only_uninitialized=False)
    assert len(engine.prepare(Ask(cpus=200, memory=82 * GIB), BY_RUNTIME, 100_000)) == 20


SORTED = {
    "gpus_runtime_memory": ["urgent", "gpu", "long", "large", "plain", "tied"],
    "gpus_memory_runtime": ["urgent", "gpu", "large", "long", "plain", "tied"],
    "none": ["urgent", "plain", "large", "long", "tied", "gpu"],
}


def test_a_changed_priority_moves_a_job_whatever_its_state(engine: Engine) -> None:
    ready(
        engine, JobSpec("first"), JobSpec("held"), JobSpec("last"), JobSpec("behind", blocked_by=("first",))
    )
    engine.put_priority("held", 9)
    assert engine.prepare(LARGE, BY_RUNTIME, 1) == ["held"]
    for name, priority in (("held", 1), ("behind", 4), ("last", 2), ("first", 2), ("last", 3)):
        engine.put_priority(name, priority)
        assert engine.violations() == []
    assert engine.prepare(LARGE, BY_RUNTIME, 100) == ["last", "first"]
    assert engine.violations() == []


@pytest.mark.parametrize(("method", "expected"), SORTED.items())
def test_priority_goes_first_then_the_sort_method_then_storage(
    engine: Engine, method: str, expected: list[str]
) -> None:
    ready(
        engine,
        JobSpec("plain"),
        JobSpec("large", Ask(memory=GIB)),
        JobSpec("long", Ask(memory=2**21, runtime=7200)),
        # Another class of the same rank: only storage order parts them.
        JobSpec("tied", Ask(cpus=2)),
        JobSpec("gpu", Ask(gpus=1)),
        JobSpec("urgent", priority=5),
    )
    assert engine.prepare(LARGE, method, 100) == expected


def test_the_limit_cuts_candidates_not_claims(engine: Engine) -> None:
    ready(
        engine,
        JobSpec("wide 1", Ask(cpus=3, runtime=7200)),
        JobSpec("wide 2", Ask(cpus=3, runtime=7200)),
        JobSpec("narrow"),
    )
    # Both wide ones are looked at, one fits, and the narrow one is not a candidate any more.
    assert engine.prepare(Ask(cpus=4, memory=GIB), BY_RUNTIME, 2) == ["wide 1"]
    assert engine.prepare(Ask(cpus=4, memory=GIB), BY_RUNTIME, 2) == ["wide 2", "narrow"]


def test_what_does_not_fit_is_passed_over_for_what_does(engine: Engine) -> None:
    ready(
        engine,
        JobSpec("a", Ask(cpus=3)),
        JobSpec("b", Ask(cpus=2)),
        JobSpec("c"),
        JobSpec("d", Ask(cpus=5)),
    )
    assert engine.prepare(Ask(cpus=4, memory=GIB), BY_RUNTIME, 100) == ["a", "c"]


def test_limits_of_time_and_nodes_keep_jobs_out(engine: Engine) -> None:
    ready(
        engine,
        JobSpec("long", Ask(runtime=7200)),
        JobSpec("wide", Ask(nodes=2)),
        JobSpec("short", Ask(runtime=600)),
    )
    assert engine.prepare(LARGE, BY_RUNTIME, 100, 3600.0) == ["short"]
    assert engine.prepare(LARGE, BY_RUNTIME, 100) == ["long"]


def test_jobs_of_a_config_go_to_its_nodes_only(engine: Engine) -> None:
    ready(engine, JobSpec("bound", Ask(only_config=True)), JobSpec("free"), JobSpec("free too"))
    assert engine.prepare(Ask(cpus=1, memory=GIB), BY_RUNTIME, 100) == ["free"]
    ours = Ask(cpus=8, memory=GIB, only_config=True)
    assert sorted(engine.prepare(ours, BY_RUNTIME, 100)) == ["bound", "free too"]


def test_the_next_jobs_come_in_storage_order_whatever_they_ask_for(engine: Engine) -> None:
    ready(
        engine,
        JobSpec("huge", Ask(cpus=10_000)),
        JobSpec("blocked", blocked_by=("huge",)),
        JobSpec("urgent", priority=9),
        JobSpec("last"),
    )
    assert engine.prepare_next(2) == ["huge", "urgent"]
    assert engine.prepare_next(2) == ["last"]
    assert engine.prepare_next(2) == []


def test_a_scheduled_job_is_claimed_like_a_ready_one(engine: Engine) -> None:
    ready(engine, JobSpec("asks", schedules=True), JobSpec("plain"))
    assert engine.schedule() == 1
    assert engine.look().statuses == {"asks": "scheduled", "plain": "ready"}
    assert engine.schedule() == 0
    assert engine.prepare(LARGE, BY_RUNTIME, 100) == ["asks", "plain"]


def test_a_canceled_workflow_hands_out_nothing_until_its_status_is_reset(engine: Engine) -> None:
    ready(engine, JobSpec("j", schedules=True))
    worker = Worker(engine)
    engine.cancel()
    assert worker.claim() == []
    assert engine.prepare(LARGE, BY_RUNTIME, 100) == engine.prepare_next(1) == []
    assert engine.schedule() == 0
    engine.reset_status()
    assert worker.claim() == ["j"]


asks = st.builds(
    Ask,
    cpus=st.integers(1, 4),
    memory=st.integers(0, 5).map(lambda number: number * MIB),
    gpus=st.integers(0, 2),
    runtime=st.sampled_from((60.0, 120.0)),
)
offers = st.builds(
    Ask,
    cpus=st.integers(1, 12),
    memory=st.integers(1, 12).map(lambda number: number * MIB),
    gpus=st.integers(0, 3),
)
some_jobs = st.lists(st.tuples(asks, st.integers(0, 1)), min_size=1, max_size=12)


@given(
    some_jobs, offers, st.sampled_from(SortMethod), st.sampled_from((1, 4, 100)), st.sampled_from((2, 256))
)
@settings(settings.get_profile("engine"), max_examples=100)
def test_a_claim_by_classes_is_a_walk_over_all_jobs(
    sqlite_database: Database,
    run: Run,
    jobs: list[tuple[Ask, int]],
    offer: Ask,
    method: SortMethod,
    limit: int,
    page: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # A page that ends in the middle of a class must change nothing.
        patch.setattr(claims, "PAGE", page)
        _compare_claims((ModelEngine(NOW), Engine(sqlite_database, run, NOW)), jobs, offer, method, limit)


def _compare_claims(
    worlds: tuple[ModelEngine, Engine],
    jobs: list[tuple[Ask, int]],
    offer: Ask,
    method: SortMethod,
    limit: int,
) -> None:
    taken = []
    for world in worlds:
        world.add_jobs(
            [JobSpec(f"j{number}", ask, priority=priority) for number, (ask, priority) in enumerate(jobs)]
        )
        world.start()
        # Until nothing more fits: what one claim passed over, a later one may take.
        taken.append([world.prepare(offer, method.value, limit) for _ in range(3)])
    worlds[1].remove()
    assert taken[0] == taken[1]


# ---- answers that got lost -------------------------------------------------------------------


def test_a_claim_whose_answer_was_lost_is_handed_over_again(engine: Engine) -> None:
    ready(engine, JobSpec("j"), JobSpec("k"))
    worker = Worker(engine)
    worker.claim(1)
    worker.held.clear()
    answer = worker.sync(free=worker.shape)
    # First what it has already; new work only when both sides agree again.
    assert answer.new == []
    assert answer.again == {worker.handles["j"]}
    assert worker.claim() == ["k"]


def test_an_older_request_claims_nothing(engine: Engine) -> None:
    ready(engine, JobSpec("j"))
    worker = Worker(engine)
    assert worker.sync(free=worker.shape, is_newest=False).new == []
    assert worker.claim() == ["j"]


def test_no_job_is_handed_out_twice(engine: Engine) -> None:
    ready(engine, *(JobSpec(f"j{number}") for number in range(40)))
    workers = [Worker(engine, f"n{number}", Ask(cpus=3, memory=GIB)) for number in range(8)]
    handed = [job for worker in workers for job in worker.claim()]
    handed += engine.prepare(Ask(cpus=7, memory=GIB), BY_RUNTIME, 100) + engine.prepare_next(5)
    assert len(handed) == len(set(handed)) == 36


def test_a_draining_node_claims_no_more_and_is_told_so(engine: Engine) -> None:
    ready(engine, JobSpec("j"), JobSpec("k"))
    worker = Worker(engine)
    assert worker.claim(1) == ["j"]
    engine.drain("n")
    answer = worker.sync(free=worker.shape)
    assert answer.new == []
    assert answer.orders == {"drain"}
    assert worker.end("j").acknowledged == {worker.handles["j"]}
