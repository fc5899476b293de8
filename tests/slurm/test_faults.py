"""Kill, stop, cut and preempt what carries 200 jobs on a real Slurm; what was promised holds.

Every run must end with one accepted result for each job and no two attempts of a job alive at once; and
what was lost must be put down to what did it, for each cause has a budget of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.waiting import until
from tests.slurm.conftest import Cluster, running_cluster
from tests.slurm.fault_lab import LEASE_SECONDS, SlurmLab, daemon_pid, mend, plug, running_slurm_lab

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Nodes with room for 64 sleeping jobs each, and one more than there are allocations."""
    with running_cluster(cpus="64", nodes="3") as made:
        yield made


@pytest.fixture
def lab(cluster: Cluster, tmp_path: Path) -> Iterator[SlurmLab]:
    with running_slurm_lab(cluster, tmp_path / "lab") as made:
        yield made


def test_a_dead_slurmd_costs_nothing_while_its_runner_lives(lab: SlurmLab) -> None:
    workflow = lab.begin()
    os.kill(daemon_pid(lab.cluster, "slurmd.n1"), signal.SIGKILL)
    lab.finish(workflow, lost=None)


def test_a_node_that_slurm_gives_up_costs_nothing_while_its_runner_lives(lab: SlurmLab) -> None:
    """Slurm starts the allocation again on the third node; the first copy ends what it runs."""
    workflow = lab.begin(most_jobs=12)
    os.kill(daemon_pid(lab.cluster, "slurmd.n1"), signal.SIGKILL)
    lab.cluster.run("scontrol", "update", "nodename=n1", "state=down", "reason=test")
    until(lambda: lab.node_states(workflow).total() == 3, 120.0, "a second copy is there", pause=0.5)
    lab.finish(workflow, lost=None)


def test_a_node_that_is_cut_off_is_lost_when_its_lease_ends(lab: SlurmLab) -> None:
    workflow = lab.begin()
    plug(lab.cluster, "n1", "down")
    until(lambda: lab.node_states(workflow)["lost"], 60.0, "the node is given up", pause=0.3)
    # What ran there ends before its jobs are given to others: the check of overlaps proves it.
    plug(lab.cluster, "n1", "up")
    lab.finish(workflow, lost="node_lost")


def test_requeue(lab: SlurmLab) -> None:
    workflow = lab.begin()
    lab.cluster.run("scontrol", "requeue", lab.allocations()["n1"])
    lab.finish(workflow, lost="allocation_ended")


def test_a_killed_runner_is_reported_by_its_guardian(lab: SlurmLab) -> None:
    workflow = lab.begin()
    os.kill(lab.runner_on("n1"), signal.SIGKILL)
    lab.finish(workflow, lost="infrastructure")


def test_a_killed_guardian_is_reported_by_its_runner(lab: SlurmLab) -> None:
    workflow = lab.begin()
    os.kill(lab.guardian_on("n1"), signal.SIGKILL)
    lab.finish(workflow, lost="infrastructure")


def test_a_killed_server_costs_nothing(lab: SlurmLab) -> None:
    workflow = lab.begin()
    lab.kill_server()
    lab.start_server()
    lab.finish(workflow, lost=None)


def test_a_killed_submitter_costs_nothing(lab: SlurmLab) -> None:
    workflow = lab.begin()
    killed = lab.submitter_pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: lab.submitter_pid() not in {None, killed}, 60.0, "it is started again", pause=0.1)
    lab.finish(workflow, lost=None)
    assert lab.num_allocations(workflow) == 2, "what runs is known again"


def test_a_controller_that_is_away_for_two_minutes_costs_nothing(lab: SlurmLab) -> None:
    workflow = lab.begin()
    stopped = time.monotonic()
    os.kill(daemon_pid(lab.cluster, "slurmctld"), signal.SIGKILL)
    lab.await_completion(workflow, 240.0)
    until(lambda: time.monotonic() - stopped > 120.0, 130.0, "two minutes are over", pause=1.0)
    mend(lab.cluster)
    lab.finish(workflow, lost=None)


# ---- allocations that Slurm ends -------------------------------------------------------------

LINGERS = "60"
"""Seconds that jobs take over their end when they are asked to: longer than anybody waits."""


def test_scancel(lab: SlurmLab) -> None:
    """Jobs that do not end when they are told to are ended, and put down to the allocation."""
    workflow = lab.begin(linger=LINGERS)
    lab.cluster.run("scancel", lab.allocations()["n1"])
    lab.finish(workflow, lost="allocation_ended")


def test_the_end_of_the_walltime(lab: SlurmLab) -> None:
    # Slurm looks at time limits each half minute: the run has to last longer.
    workflow = lab.begin(linger=LINGERS, most_jobs=12)
    lab.cluster.run("scontrol", "update", f"jobid={lab.allocations()['n1']}", "EndTime=now")
    lab.finish(workflow, lost="allocation_ended")


def test_preemption(lab: SlurmLab) -> None:
    """What a more urgent job displaces runs again, and costs the budget of preemptions only."""
    workflow = lab.begin(linger=LINGERS)
    displaced = lab.allocations()["n1"]
    urgent = ["--partition=urgent", "--nodelist=n1", "--exclusive", "--account=science", "--output=/dev/null"]
    lab.cluster.run("sbatch", *urgent, "--wrap=sleep 5")
    until(lambda: lab.allocations().get("n1") != displaced, 60.0, "it is displaced", pause=0.3)
    lab.await_completion(workflow, 240.0)
    # The runner saw TERM only; that it was a preemption the accounting tells later.
    until(lambda: lab.causes(workflow)["preempted"], 90.0, "the cause is known", pause=0.5)
    lab.finish(workflow, lost="preempted")


# ---- suspension ------------------------------------------------------------------------------


def test_a_suspended_allocation_keeps_its_jobs(lab: SlurmLab) -> None:
    """Stopped for three leases: nobody else runs them, and they go on where they stood."""
    workflow = lab.begin()
    job = lab.allocations()["n1"]
    lab.cluster.run("scontrol", "suspend", job)
    stopped = time.monotonic()
    until(lambda: lab.is_stopped("n1"), 30.0, "its runner is stopped", pause=0.1)
    until(lambda: time.monotonic() - stopped > 3 * LEASE_SECONDS, 60.0, "three leases are over", pause=1.0)
    lab.cluster.run("scontrol", "resume", job)
    lab.finish(workflow, lost=None)


def test_a_suspended_allocation_gives_its_jobs_up_if_so_asked(lab: SlurmLab) -> None:
    workflow = lab.begin(config={"on_suspend": "requeue"})
    job = lab.allocations()["n1"]
    lab.cluster.run("scontrol", "suspend", job)
    lab.await_completion(workflow, 240.0)
    lab.finish(workflow, lost="allocation_ended")
