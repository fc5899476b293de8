"""Jobs of several nodes, and steps that jobs start themselves, on a real Slurm."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lading.toolkit.runner.steps import Cleared, clear_steps
from tests.lib.waiting import until
from tests.slurm.host import document

pytestmark = pytest.mark.slurm


def script(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("#!/bin/bash\n" + "\n".join(lines) + "\n")
    path.chmod(0o755)
    return str(path)


def wide(jobs, **scheduler):
    made = document(jobs, cpus=None, mem=None, nodes=2, **scheduler)
    made["resource_requirements"].append(
        {"name": "pair", "num_cpus": 4, "num_nodes": 2, "memory": "10m", "runtime": "P0DT1M"}
    )
    return made


def runner_of(guardian: int) -> int:
    """Return the process id of a guardian's runner."""
    children = Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    (runner,) = (pid for pid, command in commands.items() if b"lading.toolkit.runner.node" in command)
    return int(runner)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def stubborn(out: Path) -> str:
    """Make a program that does not end when it is asked to, and says under which number it runs on each node."""
    return script(
        out, "remote",
        "trap '' TERM",
        f"echo $$ > {out}/$SLURMD_NODENAME.part; mv {out}/$SLURMD_NODENAME.part {out}/$SLURMD_NODENAME.pid",
        "while :; do sleep 0.5; done",
    )  # fmt: skip


def test_wide_and_narrow_jobs_share_an_allocation(host):
    out = host.folder
    pair = script(
        out, "pair",
        f'echo "$LADING_NUM_NODES $LADING_NODE_LIST" > {out}/told; cp "$LADING_HOSTFILE" {out}/hostfile',
        f"env | cut -d= -f1 > {out}/names",
        f"srun bash -c 'echo $SLURMD_NODENAME' > {out}/pair.nodes || exit 1",
        f"srun -n4 bash -c 'echo $SLURMD_NODENAME' > {out}/four.nodes || exit 1",
    )  # fmt: skip
    meet = script(out, "meet", f'srun -n2 {out}/step "$1" "$2" 2> {out}/stderr.$1')
    # Each step ends only when it has seen the other at work: one after the other would fail.
    script(
        out, "step",
        f"echo $SLURMD_NODENAME >> {out}/meet.$1; touch {out}/is.$1",
        f"for try in $(seq 300); do [ -e {out}/is.$2 ] && exit 0; sleep 0.1; done; exit 1",
    )  # fmt: skip
    key = host.submit(
        wide([
            {"name": "left", "command": f"{meet} left right"},
            {"name": "right", "command": f"{meet} right left"},
            {"name": "pair", "command": pair, "resource_requirements": "pair"},
        ])
    )  # fmt: skip
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert sorted(lines(out / "pair.nodes")) == ["n1", "n2"]
    assert sorted(set(lines(out / "four.nodes"))) == ["n1", "n2"]
    assert lines(out / "told") == ["2 n1,n2"]
    assert sorted(set(lines(out / "hostfile"))) == ["n1", "n2"]
    assert len(lines(out / "hostfile")) == 32
    assert not [
        name for name in lines(out / "names")
        if name.startswith(("SLURM_STEP", "PMI", "SBATCH_")) or "TOKEN" in name or name == "LADING_NODE_FILE"
    ]  # fmt: skip
    for name in ("left", "right"):
        assert lines(out / f"meet.{name}") == ["n1", "n1"], "a job of one node keeps to its runner's"
        assert lines(out / f"stderr.{name}") == [], "no step waited for another"
    verified = host.lading("db", "verify", "--database", str(out / "lading.db"))
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_canceled_job_leaves_no_process_on_other_nodes(host):
    out = host.folder
    remote = stubborn(out)
    key = host.submit(
        wide([
            {"name": "long", "command": f"srun {remote}", "resource_requirements": "pair"},
            {"name": "after", "command": "true", "resource_requirements": "pair"},
        ])
    )  # fmt: skip
    pids = [out / "n1.pid", out / "n2.pid"]
    until(lambda: all(path.exists() for path in pids), 60.0, "both tasks run")
    (job,) = (row for row in host.listed("jobs", "list", "-w", key) if row["name"] == "long")
    canceled = host.lading("jobs", "cancel", job["_key"], "-w", key)
    assert canceled.returncode == 0, canceled.stderr

    def gone():
        return not any(os.path.exists(f"/proc/{path.read_text().strip()}") for path in pids)  # noqa: PTH110

    until(gone, 60.0, "no task lives")
    host.lading("jobs", "wait", "-w", key)
    statuses = {row["name"]: row["status"] for row in host.listed("jobs", "list", "-w", key)}
    assert statuses == {"long": "canceled", "after": "done"}


def test_a_node_that_is_lost_takes_its_job_along_and_nothing_else(host_of_three):
    host, out = host_of_three, host_of_three.folder
    # Twice: what it does until its node dies, and again on the two nodes that are left.
    pair = script(
        out, "pair",
        f"srun bash -c 'echo $SLURMD_NODENAME >> {out}/pair.$LADING_ATTEMPT; touch {out}/began;"
        f" [ $LADING_ATTEMPT = 2 ] || exec sleep 300' || exit 1",
    )  # fmt: skip
    narrow = script(out, "narrow", f"until [ -e {out}/go ]; do sleep 0.1; done")
    made = document(
        [
            {"name": "pair", "command": pair, "resource_requirements": "pair"},
            *({"name": f"narrow{number}", "command": narrow} for number in range(4)),
        ],
        cpus=None, mem=None, nodes=3, exclusive=True, extra="--no-kill",
    )  # fmt: skip
    made["resource_requirements"].append(
        {"name": "pair", "num_cpus": 4, "num_nodes": 2, "memory": "10m", "runtime": "PT5M"}
    )
    made["resource_requirements"][0]["runtime"] = "PT5M"
    key = host.submit(made)
    until((out / "began").exists, 60.0, "the wide job runs")
    until(lambda: len(lines(out / "pair.1")) == 2, 60.0, "on both of its nodes")
    assert sorted(lines(out / "pair.1")) == ["n2", "n3"]
    host.cluster.run("scontrol", "update", "nodename=n3", "state=down", "reason=test")

    def attempts(job):
        return [(row["cause"], row["state"]) for row in host.listed("jobs", "attempts", job, "-w", key)]

    until(lambda: attempts("pair")[0] == ("node_lost", "ended"), 60.0, "the loss is reported", pause=0.3)
    (allocation,) = host.listed("allocations", "list", "-w", key)
    assert allocation["status"] == "active"
    statuses = {row["name"]: row["status"] for row in host.listed("jobs", "list", "-w", key)}
    assert statuses == {"pair": "ready", **{f"narrow{number}": "submitted" for number in range(4)}}
    (out / "go").touch()
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert attempts("pair") == [("node_lost", "ended"), ("exit", "ended")]
    assert sorted(lines(out / "pair.2")) == ["n1", "n2"], "the lost node is handed to nobody"
    assert all(attempts(f"narrow{number}") == [("exit", "ended")] for number in range(4))
    assert host.called()["sbatch"] == 1


def test_a_job_that_is_too_long_ends_on_all_of_its_nodes(host):
    out = host.folder
    remote = stubborn(out)
    # The nodes see one table of processes: whoever has them next finds nothing of the job before.
    after = script(
        out, "after", f"for pid in $(cat {out}/n1.pid {out}/n2.pid); do kill -0 $pid && exit 1; done; :"
    )
    made = wide([
        {"name": "long", "command": f"srun {remote}", "resource_requirements": "short", "priority": 1},
        {"name": "after", "command": after, "resource_requirements": "pair"},
    ])  # fmt: skip
    made["resource_requirements"].append(
        {"name": "short", "num_cpus": 4, "num_nodes": 2, "memory": "10m", "runtime": "PT10S"}
    )
    key = host.submit(made)
    host.lading("jobs", "wait", "-w", key)
    statuses = {row["name"]: row["status"] for row in host.listed("jobs", "list", "-w", key)}
    assert statuses == {"long": "terminated", "after": "done"}
    (attempt,) = host.listed("jobs", "attempts", "long", "-w", key)
    assert attempt["cause"] == "job_timeout"
    assert len([*out.glob("*.pid")]) == 2


@pytest.mark.parametrize(
    ("whom", "number", "cause"),
    [
        ("guardian", signal.SIGKILL, "infrastructure"),
        ("runner", signal.SIGKILL, "infrastructure"),
        # Nobody but the guardian can end what its lease no longer covers.
        ("runner", signal.SIGSTOP, "node_lost"),
    ],
)
def test_a_wide_job_is_over_everywhere_before_it_runs_again(host, whom, number, cause):
    out = host.folder
    remote = script(
        out, "remote",
        "trap '' TERM",
        f"[ $1 = 1 ] || exit 0; echo $$ > {out}/$2.pid; touch {out}/began",
        "while :; do sleep 0.5; done",
    )  # fmt: skip
    pair = script(
        out, "pair",
        f"[ $LADING_ATTEMPT = 1 ] || for pid in $(cat {out}/n1.pid {out}/n2.pid); do kill -0 $pid && exit 1; done",
        # Nodes of this cluster share one table of processes, in which a guardian finds what bears its marks.
        f"exec srun bash -c 'exec env -i PATH=$PATH {remote} $LADING_ATTEMPT $SLURMD_NODENAME'",
    )  # fmt: skip
    # Two allocations that share the nodes: the idle one takes the job over as soon as the server lets it.
    made = wide(
        [{"name": "pair", "command": pair, "resource_requirements": "pair"}],
        max_allocations=2, min_allocations=2, exclusive=False,
    )  # fmt: skip
    made["schedulers"]["slurm_schedulers"][0] |= {"cpus": 4, "mem": "1G"}
    made["config"]["lease_seconds"] = 20
    key = host.submit(made)
    until((out / "began").exists, 60.0, "the wide job runs")
    until(lambda: len(lines(out / "n1.pid") + lines(out / "n2.pid")) == 2, 60.0, "on both nodes")

    def working():
        return [node for node in host.listed("nodes", "list", "-w", key) if node["is_active"]]

    until(lambda: len(working()) == 2, 60.0, "the other allocation waits for work", pause=0.3)
    (first,) = host.listed("jobs", "attempts", "pair", "-w", key)
    (owner,) = (node for node in working() if node["_key"] == first["compute_node"])
    os.kill(owner["pid"] if whom == "guardian" else runner_of(owner["pid"]), number)
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    first, second = host.listed("jobs", "attempts", "pair", "-w", key)
    assert (first["cause"], second["cause"]) == (cause, "exit")
    assert first["compute_node"] != second["compute_node"]


def test_nodes_whose_steps_do_not_end_are_named(on_three, tmp_path, monkeypatch):
    work = script(
        tmp_path, "work", f"srun --overlap -w n3 -n1 bash -c 'echo $PPID > {tmp_path}/keeper; exec sleep 300'"
    )
    job = on_three.run(
        "sbatch", "--parsable", "--nodes=3", "--mem=100", f"--output={tmp_path}/out", work
    ).strip()
    until(lambda: lines(tmp_path / "keeper"), 60.0, "the step runs")
    keeper = int(lines(tmp_path / "keeper")[0])
    os.kill(keeper, signal.SIGSTOP)
    try:
        cleared = clear_steps(["n2", "n3"], job, 3.0)
        assert (cleared.lost, cleared.stuck) == ((), ("n3",))
        assert f"steps {job}.0 do not end" in cleared.failure
        assert clear_steps(["n1", "n2"], job, 0.0) == Cleared(), "what others run is none of this job's"
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert clear_steps(["n2", "n3"], job, 60.0) == Cleared()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none"))
    cleared = clear_steps(["n2", "n3"], job, 0.0)
    assert cleared.stuck == ("n2", "n3"), "nobody knows"
    assert cleared.failure.startswith("Slurm was not reached")
    monkeypatch.setenv("SLURM_CONF", on_three.environment["SLURM_CONF"])
