"""A diamond that two real job runners run at once, and run again where something changed or failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lib.waiting import until

LADING = str(Path(sys.executable).with_name("lading"))
SECONDS = 60.0

RUN = """#!/bin/bash
# run.sh NAME INPUT... -- OUTPUT...: note the run, join the inputs, write the outputs.
set -euo pipefail
name=$1; shift
echo "$name" >> journal
[[ ! -e broken-$name ]] || exit 3
inputs=()
while [[ $1 != -- ]]; do inputs+=("$1"); shift; done; shift
# Long enough for the other runner to take what stands beside.
case $name in west|east) sleep 1;; esac
for output in "$@"; do cat "${inputs[@]}" > "$output"; done
"""
FILES = ("in", "west-in", "left", "right", "left-out", "right-out", "report")
JOBS = {
    "split": (["in"], ["left", "right"]),
    "west": (["left", "west-in"], ["left-out"]),
    "east": (["right"], ["right-out"]),
    "merge": (["left-out", "right-out"], ["report"]),
}


@dataclass(slots=True)
class Place:
    """A folder with a server, the diamond, and its files."""

    folder: Path
    workflow: str = ""

    def lading(self, *arguments: str) -> Any:
        """Call the command; returns what it prints as JSON."""
        done = subprocess.run(
            [LADING, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout) if "json" in arguments else done.stdout

    def run_with_two(self) -> list[str]:
        """Let two runners run what there is; returns the names of the jobs that ran, sorted."""
        journal = self.folder / "journal"
        journal.unlink(missing_ok=True)
        runners = []
        for number in range(2):
            with (self.folder / f"runner-{number}.log").open("ab") as log:
                arguments = [LADING, "node", "run", "--workflow", self.workflow, "--cpus", "1"]
                runners.append(subprocess.Popen(arguments, cwd=self.folder, stdout=log, stderr=log))
        try:
            for runner in runners:
                runner.wait(SECONDS)
        finally:
            for runner in runners:
                runner.kill()
                runner.wait()
        return sorted(journal.read_text().split()) if journal.exists() else []

    def statuses(self) -> dict[str, str]:
        jobs = self.lading("jobs", "list", "--workflow", self.workflow, "--format", "json")
        return {job["name"]: job["status"] for job in jobs["jobs"]}

    def restart(self, *options: str) -> dict[str, str]:
        """Restart; returns name -> reason."""
        answer = self.lading("workflows", "restart", self.workflow, *options, "--format", "json")
        return {job["name"]: job["reason"] for job in answer["jobs"]}

    def change(self, name: str, text: str) -> None:
        """Write a file with a later time, whatever the clock's resolution is."""
        path = self.folder / f"{name}.txt"
        before = path.stat().st_mtime
        path.write_text(text)
        os.utime(path, (before + 10, before + 10))


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[None]:
    """Run `lading serve` in a folder, where commands find it by themselves."""
    server_file = folder / ".lading" / "server.json"
    server_file.parent.mkdir(mode=0o700)
    command = [LADING, "serve", "--database", str(folder / "lading.db")]
    command += ["--server-file", str(server_file), *options]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        until(server_file.exists, 20, "the server announces itself")
        yield
    finally:
        server.terminate()
        server.wait(20)


def specification() -> dict[str, Any]:
    jobs = []
    for name, (inputs, outputs) in JOBS.items():
        words = [name, *(f"{file}.txt" for file in inputs), "--", *(f"{file}.txt" for file in outputs)]
        command = f"bash run.sh {' '.join(words)}"
        jobs.append({"name": name, "command": command, "input_files": inputs, "output_files": outputs})
    return {
        "name": "diamond",
        "files": [{"name": name, "path": f"{name}.txt"} for name in FILES],
        "jobs": jobs,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the specification and what its jobs read."""
    (tmp_path / "run.sh").write_text(RUN)
    for name in ("in", "west-in"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
    (tmp_path / "diamond.json").write_text(json.dumps(specification()))
    return tmp_path


@pytest.fixture
def place(folder: Path) -> Iterator[Place]:
    """The diamond, started on a server that runs nothing by itself."""
    with serving(folder, "--no-submitter"):
        made = Place(folder)
        made.workflow = made.lading("submit-workflow", "diamond.json", "--format", "json")["_key"]
        yield made


def test_two_runners_run_it_and_run_again_only_what_changed(place: Place) -> None:
    assert place.run_with_two() == ["east", "merge", "split", "west"]
    executed = place.lading(
        "collections", "join", "compute-node-executed-jobs", "--workflow", place.workflow, "--format", "json"
    )
    nodes = {row["to"]["name"]: row["from"]["_key"] for row in executed["items"]}
    assert nodes["west"] != nodes["east"]
    assert (place.folder / "report.txt").read_text() == "in\nwest-in\nin\n"

    assert place.restart() == {}
    assert place.run_with_two() == []

    place.change("west-in", "other\n")
    foretold = place.restart("--dry-run")
    assert set(foretold) == {"west", "merge"}
    assert "west-in" in foretold["west"]
    assert place.restart() == foretold
    assert place.run_with_two() == ["merge", "west"]
    assert (place.folder / "report.txt").read_text() == "in\nother\nin\n"

    (place.folder / "right-out.txt").unlink()
    assert set(place.restart()) == {"east", "merge"}
    assert place.run_with_two() == ["east", "merge"]


def test_after_a_failure_only_that_job_and_what_is_behind_it_run_again(place: Place) -> None:
    broken = place.folder / "broken-east"
    broken.touch()
    assert place.run_with_two() == ["east", "split", "west"]
    assert place.statuses() == {"split": "done", "west": "done", "east": "done", "merge": "canceled"}
    broken.unlink()
    place.lading("workflows", "reset-status", place.workflow, "--failed-only", "--restart", "--yes")
    assert place.run_with_two() == ["east", "merge"]
    assert set(place.statuses().values()) == {"done"}


def test_a_server_that_lends_its_cpus_runs_what_names_no_scheduler(folder: Path) -> None:
    with serving(folder, "--local-cpus", "2"):
        place = Place(folder)
        place.lading("submit-workflow", "diamond.json", "--wait")
    assert (folder / "report.txt").read_text() == "in\nwest-in\nin\n"
