"""Restart, scripts, measurements and mapping, for real: a server, its submitter, runners, jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lading.toolkit.client import Lading, Target
from lading.toolkit.client.mapping import map_function, results_of, specification_of
from tests.unit.cli_run.test_lading_run import LADING, lading, processes_of, read

DIAMOND = """\
name: diamond
config:
  workflow_startup_script: "bash -c 'echo started >> starts'"
  workflow_completion_script: "bash -c 'echo completed >> ends'"
  compute_node_resource_stats: {process: true, interval: 1, monitor_type: periodic}
files:
  - {name: source, path: source.txt}
  - {name: left, path: left.txt}
  - {name: right, path: right.txt}
  - {name: other, path: other.txt}
schedulers: {local_schedulers: [{name: here}]}
jobs:
  - {name: make-left, command: "cp source.txt left.txt", input_files: [source], output_files: [left]}
  - {name: make-right, command: "bash -c 'date +%N > right.txt'", output_files: [right]}
  - {name: join, command: "cp left.txt joined.txt", input_files: [left, right]}
  - {name: alone, command: "bash -c 'date +%N > other.txt'", output_files: [other]}
"""
MODULE = """\
def square(params):
    print("called with", params)
    return params["x"] ** 2

def total(results):
    return {"sum": sum(results)}

def fail(params):
    raise RuntimeError("no luck today")
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path
    left = processes_of(tmp_path)
    for line in left:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    assert left == []


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


@pytest.fixture
def served(work: Path) -> Iterator[Path]:
    """A folder whose commands find a running server."""
    log = (work / "serve.log").open("wb")
    process = subprocess.Popen(
        [*LADING, "serve", "--port", "0", "--database", str(work / "lading.db")],
        cwd=work,
        stdout=log,
        stderr=log,
    )
    until(lambda: list((work / "state" / "lading" / "servers").glob("*.json")))
    yield work
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    until(lambda: not processes_of(work))
    log.close()


def client_of(work: Path) -> Lading:
    [path] = (work / "state" / "lading" / "servers").glob("*.json")
    return Lading(Target.from_server_file(path))


def ok(work: Path, *arguments: str) -> str:
    result = lading(work, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_exactly_what_changed_runs_again(served: Path) -> None:
    (served / "source.txt").write_text("one")
    (served / "diamond.yaml").write_text(DIAMOND)
    ok(served, "submit-workflow", "diamond.yaml", "--wait")
    assert (served / "starts").read_text() == "started\n"
    until((served / "ends").exists)
    with client_of(served) as client:
        [workflow] = client.list_workflows()
        key = str(workflow["_key"])
        until(lambda: client.progress(key).active_nodes == 0)
        events = list(client.list_events(key, category="workflow"))
        kinds = [event["type"] for event in events]
        assert kinds == ["startup_script", "start", "completion_script_start", "completion_script"]
        assert events[-1]["return_code"] == 0
        rows = read(served, "nodes", "list-resource-stats")["stats"]
        assert {row["resource_type"] for row in rows} >= {"CPU", "Memory"}
    assert read(served, "workflows", "restart", "--dry-run")["jobs"] == []

    (served / "source.txt").write_text("two")
    (served / "other.txt").unlink()
    planned = read(served, "workflows", "restart", "--dry-run")
    assert {job["name"] for job in planned["jobs"]} == {"make-left", "join", "alone"}
    assert "run again" in lading(served, "workflows", "restart", "--dry-run").stderr
    before = (served / "right.txt").read_text()
    restarted = read(served, "workflows", "restart", key)
    assert restarted["run_id"] == 2
    ok(served, "jobs", "wait", "--workflow", key)
    assert (served / "joined.txt").read_text() == "two"
    assert (served / "right.txt").read_text() == before
    until(lambda: (served / "ends").read_text() == "completed\ncompleted\n")
    report = json.loads(ok(served, "reports", "results", "-w", key))
    runs = {job["job_name"]: [run["run_id"] for run in job["runs"]] for job in report["jobs"]}
    assert runs == {"make-left": [1, 2], "make-right": [1], "join": [1, 2], "alone": [1, 2]}
    assert Path(report["jobs"][0]["runs"][0]["stdout_path"]).exists()
    ok(served, "stats", "concatenate-process", "output/stats")


def test_a_start_up_script_that_fails_starts_nothing(served: Path) -> None:
    text = DIAMOND.replace("echo started >> starts", "echo no licence; exit 3")
    (served / "source.txt").write_text("one")
    (served / "diamond.yaml").write_text(text)
    result = lading(served, "submit-workflow", "diamond.yaml")
    assert result.returncode == 2
    assert "no licence" in result.stderr
    with client_of(served) as client:
        [workflow] = client.list_workflows()
        assert client.workflow_status(str(workflow["_key"]))["run_id"] == 0


def test_a_function_is_mapped_and_its_results_are_kept(served: Path) -> None:
    (served / "squares.py").write_text(MODULE)
    with client_of(served) as client:
        workflow = map_function(
            client, "squares", "squares", "square", [{"x": number} for number in range(12)],
            postprocess="total", module_directory=served, working_directory=served,
            output_directory=served / "output",
        )  # fmt: skip
        key = str(workflow["_key"])
        ok(served, "workflows", "start", key)
        ok(served, "jobs", "wait", "--workflow", key)
        assert results_of(client, key) == [number**2 for number in range(12)]
        last = read(served, "user-data", "get", "postprocess-output", "-w", key)
        assert last["data"] == {"result": {"sum": 506}}
    assert "called with {'x': 3}" in ok(served, "jobs", "logs", "square-04", "-w", key)


def test_a_function_that_raises_fails_its_job(work: Path) -> None:
    (work / "squares.py").write_text(MODULE)
    specification = specification_of("squares", "fail", [{"x": 1}])
    (work / "map.json").write_text(json.dumps({"name": "map", **specification}))
    result = lading(work, "run", "map.json", "--output", "elsewhere", "--format", "json")
    assert result.returncode == 1, result.stderr
    [failed] = json.loads(result.stdout)["failed"]
    assert failed["return_code"] == 1
    assert any("no luck today" in line for line in failed["stderr_tail"])
