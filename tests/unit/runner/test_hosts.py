"""Nodes of an allocation: their names, what a job's srun goes by, who has which."""

from __future__ import annotations

import pytest

from lading.toolkit.runner.holdings import Capacity, Holdings
from lading.toolkit.runner.hosts import expand, hosts_of, is_of_the_step, step_environment, write_hostfile
from lading.toolkit.runner.steps import Cleared, note_cleared
from lading.toolkit.wire.extensions import ClaimedJob, Ended

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n[1-2],login", ["n1", "n2", "login"]),
        ("n[08-10,12]", ["n08", "n09", "n10", "n12"]),
        ("r[1-2]n[1,3]-ib", ["r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"]),
    ],
)
def test_host_lists_are_expanded(text, names):
    assert expand(text) == names


def test_a_runner_hands_out_the_allocation_unless_each_node_has_one():
    inside = {"SLURM_JOB_ID": "1", "SLURMD_NODENAME": "n2", "SLURM_JOB_NODELIST": "n[1-3]"}
    assert hosts_of(inside) == ("n2", "n1", "n3")
    assert hosts_of({**inside, "SLURM_STEP_ID": "4294967290"}) == ("n2", "n1", "n3"), "the shell of salloc"
    assert hosts_of({**inside, "SLURM_STEP_ID": "0"}) == ("n2",)
    assert hosts_of({"SLURMD_NODENAME": "n2"}) == ()


def test_nothing_of_the_runners_step_reaches_jobs():
    stripped = ["SLURM_STEP_ID", "PMIX_RANK", "PMI_FD", "SBATCH_ACCOUNT", "SLURM_MEM_PER_CPU", "SLURM_PROCID"]
    assert all(map(is_of_the_step, stripped))
    assert not any(map(is_of_the_step, ["SLURM_JOB_ID", "SLURM_CONF", "PATH", "SLURM_JOB_NODELIST"]))


def test_the_hostfile_names_each_slot_and_is_private(tmp_path):
    path = tmp_path / "hosts"
    write_hostfile(path, ["n1", "n2"], 2)
    write_hostfile(path, ["n2", "n3"], 2)
    assert path.read_text().split() == ["n2", "n3", "n2", "n3"]
    assert path.stat().st_mode & 0o777 == 0o600
    environment = step_environment(["n2", "n3"], 2, path)
    assert environment["SLURM_TASKS_PER_NODE"] == "2(x2)"
    assert environment["SLURM_HOSTFILE"] == str(path)


def job(name: str, nodes: int = 1, cpus: int = 1) -> ClaimedJob:
    return ClaimedJob(
        attempt_id=name, job_key=name, run_id=1, number=1, command="true", num_nodes=nodes, num_cpus=cpus,
        memory_bytes=GIB,
    )  # fmt: skip


def over(name: str) -> Ended:
    return Ended(attempt_id=name, cause="exit", return_code=0, exec_seconds=1.0)


def test_wide_jobs_have_nodes_of_their_own():
    holdings = Holdings(Capacity(4, 4 * GIB, ("0",), hosts=("n1", "n2", "n3")))
    for asked in (job("narrow"), job("wide", nodes=2, cpus=4), job("widest", nodes=3)):
        assert holdings.can_ever_run(asked)
        holdings.enqueue(asked)
    narrow, wide = holdings.take_launchable()
    assert (narrow.hosts, wide.hosts) == ((), ("n2", "n3"))
    assert holdings.free_cpus == 3, "the wide one occupies nothing of our own node"
    for ended in (wide, narrow):
        assert list(holdings.take_launchable()) == []
        holdings.end(ended, over(ended.id), 1.0)
    (widest,) = holdings.take_launchable()
    assert widest.hosts == ("n1", "n2", "n3")
    assert (holdings.free_cpus, holdings.free_gpus, holdings.free_hosts) == (0, [], [])
    holdings.end(widest, over("widest"), 2.0)
    assert (holdings.free_cpus, holdings.free_gpus) == (4, ["0"])
    assert sorted(holdings.free_hosts) == ["n2", "n3"]
    assert not Holdings(Capacity(4, 4 * GIB)).can_ever_run(job("wide", nodes=2))


def test_a_lost_node_is_given_to_no_job():
    holdings = Holdings(Capacity(4, 4 * GIB, hosts=("n1", "n2", "n3")))
    for name, nodes in (("first", 2), ("second", 2), ("all", 3)):
        holdings.enqueue(job(name, nodes=nodes))
    (first,) = holdings.take_launchable()
    assert first.hosts == ("n2", "n3")
    assert [attempt.id for attempt in holdings.lose(["n3", "n1"])] == ["all"]
    holdings.give_back(holdings.attempts["all"])
    holdings.end(first, over("first"), 1.0)
    assert holdings.free_hosts == ["n2"]
    (second,) = holdings.take_launchable()
    assert second.hosts == ("n1", "n2")
    assert [holdings.can_ever_run(job(f"of {nodes}", nodes=nodes)) for nodes in (1, 2, 3)] == [
        True,
        True,
        False,
    ]
    assert holdings.lose(["n2"]) == []
    assert not holdings.can_ever_run(job("pair", nodes=2))


@pytest.mark.parametrize(
    ("cause", "code", "lost", "expected"),
    [
        ("exit", 137, ("n2",), ("node_lost", "terminated", "Slurm lost n2, which the job had.")),
        ("exit", 0, ("n2",), ("exit", "done", "")),
        ("exit", 1, (), ("exit", "done", "")),
        ("job_timeout", -9, ("n2",), ("job_timeout", "done", "")),
    ],
)
def test_only_a_failure_is_blamed_on_a_lost_node(cause, code, lost, expected):
    ended = Ended(attempt_id="one", cause=cause, return_code=code, exec_seconds=1.0)
    note_cleared(ended, Cleared(lost=lost))
    assert (ended.cause, ended.status, ended.message) == expected
