"""`lading run` for real: its server, submitter and runners, real jobs, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
LADING = [sys.executable, "-P", "-c", "from lading.toolkit.cli.main import run; run()"]

SLOW = """\
name: slow
jobs:
  - {name: polite, command: "bash -c 'trap \\"echo asked; exit 0\\" TERM; touch up; sleep 100 & wait'",
     supports_termination: true}
  - {name: later, command: "true", blocked_by: [polite]}
"""
STUBBORN = """\
name: stubborn
jobs:
  - {name: stubborn, command: "bash -c 'trap \\"\\" TERM; touch up; while true; do sleep 100 & wait; done'",
     supports_termination: true}
"""


def processes_of(folder: Path) -> list[str]:
    """Name the processes that have the folder in their command line or work in it, and are not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = str((entry / "cwd").readlink())
        except OSError:
            continue
        if command and (str(folder) in command or place.startswith(str(folder))):
            found.append(f"{entry.name} {command}")
    return found


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    left = processes_of(tmp_path)
    for line in left:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    assert left == []


def lading(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LADING, *arguments], cwd=work, capture_output=True, text=True, timeout=120, check=False
    )


def begin(work: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LADING, *arguments], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def read(work: Path, *arguments: str) -> Any:
    result = lading(work, *arguments, "--format", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_diamond_runs_and_can_be_read_afterwards(work: Path) -> None:
    result = lading(work, "run", str(EXAMPLES / "diamond.yaml"))
    assert result.returncode == 0, result.stderr
    assert "4 of 4 jobs succeeded" in result.stderr
    assert (work / "output/diamond/report.txt").exists()
    assert processes_of(work) == []
    jobs = read(work, "jobs", "list")["jobs"]
    assert {job["status"] for job in jobs} == {"done"}
    assert len(read(work, "results", "list", "--output", "output")["results"]) == 4
    assert lading(work, "jobs", "logs", "preprocess").stdout == "made 1000 numbers\n"


def test_failures_are_named_with_code_signal_and_stderr(work: Path) -> None:
    result = lading(work, "run", str(EXAMPLES / "failing.yaml"), "--format", "json")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    failed = {job["name"]: job for job in report["failed"]}
    assert (failed["broken"]["return_code"], failed["killed"]["signal"]) == (3, signal.SIGKILL)
    assert failed["broken"]["stderr_tail"] == ["cannot find column 7"]
    statuses = {job["name"]: job["status"] for job in report["jobs"]}
    assert statuses["after-healthy"] == statuses["cleanup"] == "done"
    assert statuses["after-broken"] == statuses["end"] == "canceled"


def test_one_command_and_a_list_of_commands(work: Path) -> None:
    result = lading(work, "run", "--", "bash", "-c", "echo $1; exit 4", "--", "--format")
    assert result.returncode == 1
    assert "exit code 4" in result.stderr
    (work / "jobs.txt").write_text("touch one\n\n# none\ntouch two\n")
    assert lading(work, "run", "--commands", "jobs.txt").returncode == 0
    assert (work / "one").exists()
    assert (work / "two").exists()


def test_fail_fast_ends_the_others(work: Path) -> None:
    (work / "spec.yaml").write_text(
        "jobs:\n  - {name: bad, command: 'false'}\n  - {name: long, command: sleep 100}\n"
    )
    began = time.monotonic()
    result = lading(work, "run", "spec.yaml", "--fail-fast", "--cpus", "2")
    assert result.returncode == 1
    assert time.monotonic() - began < 60
    assert "--fail-fast" in result.stderr


def test_an_interruption_lets_jobs_end_and_the_next_run_is_alone(work: Path) -> None:
    (work / "spec.yaml").write_text(SLOW)
    process = begin(work, "run", "spec.yaml")
    wait_for(work / "up", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 130, stderr
    assert processes_of(work) == []
    assert [path.read_text() for path in (work / "output/job-stdio").glob("*.o")] == ["asked\n"]
    assert lading(work, "run", "--", "true").returncode == 0
    states = {item["name"]: item["state"] for item in _workflows(work)}
    assert states == {"slow": "canceled", "true": "complete"}


def test_a_second_interruption_kills(work: Path) -> None:
    (work / "spec.yaml").write_text(STUBBORN)
    process = begin(work, "run", "spec.yaml")
    wait_for(work / "up", process)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "Ctrl-C again" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 25
    assert processes_of(work) == []


def test_a_killed_server_is_started_again_and_nothing_is_lost(work: Path) -> None:
    command = "bash -c 'echo start >> starts; touch up; sleep 2'"
    (work / "spec.yaml").write_text(
        f'jobs:\n  - {{name: a, command: "{command}"}}\n  - {{name: b, command: "true", blocked_by: [a]}}\n'
    )
    process = begin(work, "run", "spec.yaml")
    wait_for(work / "up", process)
    record = json.loads((work / "output/.lading/server.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    assert _address_after_restart(work, record) == record["url"]
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    assert "started again" in stderr
    assert (work / "starts").read_text() == "start\n"


def test_an_interruption_while_the_server_starts_leaves_nothing(work: Path) -> None:
    process = begin(work, "run", "--", "sleep", "100")
    wait_for(work / "output/.lading/server.log", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert asyncio.run(_gone(work))


def _address_after_restart(work: Path, earlier: dict[str, Any]) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        record = json.loads((work / "output/.lading/server.json").read_text())
        if record["pid"] != earlier["pid"]:
            return str(record["url"])
        time.sleep(0.02)
    return "not started again"


def _workflows(work: Path) -> list[dict[str, Any]]:
    return list(read(work, "workflows", "list")["workflows"])


async def _gone(work: Path) -> bool:
    async with asyncio.timeout(30):
        while processes_of(work):
            await asyncio.sleep(0.05)
    return True
