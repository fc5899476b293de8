"""From stored jobs to a graph that can run: the rules of initialize_jobs, and of what comes later."""

from __future__ import annotations

import pytest

from lading.toolkit.domain.states import JobStatus
from tests.engine.driver import Engine
from tests.engine.model import Ask, JobSpec, Refused
from tests.engine.worker import FAILED, Worker, add_graph

CHAIN = (JobSpec("a"), JobSpec("b", blocked_by=("a",)), JobSpec("c", blocked_by=("b",)))


def test_files_make_edges_once(engine: Engine) -> None:
    add_graph(
        engine,
        JobSpec("writer", produces=("f",)),
        JobSpec("reader", needs=("f",)),
        JobSpec("both", needs=("f",), produces=("g",)),
        JobSpec("last", needs=("g",)),
    )
    for _ in range(2):
        engine.initialize(only_uninitialized=False)
        assert engine.look().statuses == {
            "writer": "ready", "reader": "blocked", "both": "blocked", "last": "blocked",
        }  # fmt: skip
    [row] = engine.query("SELECT count(*) AS n FROM edge WHERE workflow_id = :workflow AND name = 'blocks'")
    assert row["n"] == 3


def test_a_circle_through_files_is_refused_and_nothing_is_stored(engine: Engine) -> None:
    add_graph(
        engine,
        JobSpec("a", produces=("f",), needs=("g",)),
        JobSpec("b", produces=("g",), needs=("f",)),
    )
    with pytest.raises(Refused, match="BadInput"):
        engine.initialize(only_uninitialized=False)
    assert set(engine.look().statuses.values()) == {"uninitialized"}


def test_at_the_start_only_a_done_blocker_unblocks(engine: Engine) -> None:
    add_graph(
        engine,
        *(JobSpec(name) for name in ("done", "canceled", "terminated", "disabled")),
        *(
            JobSpec(f"after {name}", blocked_by=(name,))
            for name in ("done", "canceled", "terminated", "disabled")
        ),
    )
    for status in (JobStatus.DONE, JobStatus.CANCELED, JobStatus.TERMINATED, JobStatus.DISABLED):
        engine.put_status(status.value, status, fresh=True)
    engine.initialize(only_uninitialized=False)
    assert engine.look().statuses == {
        "done": "done", "after done": "ready",
        # A canceled job stays so; a terminated one is tried again.
        "canceled": "canceled", "after canceled": "blocked",
        "terminated": "ready", "after terminated": "blocked",
        "disabled": "disabled", "after disabled": "blocked",
    }  # fmt: skip


def test_what_is_behind_an_uninitialized_job_is_looked_at_again(engine: Engine) -> None:
    add_graph(engine, *CHAIN)
    for name, status in (("b", JobStatus.DISABLED), ("c", JobStatus.DONE)):
        engine.put_status(name, status, fresh=True)
    engine.initialize(only_uninitialized=True)
    assert engine.look().statuses == {"a": "ready", "b": "blocked", "c": "blocked"}


def test_only_uninitialized_leaves_all_others_alone(engine: Engine) -> None:
    add_graph(engine, *(JobSpec(status.value) for status in JobStatus), JobSpec("new"))
    for status in JobStatus:
        engine.put_status(status.value, status, fresh=True)
    engine.initialize(only_uninitialized=True)
    expected = {status.value: status.value for status in JobStatus}
    expected |= {"uninitialized": "ready", "blocked": "ready", "new": "ready"}
    assert engine.look().statuses == expected


def test_running_jobs_are_left_alone(engine: Engine) -> None:
    add_graph(engine, *CHAIN)
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.start("a")
    engine.initialize(only_uninitialized=False)
    assert engine.look().statuses == {"a": "submitted", "b": "blocked", "c": "blocked"}
    assert worker.claim() == []
    with pytest.raises(Refused, match="BadInput"):
        engine.start()


def test_a_done_job_behind_a_reset_one_runs_again(engine: Engine) -> None:
    add_graph(engine, *CHAIN)
    engine.start()
    worker = Worker(engine)
    for name in ("a", "b", "c"):
        assert worker.claim() == [name]
        worker.end(name)
    engine.put_status("a", JobStatus.READY, fresh=True)
    engine.initialize(only_uninitialized=False)
    assert engine.look().statuses == {"a": "ready", "b": "blocked", "c": "blocked"}


def test_failed_jobs_and_what_is_behind_them_are_reset(engine: Engine) -> None:
    add_graph(engine, *CHAIN, JobSpec("fine"))
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.end("fine")
    worker.end("a", report=FAILED)
    engine.reset_job_status(failed_only=True)
    assert engine.look().statuses == {
        "a": "uninitialized", "b": "uninitialized", "c": "uninitialized", "fine": "done",
    }  # fmt: skip


def test_a_job_without_requirements_gets_the_defaults(engine: Engine) -> None:
    """One that asks for no CPU at all too: it would be handed out without bound."""
    add_graph(engine, JobSpec("plain"), JobSpec("nothing", Ask(cpus=0, memory=2**30)))
    engine.initialize(only_uninitialized=False)
    rows = engine.query(
        "SELECT num_cpus, memory_bytes, runtime_seconds FROM job WHERE workflow_id = :workflow"
    )
    assert [tuple(row[name] for name in row.keys()) for row in rows] == [(1, 2**20, 60.0)] * 2  # noqa: SIM118


def test_a_job_given_as_ready_is_claimed_after_the_next_initialization(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.put_status("j", JobStatus.READY, fresh=True)
    engine.initialize(only_uninitialized=True)
    assert Worker(engine).claim() == ["j"]


# ---- edges that come and go --------------------------------------------------------------------


def test_the_last_edge_removed_makes_a_job_ready(engine: Engine) -> None:
    add_graph(engine, JobSpec("a"), JobSpec("b"), JobSpec("c", blocked_by=("a", "b")))
    engine.start()
    engine.remove_edge("a", "c")
    assert engine.look().statuses["c"] == "blocked"
    engine.remove_edge("b", "c")
    assert engine.look().statuses["c"] == "ready"


def test_a_deleted_blocker_holds_up_nobody(engine: Engine) -> None:
    add_graph(engine, *CHAIN)
    engine.start()
    worker = Worker(engine)
    worker.claim()
    worker.start("a")
    engine.delete_job("a")
    assert engine.look().statuses == {"b": "ready", "c": "blocked"}
    # The process of the deleted job is still there, and must go.
    assert worker.sync().kill == {worker.handles["a"]}
    assert worker.end("a").acknowledged == {worker.handles["a"]}
