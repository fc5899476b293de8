"""Whole workflows on a real Slurm: server on the host, runners on nodes that cannot reach its loopback."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lib.repository import ROOT
from tests.lib.waiting import until
from tests.slurm.host import document

pytestmark = pytest.mark.slurm


def test_the_example_runs_from_submission_to_result(host):
    outcome = host.lading("submit-workflow", str(ROOT / "docs/examples/slurm_diamond.yaml"), "--wait")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert (host.folder / "output/slurm_diamond/report.txt").read_text() == "5050\t100\n"
    called = host.called()
    assert (called["sbatch"], called["test-only"], called["srun"]) == (1, 1, 0)
    assert max(called["squeue"], called["sacct"]) <= 1
    until(lambda: host.cluster.queue() == [], 20.0, "the allocation is given back")


def test_one_runner_for_each_node(host):
    jobs: list[dict[str, Any]] = [
        {"name": f"job{number}", "command": "bash -c 'echo $SLURMD_NODENAME; sleep 1'"} for number in range(8)
    ]
    jobs[0]["schedule_compute_nodes"] = {
        "scheduler_id": "slurm_schedulers/nodes", "num_jobs": 1, "start_one_worker_per_node": True,
    }  # fmt: skip
    # Two runners of four CPUs: one alone would need two rounds.
    key = host.submit(document(jobs, nodes=2, cpus=None, ntasks_per_node=4, max_allocations=None))
    assert host.lading("jobs", "wait", "-w", key).returncode == 0
    nodes = host.listed("nodes", "list", "-w", key)
    assert sorted(node["hostname"] for node in nodes) == ["n1", "n2"]
    assert host.called()["srun"] == 1, "one step starts both runners"


def test_what_ran_when_slurm_requeued_runs_again_in_the_same_allocation(host):
    key = host.submit(document([{"name": "long", "command": "sleep 8"}]))
    until(lambda: host.listed("nodes", "list", "-w", key), 30.0, "a runner", pause=0.3)
    until(
        lambda: host.listed("jobs", "list", "-w", key)[0]["status"] == "submitted", 30.0, "it runs", pause=0.3
    )
    (line,) = host.cluster.queue()
    job = line.split()[0]
    host.cluster.run("scontrol", "requeue", job)

    until(
        lambda: len(host.listed("nodes", "list", "-w", key)) == 2,
        120.0,
        "the second copy registers",
        pause=0.5,
    )
    assert host.lading("jobs", "wait", "-w", key).returncode == 0
    attempts = host.listed("jobs", "attempts", "long", "-w", key)
    assert [attempt["cause"] for attempt in attempts] == ["allocation_ended", "exit"]
    assert host.called()["sbatch"] == 1


def test_a_refused_config_is_paused_with_slurms_reason(host):
    key = host.submit(document([{"name": "one", "command": "true"}], partition="nosuch"))
    path = "paused: partition: 'nosuch' is none of this cluster"

    def explained():
        return path in host.lading("workflows", "status", key).stdout

    until(explained, 20.0, path, pause=0.3)
    assert host.cluster.queue() == []


def test_people_ask_for_allocations_by_hand(host):
    waiting = document(
        [{"name": f"job{number}", "command": "true"} for number in range(4)], max_allocations=None
    )
    key = host.submit(waiting)
    added = host.lading(
        "slurm", "add-config", "-w", key, "--name", "by-hand", "--account", "science", "--partition", "nosuch",
        "--cpus", "2", "--walltime", "00:05:00", "--set-up", "echo 'set up'",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert host.lading("slurm", "schedule-nodes", "by-hand", "-w", key).returncode == 0

    def paused():
        (config,) = (
            item for item in host.listed("slurm", "list-configs", "-w", key) if item["name"] == "by-hand"
        )
        return "nosuch" in (config.get("paused_reason") or "")

    until(paused, 20.0, "the config is paused", pause=0.3)
    changed = host.lading("slurm", "modify-config", "by-hand", "-w", key, "--partition", "main")
    assert changed.returncode == 0, changed.stderr
    assert not paused()
    script = host.lading("slurm", "render", "by-hand", "-w", key).stdout
    assert "#SBATCH --partition=main\n" in script
    assert "\necho 'set up'\n" in script
    advice = host.lading("slurm", "recommend-nodes", "by-hand", "-w", key, "--format", "json")
    # Of the five minutes the runner keeps five seconds for the end of the allocation.
    assert "4 ready jobs: 1 node in 1 allocation of 1, 4 rounds: 300 s of wall time less 5 s" in advice.stderr
    assert host.lading("slurm", "schedule-nodes", "by-hand", "-w", key).returncode == 0
    assert host.lading("jobs", "wait", "-w", key).returncode == 0
    probed = host.lading("slurm", "probe", "--from-node", "by-hand", "-w", key)
    assert (probed.returncode, "From a node: yes" in probed.stdout) == (0, True), (
        probed.stdout + probed.stderr
    )
