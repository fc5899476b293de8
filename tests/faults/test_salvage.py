"""Kill everybody who knows that a job has ended. The promise: what is on the disk counts, and runs once."""

from __future__ import annotations

from lading.toolkit.wire.files import SPOOL_FOLDER
from tests.faults.lab import Lab
from tests.lib.waiting import until


def test_an_end_that_only_the_disk_knows(lab: Lab) -> None:
    """A job ends while the server is away; guardian and runner die: its one result is that of its one start."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification([2.0, 6.0]))
    until(lambda: len(lab.history()) == 2, 30, "both jobs have started")
    lab.kill_server()
    lab.await_ends(1)
    until(lab.spooled, 10, "the end is on the disk")
    spooled = lab.spooled()
    lab.kill(*lab.guardians(), *lab.runners())
    lab.start_server()
    lab.await_completion(workflow)
    short, long = sorted(lab.history())
    attempts = lab.attempts(workflow)
    assert {attempt.attempt_id for attempt in attempts[short]} == spooled
    assert [(attempt.number, attempt.cause) for attempt in attempts[short]] == [(1, "exit")]
    assert [attempt.cause for attempt in attempts[long]] == ["infrastructure", "exit"]
    lab.check(workflow, count=2, spooled=spooled, again={long})
    folder = lab.output / SPOOL_FOLDER
    until(lambda: not list(folder.glob("*.jsonl")), 20, "what the server has is removed")
