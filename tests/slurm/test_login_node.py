"""Days on a login node: allocations that are read and drained, and runs inside an allocation."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.lib.waiting import until
from tests.slurm.host import COMMAND, Host, document
from tests.slurm.test_refusals import NASTY

pytestmark = pytest.mark.slurm


def test_an_allocation_shows_its_own_output_and_is_drained(host):
    jobs = [{"name": f"job{number}", "command": "sleep 3"} for number in range(40)]
    key = host.submit(document(jobs, set_up=["echo 'set up here'"]))
    nodes = until(lambda: host.listed("nodes", "list", "-w", key), 60.0, "a runner", pause=0.3)
    (allocation,) = host.listed("allocations", "list", "-w", key)
    # The allocation's one place is kept by the config's max_allocations: no second one comes meanwhile.
    shown = host.lading("allocations", "logs", allocation["_key"], "-w", key)
    assert shown.returncode == 0, shown.stderr
    assert "set up here" in shown.stdout
    drained = host.lading("allocations", "drain", allocation["_key"], "-w", key)
    assert drained.returncode == 0, drained.stderr
    followed = host.lading("allocations", "logs", allocation["_key"], "-w", key, "--follow")
    assert followed.returncode == 0, followed.stderr
    assert "drain" in followed.stdout
    attempts = host.listed("jobs", "attempts", "-w", key)
    mine = [item for item in attempts if item["compute_node"] == nodes[0]["_key"]]
    assert {item["cause"] for item in mine} == {"exit"}, "what ran was finished"
    assert len(mine) < len(jobs), "nothing new was taken"


def bound_to_slurm():
    """A workflow that could not run here if its config counted."""
    made = document(
        [
            {"name": f"job{number}", "command": "bash -c 'echo $SLURMD_NODENAME; sleep 1'"}
            for number in range(4)
        ],
        partition="nosuch",
    )
    made["jobs"][0]["scheduler"] = "slurm_schedulers/nodes"
    made["jobs"][1]["schedule_compute_nodes"] = {"scheduler_id": "slurm_schedulers/nodes", "num_jobs": 1}
    return made


@pytest.mark.parametrize("way", ["salloc", "sbatch"])
def test_a_run_inside_an_allocation_uses_it_and_submits_nothing(on_a, tmp_path, way):
    (tmp_path / "workflow.json").write_text(json.dumps(bound_to_slurm()))
    host = Host(on_a, tmp_path)
    run = [str(COMMAND), "run", "workflow.json", "--format", "json"]
    size = ["--account=science", "--nodes=1", "--ntasks=1", "--cpus-per-task=2", "--mem=1G", "--time=5"]
    if way == "salloc":
        command = ["salloc", "--quiet", *size, *run]
    else:
        command = ["sbatch", "--quiet", "--wait", "--output=said", "--error=complaints", *size]
        command += ["--wrap", shlex.join(run)]
    outcome = subprocess.run(
        command, cwd=tmp_path, env=host.environment, capture_output=True, text=True, check=False, timeout=120
    )
    said = outcome.stdout if way == "salloc" else (tmp_path / "said").read_text()
    assert outcome.returncode == 0, outcome.stderr + said
    report = json.loads(said)
    assert report["counts"] == {"done": 4}
    assert {Path(job["stdout_path"]).read_text() for job in report["jobs"]} <= {"n1\n", "n2\n"}
    # Nothing but the allocation itself.
    assert host.called()["sbatch"] == (1 if way == "sbatch" else 0)
    assert host.called()["srun"] == (1 if way == "salloc" else 0)
    listed = host.lading("nodes", "list", "--output", "output", "--format", "json")
    (node,) = json.loads(listed.stdout)["compute_nodes"]
    assert node["resources"]["num_cpus"] == 2
    assert node["resources"]["memory_gb"] <= 1


def test_a_run_stops_in_order_before_its_allocation_ends(on_a, tmp_path):
    made = bound_to_slurm()
    made["jobs"] = [{"name": "long", "command": "sleep 600"}]
    made["config"]["compute_node_expiration_buffer_seconds"] = 35
    (tmp_path / "workflow.json").write_text(json.dumps(made))
    outcome = subprocess.run(
        ["salloc", "--quiet", "--account=science", "--cpus-per-task=1", "--mem=500", "--time=1",
         str(COMMAND), "run", "workflow.json", "--format", "json"],
        cwd=tmp_path, env=Host(on_a, tmp_path).environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert outcome.returncode == 130, outcome.stderr
    assert "about to end" in outcome.stderr
    (job,) = json.loads(outcome.stdout)["jobs"]
    assert (job["status"], job["attempts"]) == ("ready", 0), "a job of a minute is not begun so late"


def test_hostile_names_are_only_names(host, tmp_path):
    """A folder, names of workflow, job and config, and options: nothing of them is ever a command."""
    folder = tmp_path / NASTY
    folder.mkdir()
    made = document(
        [{"name": NASTY, "command": "bash -c 'pwd > here'"}], set_up=["export SEEN='$(touch pwned)'"]
    )
    made["name"] = NASTY
    (config,) = made["schedulers"]["slurm_schedulers"]
    config |= {"name": NASTY, "extra": f"--comment={shlex.quote(NASTY)}"}
    made["jobs"][0]["scheduler"] = f"slurm_schedulers/{NASTY}"
    (folder / "workflow.json").write_text(json.dumps(made))
    outcome = subprocess.run(
        [COMMAND, "submit-workflow", "workflow.json", "--wait", "--format", "json"],
        cwd=folder, env=host.environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert (folder / "here").read_text() == f"{folder}\n"
    # What no line can hold is refused with the field, before anything is stored.
    broken = tmp_path / "two\ntouch pwned"
    broken.mkdir()
    for where, name, field in (
        (broken, "one", "working_directory"),
        (folder, "a\ntouch pwned", "jobs[0].name"),
    ):
        (where / "workflow.json").write_text(json.dumps(document([{"name": name, "command": "true"}])))
        outcome = subprocess.run(
            [COMMAND, "submit-workflow", "workflow.json"],
            cwd=where, env=host.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert outcome.returncode == 2
        assert field in outcome.stderr
        assert "line break" in outcome.stderr
    # What only Slurm can refuse reaches it as a value, too.
    refused = document(
        [{"name": "one", "command": "true"}], account="$(touch pwned)", partition="`touch pwned`"
    )
    key = host.submit(refused)
    until(
        lambda: "paused" in host.lading("workflows", "status", key).stdout, 30.0, "it is refused", pause=0.3
    )
    for place in (tmp_path, host.cluster.folder):
        assert list(place.rglob("pwned")) == []
    assert not Path("pwned").exists()
