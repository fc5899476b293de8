"""What dead nodes had written down, told with the proof of their death or before it."""

from __future__ import annotations

import pytest

from lading.api.services import planning, submission_reports, submissions
from lading.toolkit.wire.extensions import Ended
from lading.toolkit.wire.submissions import AllocationReport, LaunchReport
from tests.engine.driver import Engine
from tests.engine.model import JobSpec, Report
from tests.engine.worker import Worker, add_graph

JOBS = ("ended", "failed", "running")


@pytest.fixture
def allocation(engine: Engine) -> str:
    """Key of an allocation whose node will run everything."""
    add_graph(engine, *map(JobSpec, JOBS), JobSpec("behind", blocked_by=("ended",)))
    engine.start()
    engine.write(planning.plan_launches(int(engine.workflow), ["local"], engine.now))
    launches, _ = engine.write(submissions.open_work(["local"], engine.now))
    [planned] = [planned for planned in launches if planned.workflow == engine.workflow]
    for report in (
        LaunchReport(tag=planned.tag, kind="begun"),
        LaunchReport(tag=planned.tag, kind="submitted", external_ids=["pid 1"]),
    ):
        engine.write(submission_reports.report_launch(report, engine.now))
    [key] = planned.allocations
    return key


def tell(engine: Engine, allocation: str, *ended: Ended, is_dead: bool = True) -> None:
    report = AllocationReport(
        allocation=allocation,
        state="ended" if is_dead else "active",
        proof_of_death=is_dead,
        cause="infrastructure" if is_dead else None,
        ended=list(ended),
    )
    # An answer may be lost: the second time it changes nothing.
    for _ in range(2):
        engine.write(submission_reports.report_allocation(report, engine.now))


def end_of(engine: Engine, job: str, return_code: int = 0) -> Ended:
    """Return what the node wrote down of the only open attempt of a job."""
    [row] = engine.query(
        "SELECT a.attempt_id FROM attempt a JOIN job j ON j.id = a.job_id "
        "WHERE j.workflow_id = :workflow AND j.name = :name AND a.state <> 'ended'",
        name=job,
    )
    return Ended(attempt_id=row["attempt_id"], cause="exit", return_code=return_code, exec_seconds=1.0)


def test_what_was_written_down_is_the_result_and_the_rest_runs_again(engine: Engine, allocation: str) -> None:
    worker = Worker(engine, allocation=allocation)
    assert sorted(worker.claim()) == sorted(JOBS)
    worker.start("ended", "running")
    stranger = Ended(attempt_id="of nobody", cause="exit", return_code=0, exec_seconds=1.0)
    tell(engine, allocation, end_of(engine, "ended"), end_of(engine, "failed", 3), stranger)
    picture = engine.look()
    assert picture.statuses == {"ended": "done", "failed": "done", "running": "ready", "behind": "ready"}
    assert picture.results == {("ended", 1): ("done", 0), ("failed", 1): ("done", 3)}
    assert picture.causes == {
        "ended": [(1, 1, "exit")], "failed": [(1, 1, "exit")], "running": [(1, 1, "infrastructure")],
    }  # fmt: skip
    assert picture.nodes == {"n": "lost"}
    other = Worker(engine, "other")
    assert sorted(other.claim()) == ["behind", "running"]
    assert other.end("behind", "running").is_complete


def test_a_large_spool_is_stored_piece_by_piece_and_the_node_is_lost_with_the_last(
    engine: Engine, allocation: str
) -> None:
    worker = Worker(engine, allocation=allocation)
    worker.claim()
    ends = [end_of(engine, "ended"), end_of(engine, "failed")]
    tell(engine, allocation, ends[0], is_dead=False)
    picture = engine.look()
    assert picture.nodes == {"n": "active"}
    assert picture.results == {("ended", 1): ("done", 0)}
    assert picture.statuses["running"] == "submitted_pending"
    tell(engine, allocation, ends[1])
    picture = engine.look()
    assert picture.nodes == {"n": "lost"}
    assert sorted(picture.results) == [("ended", 1), ("failed", 1)]
    assert picture.statuses["running"] == "ready"


def test_another_nodes_attempts_are_not_ended_by_it(engine: Engine, allocation: str) -> None:
    Worker(engine, allocation=allocation).claim(1)
    other = Worker(engine, "other")
    taken = other.claim()
    tell(engine, allocation, *(end_of(engine, job, 9) for job in taken))
    assert engine.look().results == {}
    other.end(*taken, report=Report())
    assert {code for _, code in engine.look().results.values()} == {0}
