"""Kill and stop what runs the jobs. The promise: nothing is lost, nothing runs twice by our fault."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.lab import LENGTHS, Lab
from tests.lib.waiting import until


def test_nothing_is_killed(lab: Lab) -> None:
    """What the other tests measure themselves against: without a fault nothing runs twice."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    lab.await_completion(workflow)
    lab.check(workflow, again=())


@pytest.mark.parametrize("victims", [["runner"], ["guardian"], ["guardian", "runner"]], ids="+".join)
def test_killed(lab: Lab, victims: Sequence[str]) -> None:
    """A runner, a guardian, or both, killed twice: only what was running then runs again."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    spooled: set[str] = set()
    unfinished: set[str] = set()
    for ends in (40, 110):
        lab.await_ends(ends)
        pids = {"runner": lab.runners(), "guardian": lab.guardians()}
        assert [len(found) for found in pids.values()] == [1, 1]
        chosen = [pids[victim][0] for victim in victims]
        lab.stop(*chosen)
        unfinished |= lab.open_jobs(workflow)
        lab.kill(*chosen)
        spooled |= lab.spooled()
        until(lambda pids=pids: pids["runner"] != lab.runners(), 30, "the killed runner is gone")  # type: ignore[misc]
        until(lab.runners, 40, "another runner has been launched")
    lab.await_completion(workflow)
    lab.check(workflow, spooled=spooled, again=unfinished)


def test_killed_while_the_server_is_away(lab: Lab) -> None:
    """Ends that were written down and told to nobody count, also when guardian and runner are both dead."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    lab.await_ends(40)
    lab.kill_server()
    lab.await_ends(60)
    until(lambda: len(lab.spooled()) >= 15, 10, "the ends are on the disk")
    lab.kill(*lab.guardians(), *lab.runners())
    spooled = lab.spooled()
    # Nobody may close them before they have been listed.
    lab.kill_submitter()
    lab.start_server()
    unfinished = lab.open_jobs(workflow)
    lab.start_submitter()
    lab.await_completion(workflow)
    lab.check(workflow, spooled=spooled, again=unfinished)


def test_killed_beside_a_living_runner(lab: Lab) -> None:
    """A runner gets the work of a dead pair on its host only when nothing of it runs, whoever is dead."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification([12.0] * 4))
    until(lambda: len(lab.history()) == 4, 30, "all jobs have started")
    doomed = [*lab.guardians(), *lab.runners()]
    lab.start_node(workflow, "beside", cpus=8)
    until(lambda: len(lab.runners()) == 2, 30, "a second runner lives")
    with lab.client() as client:
        until(lambda: client.progress(workflow).active_nodes == 2, 30, "the second node is registered")
    # With it dies whoever would notice the death of the pair; only the lease is left.
    lab.kill_submitter()
    lab.kill(*doomed)
    lab.await_completion(workflow)
    lab.check(workflow, count=4)


def test_stopped_past_its_lease_and_continued(lab: Lab) -> None:
    """A runner that does not run for longer than its lease gives back what it held, and does not go on with it."""
    lab.start_submitter()
    # Some last longer than the lease: they do not end by themselves in time.
    workflow = lab.submit(lab.specification([12.0] * 4 + list(LENGTHS[4:])))
    lab.await_ends(40)
    [runner] = lab.runners()
    lab.stop(runner)
    unfinished = lab.open_jobs(workflow)
    with lab.client() as client:
        until(lambda: client.progress(workflow).active_nodes == 0, 15, "the node's lease has ended")
    assert lab.jobs() == []
    started = len((lab.folder / "journal").read_text().splitlines())
    os.kill(runner, signal.SIGCONT)
    until(lambda: runner not in lab.runners(), 20, "the continued runner has left")
    assert started < len((lab.folder / "journal").read_text().splitlines()) or lab.jobs() == []
    lab.await_completion(workflow)
    lab.check(workflow, again=unfinished)


def test_a_second_runner_of_an_allocation_is_refused(lab: Lab) -> None:
    """Whoever starts a runner's command once more disturbs nothing, with the lock and without."""
    lab.start_submitter()
    workflow = lab.submit(lab.specification())
    lab.await_ends(10)
    [guardian] = lab.guardians()
    command = Path(f"/proc/{guardian}/cmdline").read_text().split("\0")[:-1]
    again = lab.spawn(command[2:], "again")
    assert again.wait(30) == 75, (lab.folder / "again.log").read_text()
    position = command.index("--lock-file")
    del command[position : position + 2]
    position = command.index("--record-file")
    del command[position : position + 2]
    again = lab.spawn(command[2:], "again")
    assert again.wait(30) != 0
    until(lambda: lab.guardians() in ([guardian], []), 10, "the second guardian has left")
    lab.await_completion(workflow)
    lab.check(workflow, again=())
    with lab.client() as client:
        assert len(list(client.list_compute_nodes(workflow))) == 1
