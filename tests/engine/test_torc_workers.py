"""What torc's own clients may do while jobs run: checked first, then stored, or not at all."""

from __future__ import annotations

import pytest

from lading.toolkit.domain.states import JobStatus
from tests.engine.driver import Engine
from tests.engine.model import JobSpec, Refused
from tests.engine.worker import Worker, add_graph

DONE, CANCELED = JobStatus.DONE, JobStatus.CANCELED


@pytest.fixture
def started(engine: Engine) -> Engine:
    """`j` runs on a foreign node, `behind` waits for it."""
    add_graph(engine, JobSpec("j"), JobSpec("behind", blocked_by=("j",)))
    engine.add_foreign_node("foreign")
    engine.start()
    assert engine.prepare_next(5) == ["j"]
    engine.start_job("j", "foreign", fresh=True, same_run=True)
    return engine


@pytest.mark.parametrize(
    ("fresh", "same_run", "error"),
    [(False, True, "Conflict"), (True, False, "BadInput"), (False, False, "Conflict")],
)
def test_nothing_is_stored_of_a_start_or_a_completion_that_is_refused(
    engine: Engine, *, fresh: bool, same_run: bool, error: str
) -> None:
    add_graph(engine, JobSpec("j"))
    engine.add_foreign_node("foreign")
    engine.start()
    engine.prepare_next(1)
    before = engine.look()
    with pytest.raises(Refused, match=error):
        engine.start_job("j", "foreign", fresh=fresh, same_run=same_run)
    with pytest.raises(Refused, match=error):
        engine.complete_job("j", "foreign", DONE, 0, fresh=fresh, same_run=same_run)
    assert engine.look() == before


def test_only_a_claimed_job_is_started(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.add_foreign_node("foreign")
    engine.start()
    with pytest.raises(Refused, match="BadInput"):
        engine.start_job("j", "foreign", fresh=True, same_run=True)


def test_a_completion_is_the_last_word_and_unblocks(started: Engine) -> None:
    started.complete_job("j", "foreign", DONE, 0, fresh=True, same_run=True)
    picture = started.look()
    assert picture.statuses == {"j": "done", "behind": "ready"}
    assert picture.results == {("j", 1): ("done", 0)}
    with pytest.raises(Refused, match="Conflict"):
        started.complete_job("j", "foreign", DONE, 1, fresh=True, same_run=True)
    assert started.look() == picture


def test_a_job_canceled_under_its_workers_hands_is_still_reported(started: Engine) -> None:
    started.cancel()
    started.complete_job("j", "foreign", DONE, 0, fresh=False, same_run=True)
    picture = started.look()
    assert picture.statuses == {"j": "canceled", "behind": "blocked"}
    assert picture.results == {("j", 1): ("canceled", 0)}


def test_a_job_that_was_never_claimed_may_be_completed(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"))
    engine.add_foreign_node("foreign")
    engine.start()
    engine.complete_job("j", "foreign", DONE, 0, fresh=True, same_run=True)
    assert engine.look().statuses == {"j": "done"}


def test_a_job_declared_done_gets_its_result_once_and_counts_once(engine: Engine) -> None:
    add_graph(engine, JobSpec("j"), JobSpec("behind", blocked_by=("j",)))
    engine.add_foreign_node("foreign")
    engine.start()
    engine.put_status("j", DONE, fresh=True)
    assert engine.look().statuses == {"j": "done", "behind": "blocked"}
    engine.complete_job("j", "foreign", DONE, 0, fresh=True, same_run=True)
    assert engine.look().statuses == {"j": "done", "behind": "ready"}


def test_nobody_starts_or_ends_the_attempt_of_another_node(engine: Engine) -> None:
    """Else the job could be claimed again while its process lives."""
    add_graph(engine, JobSpec("j"))
    engine.add_foreign_node("foreign")
    engine.start()
    worker = Worker(engine)
    worker.claim()
    with pytest.raises(Refused, match="Conflict"):
        engine.start_job("j", "foreign", fresh=True, same_run=True)
    engine.complete_job("j", "foreign", DONE, 0, fresh=True, same_run=True)
    engine.retry_job("j")
    assert engine.look().opened == {"j": ("revoking", 1, 1)}
    assert engine.prepare_next(1) == []
    assert worker.sync().kill == {worker.handles["j"]}
    worker.end("j")
    assert engine.prepare_next(1) == ["j"]


def test_a_status_is_managed_within_its_bounds(started: Engine) -> None:
    for status, fresh, same_run in (
        (DONE, True, True),
        (JobStatus.READY, False, True),
        (JobStatus.READY, True, False),
    ):
        with pytest.raises(Refused, match="BadInput"):
            started.manage_status("j", status, fresh=fresh, same_run=same_run)
    # The status that it has already: no question about the run is asked.
    started.manage_status("j", JobStatus.SUBMITTED, fresh=True, same_run=False)
    started.complete_job("j", "foreign", DONE, 0, fresh=True, same_run=True)
    started.manage_status("j", JobStatus.UNINITIALIZED, fresh=True, same_run=True)
    assert started.look().statuses == {"j": "uninitialized", "behind": "uninitialized"}
