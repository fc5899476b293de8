"""How many allocations a real cluster is asked for, what leaves its queue again, and what people are told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lading.toolkit.domain.buffers import RESERVED_BYTES
from lading.toolkit.domain.demand import Shape
from lading.toolkit.errors import LadingError
from tests.lib.waiting import until
from tests.slurm.conftest import Cluster
from tests.slurm.lab import make_backend
from tests.slurm.test_workflows import COMMAND, Host, document

pytestmark = pytest.mark.slurm

PATIENCE = 150.0
"""Slurm is asked each 30 s; what is too many has to be so for a minute."""


def test_what_the_config_leaves_open_is_that_of_the_smallest_node(on_a):
    listed = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%c %m"], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    cpus, memory = min(map(int, listed[::2])), min(map(int, listed[1::2])) * 2**20
    backend = make_backend()
    assert backend.shape({"walltime": "01:00:00", "nodes": 2}) == Shape(
        cpus, memory - RESERVED_BYTES, num_nodes=2, time_limit_seconds=3600
    )
    stated = {"cpus": 2, "ntasks_per_node": 2, "mem": "1G", "gres": "gpu:a100:2"}
    assert backend.shape(stated) == Shape(4, 2**30 - RESERVED_BYTES, 2)


def test_free_options_leave_the_size_open_and_an_unknown_partition_is_an_error(on_a):
    assert make_backend().shape({"extra": "--cpus-per-task=3"}) is None
    with pytest.raises(LadingError):
        make_backend().shape({"partition": "nosuch"})


@contextmanager
def serving(cluster: Cluster, folder: Path) -> Iterator[Host]:
    made = Host(cluster, folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def host(on_a, tmp_path):
    with serving(on_a, tmp_path) as made:
        yield made


@pytest.fixture
def full(on_a) -> Iterator[list[str]]:
    """Fill the nodes; name the job that does."""
    command = ["sbatch", "--parsable", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 900"]
    job = on_a.run(*command).strip()
    until(
        lambda: f"{job} RUNNING" in on_a.run("squeue", "-h", "-o", "%i %T"),
        60.0,
        "the nodes are full",
        pause=0.2,
    )
    yield [job]
    on_a.run("scancel", "--quiet", job)


def allocations(host: Host, key: str) -> list[tuple[str, str]]:
    rows = host.listed("allocations", "list", "-w", key)
    assert all(row["scheduler_config_name"] == "nodes" for row in rows)
    return [(row["status"], row.get("reason") or "") for row in rows]


def waiting(cluster: Cluster, *beside: str) -> list[str]:
    """List what is in Slurm's queue beside jobs of others."""
    return [line for line in cluster.queue() if line.split()[0] not in beside]


def planning(host: Host, key: str):
    status = host.lading("workflows", "status", key, "--format", "json")
    assert status.returncode == 0, status.stderr
    return status.stdout


def test_jobs_of_a_stated_time_share_an_allocation_one_after_the_other(host):
    jobs = [{"name": f"job{number}", "command": "true"} for number in range(40)]
    made = document(jobs, max_allocations=9)
    # Four of two minutes fit into ten minutes beside the buffer, on eight CPUs.
    made["resource_requirements"][0]["runtime"] = "PT2M"
    key = host.submit(made)
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert len(allocations(host, key)) == 2
    assert host.called()["sbatch"] == 1


ENDLESS = {"extra": "--time=3-00:00:00"}
"""Slurm takes it and lets it wait for ever: no more than a day is allowed."""


def test_what_slurm_never_starts_is_canceled_and_pauses_the_config(host):
    key = host.submit(document([{"name": "one", "command": "true"}], **ENDLESS))

    def is_taken_back() -> bool:
        return [status for status, _ in allocations(host, key)] == ["complete"]

    until(is_taken_back, PATIENCE, "the allocation is taken back", pause=1.0)
    assert waiting(host.cluster) == []
    ((_, reason),) = allocations(host, key)
    assert "taken back from the queue" in reason
    assert "PartitionTimeLimit" in reason
    for said in (host.lading("workflows", "status", key), host.lading("explain", "one", "-w", key)):
        assert "PartitionTimeLimit" in said.stdout
        assert "paused" in said.stdout
    assert host.called()["sbatch"] == 1
    # A person may try again; as nothing has changed, it ends as before.
    assert host.lading("slurm", "modify-config", "nodes", "-w", key, "--extra", "--time=5").returncode == 0
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_what_slurm_never_starts_is_kept_if_the_config_says_so(host):
    key = host.submit(document([{"name": "one", "command": "true"}], on_cannot_start="keep", **ENDLESS))

    def is_told() -> bool:
        return any("PartitionTimeLimit" in reason for _, reason in allocations(host, key))

    until(is_told, PATIENCE, "Slurm's reason is shown", pause=1.0)
    (line,) = waiting(host.cluster)
    assert "PENDING PartitionTimeLimit" in line
    explained = host.lading("explain", "one", "-w", key).stdout
    assert "- nodes could run it: 1 allocation waiting to start: waits in Slurm's queue" in explained
    assert "PartitionTimeLimit" in explained
    # Nobody needs it any more.
    assert host.lading("workflows", "cancel", key).returncode == 0
    until(lambda: not waiting(host.cluster), PATIENCE, "it has left the queue", pause=0.5)


def test_what_waits_for_nothing_is_taken_back_while_the_workflow_goes_on(host, full):
    jobs = [{"name": f"job{number}", "command": "true"} for number in range(15)]
    jobs.append({"name": "long", "command": f"bash -c 'until [ -e {host.folder}/go ]; do sleep 0.2; done'"})
    made = document(jobs, max_allocations=4)
    made["resource_requirements"].append({"name": "long", "num_cpus": 1, "memory": "10m", "runtime": "PT9M"})
    made["jobs"][-1]["resource_requirements"] = "long"
    key = host.submit(made)
    until(lambda: len(waiting(host.cluster, *full)) == 2, 60.0, "two allocations wait", pause=0.3)
    status = planning(host, key)
    assert '"wanted": 2' in status
    # A runner that a person starts takes all jobs; the last one goes on for long.
    with (host.folder / "node.log").open("wb") as log:
        node = subprocess.Popen(
            [COMMAND, "node", "run", "-w", key], cwd=host.folder, env=host.environment, stdout=log, stderr=log
        )
    try:
        until(lambda: not waiting(host.cluster, *full), PATIENCE, "both have left the queue", pause=0.5)
        until(
            lambda: allocations(host, key) == [("complete", "taken back from the queue: no job needs it any more")] * 2,
            PATIENCE,
            "the reason is shown",
            pause=0.5,
        )  # fmt: skip
        (host.folder / "go").touch()
        outcome = host.lading("jobs", "wait", "-w", key)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        assert host.called()["sbatch"] == 1, "none was asked for again"
    finally:
        node.terminate()
        node.wait(30)


def test_after_allocations_of_no_use_the_next_comes_later_and_says_when(host):
    key = host.submit(document([{"name": "one", "command": "true"}], set_up=["exit 3"]))

    def is_told() -> bool:
        return (
            "ended without running a job: Slurm ended it: FAILED"
            in host.lading("workflows", "status", key).stdout
        )

    until(is_told, PATIENCE, "the setback is shown", pause=0.5)
    assert "the next one is asked for at 20" in host.lading("explain", "one", "-w", key).stdout
    # It does not give up: with the cause gone it goes on by itself.
    assert host.lading("slurm", "modify-config", "nodes", "-w", key, "--set-up", "true").returncode == 0
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_a_limit_that_lets_wait_for_ever_pauses_where_limits_are_enforced(on_b, tmp_path):
    """Of a QOS: Slurm takes the job, and one alone breaks the limit."""
    on_b.run("sacctmgr", "-i", "add", "qos", "tight", "MaxWall=00:02:00")
    on_b.run("sacctmgr", "-i", "modify", "account", "science", "set", "qos+=tight")
    with serving(on_b, tmp_path) as host:
        key = host.submit(document([{"name": "one", "command": "true"}], qos="tight"))

        def is_paused() -> bool:
            return "paused" in host.lading("workflows", "status", key).stdout

        until(is_paused, PATIENCE, "the config is paused", pause=0.5)
        until(lambda: not waiting(on_b), PATIENCE, "nothing is left pending", pause=0.5)
        assert "QOSMaxWallDurationPerJobLimit" in host.lading("explain", "one", "-w", key).stdout
        changed = host.lading("slurm", "modify-config", "nodes", "-w", key, "--walltime", "00:02:00")
        assert changed.returncode == 0, changed.stderr
        outcome = host.lading("jobs", "wait", "-w", key)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
