from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Invoke, progress
from tests.unit.client.scripted_server import Answer, ScriptedServer, page

GOOD = """\
name: pair
resource_requirements:
  - {name: small, num_cpus: 1, memory: 10m, runtime: PT1M}
jobs:
  - {name: one, command: "true", resource_requirements: small}
  - {name: two, command: "true", blocked_by: [one]}
"""

BAD = {
    "unknown field": (GOOD + "jbos: []\n", ["spec.yaml:7", "jbos", "jobs"]),
    "unknown name": (GOOD.replace("[one]", "[onne]"), ["spec.yaml:6", "onne", "'one'"]),
    "cycle": (
        "jobs:\n  - {name: a, command: x, blocked_by: [b]}\n  - {name: b, command: x, blocked_by: [a]}\n",
        ["a", "b"],
    ),
    "bad memory": (GOOD.replace("10m", "1.5g"), ["spec.yaml:3", "1.5g", "1536m"]),
    "bad duration": (GOOD.replace("PT1M", "soon"), ["spec.yaml:3", "soon"]),
    "no jobs": ("jobs: []\n", ["jobs"]),
    "missing input": (
        "files: [{name: f, path: nowhere.txt}]\njobs: [{name: a, command: x, input_files: [f]}]\n",
        ["nowhere.txt"],
    ),
    "not yaml": ("jobs: [\n", ["spec.yaml"]),
}


def script_start(server: ScriptedServer, *, run_id: int = 0) -> None:
    server.on("GET", "/workflows/7/config", Answer({"_key": "1"}))
    server.on("POST", "/workflow_specifications", Answer({"_key": "7", "name": "pair"}))
    server.on("GET", "/workflows/7/status", Answer({"run_id": run_id, "is_canceled": False}))
    server.on("GET", "/workflows/7/required_existing_files", Answer({"files": []}))
    server.on("GET", "/workflows/7/files", Answer(page([])))
    server.on("POST", "/workflows/7/start", Answer({"run_id": 1}))
    server.on("GET", "/workflows/7/progress", Answer(progress(reasons=["no allocation will come"])))


@pytest.mark.parametrize("verb", ["run", "submit-workflow"])
@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_before_anything_starts(
    lading: Invoke, server: ScriptedServer, verb: str, text: str, words: list[str]
) -> None:
    Path("spec.yaml").write_text(text)
    result = lading(verb, "spec.yaml")
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output
    assert server.seen == []
    assert not Path("output").exists()


def test_all_faults_are_listed_at_once(lading: Invoke) -> None:
    Path("spec.yaml").write_text(GOOD.replace("10m", "1.5g").replace("PT1M", "soon"))
    stderr = lading("run", "spec.yaml").stderr
    assert "1.5g" in stderr
    assert "soon" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["SPEC", "--commands", "COMMAND"]),
        (["run", "spec.yaml", "--", "true"], ["SPEC", "COMMAND"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "spec.txt"], ["spec.txt", ".yaml"]),
        (["run", "spec.yaml", "--memory", "lots"], ["lots", "512m"]),
        (["run", "spec.yaml", "--cpus", "0"], ["--cpus"]),
        (["run", "spec.yaml", "--memory", "1m"], ["small", "10m"]),
    ],
)
def test_bad_calls_of_run_are_explained(lading: Invoke, arguments: list[str], words: list[str]) -> None:
    Path("spec.yaml").write_text(GOOD)
    Path("spec.txt").write_text(GOOD)
    result = lading(*arguments)
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr
    assert not Path("output").exists()


def test_jobs_that_can_never_run_here_are_refused(lading: Invoke) -> None:
    Path("spec.yaml").write_text(GOOD.replace("num_cpus: 1", "num_cpus: 4096"))
    result = lading("run", "spec.yaml")
    assert result.exit_code == 2
    assert "4096 CPUs" in result.stderr


def test_a_folder_in_use_is_refused_by_name(lading: Invoke, work: Path) -> None:
    from lading.toolkit.cli.run_folder import RunFolder

    Path("spec.yaml").write_text(GOOD)
    with RunFolder(work / "output").hold():
        result = lading("run", "spec.yaml")
    assert result.exit_code == 2
    assert str(work / "output") in result.stderr
    assert f"process {os.getpid()}" in result.stderr


def test_submit_posts_one_document_and_starts(lading: Invoke, server: ScriptedServer, work: Path) -> None:
    script_start(server)
    Path("spec.yaml").write_text(
        GOOD + "schedulers:\n  local_schedulers: [{name: here}, {name: there, num_cpus: 1}]\n"
    )
    result = lading("submit-workflow", "spec.yaml", "--name", "night", "--format", "json")
    assert result.exit_code == 0
    assert result.stderr == "Waiting: no allocation will come\n"
    assert json.loads(result.stdout) == {"_key": "7", "name": "night", "run_id": 1, "num_jobs": 2}
    (post,) = server.calls("POST", "/workflow_specifications")
    assert post.headers["Idempotency-Key"]
    assert post.body["name"] == "night"
    assert post.body["config"]["working_directory"] == str(work)
    assert post.body["config"]["output_directory"] == str(work / "output")
    schedulers = post.body["schedulers"]["local_schedulers"]
    assert [item["max_allocations"] for item in schedulers] == [1, 1]
    assert len(server.calls("POST", "/workflows/7/start")) == 1


def test_a_repeated_submission_starts_nothing_twice(lading: Invoke, server: ScriptedServer) -> None:
    script_start(server, run_id=1)
    Path("spec.yaml").write_text(GOOD)
    assert lading("submit-workflow", "spec.yaml", "--idempotency-key", "k1").exit_code == 0
    assert server.calls("POST", "/workflow_specifications")[0].headers["Idempotency-Key"] == "k1"
    assert not server.calls("POST", "/workflows/7/start")


def test_submit_and_wait_exits_like_run(lading: Invoke, server: ScriptedServer) -> None:
    script_start(server)
    Path("spec.yaml").write_text(GOOD)
    server.on("GET", "/workflows/7", Answer({"_key": "7", "name": "pair"}))
    server.on("GET", "/workflows/7/config", Answer({}))
    running = progress(sequence=1, counts={"submitted": 1, "blocked": 1}, num_failed=0, is_complete=False)
    server.on(
        "GET", "/workflows/7/progress", Answer(running), Answer(progress(counts={"done": 2}, num_failed=0))
    )
    server.on("GET", "/workflows/7/attempts", Answer(page([])))
    jobs = [{"_key": "1", "name": "one", "status": "done"}, {"_key": "2", "name": "two", "status": "done"}]
    results = [
        {"job_key": key, "run_id": 1, "return_code": 0, "exec_time_minutes": 0.1} for key in ("1", "2")
    ]
    server.on("GET", "/workflows/7/jobs", Answer(page(jobs)))
    server.on("GET", "/workflows/7/results", Answer(page(results)))
    result = lading("submit-workflow", "spec.yaml", "--wait")
    assert result.exit_code == 0
    assert "2 of 2 jobs succeeded" in result.stderr
    results[1]["return_code"] = 4
    assert lading("submit-workflow", "spec.yaml", "--wait").exit_code == 1
