"""A whole run as a user without any rights, among others who look everywhere they can."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lib.repository import ROOT
from tests.lib.waiting import until
from tests.slurm.conftest import Cluster
from tests.slurm.people import PASSWORD, User, at_home
from tests.slurm.test_workflows import document

pytestmark = pytest.mark.slurm

_READER = """
import json, os, sys
opened = {}
for path in json.load(sys.stdin):
    try:
        with open(path, "rb") as stream:
            opened[path] = stream.read().decode("latin-1")
    except OSError:
        pass
json.dump(opened, sys.stdout)
"""


@pytest.fixture
def person(on_b: Cluster, guest: str, open_python: Path) -> Iterator[User]:
    with at_home(guest, open_python) as user:
        yield user


def test_a_run_without_rights_tells_nothing_to_others(on_b: Cluster, person: User) -> None:
    server = person.lading(
        "serve", "--detach", "--host", on_b.address, "--port", "0", "--plain-http", "--database",
        str(person.home / "project" / "lading.db"),
    )  # fmt: skip
    try:
        key = submit(person)
        until((person.home / "running").exists, 60.0, "the job runs", pause=0.2)
        private, secrets = secrets_of(person, server)
        assert len(secrets) >= 3, "the owner's token, a node's, the password"
        (slurm_job,) = {line.split()[0] for line in on_b.queue()}
        shown = {
            "scontrol show job": on_b.run("scontrol", "show", "job", "-dd", slurm_job),
            "the batch script": on_b.run("scontrol", "write", "batch_script", slurm_job, "-"),
            "ps": subprocess.run(["ps", "-ewwf"], capture_output=True, text=True, check=True).stdout,
        }
        assert "lading.toolkit.runner" in shown["the batch script"]
        assert str(server["pid"]) in shown["ps"]
        check_stranger(on_b, person, private, secrets)
        (person.home / "go").touch()
        person.command("jobs", "wait", "-w", key)
        # What was written by then, the job's own environment and all logs among it.
        shown |= {
            str(path): path.read_text(errors="replace")
            for path in files_of(person)
            if path not in private and path.suffix not in {".db", ".db-wal", ".db-shm"}
        }
        said = [text for name, text in shown.items() if name.endswith(".o") and "SLURM_JOB_ID=" in text]
        assert len(said) == 1, "the job has written its environment"
        leaks = [(name, which) for name, text in shown.items() for which, it in secrets.items() if it in text]
        assert leaks == []
        jobs = person.lading("jobs", "list", "-w", key)["jobs"]
        assert [job["status"] for job in jobs] == ["done", "done"]
    finally:
        (person.home / "go").touch()
        person.command("stop")


def test_the_example_runs_without_rights(on_b: Cluster, person: User) -> None:
    shutil.copy(ROOT / "docs/examples/slurm_diamond.yaml", person.home)
    person.lading(
        "serve", "--detach", "--host", on_b.address, "--port", "0", "--plain-http", "--database",
        str(person.home / "lading.db"),
    )  # fmt: skip
    try:
        person.command("submit-workflow", "slurm_diamond.yaml", "--wait")
        report = person.home / "output/slurm_diamond/report.txt"
        assert report.read_text() == "5050\t100\n"
        assert report.owner() == person.name
    finally:
        person.command("stop")


def submit(person: User) -> str:
    waits = "bash -c 'touch running; until [ -e go ]; do sleep 0.1; done'"
    made = document(
        [{"name": "shows", "command": "env"}, {"name": "waits", "command": waits}], cpus=2, mem="500M"
    )
    (person.home / "workflow.json").write_text(json.dumps(made))
    return str(person.lading("submit-workflow", "workflow.json")["_key"])


def secrets_of(person: User, server: dict[str, Any]) -> tuple[set[Path], dict[str, str]]:
    """Return the files that may hold secrets, and all secrets that are in use."""
    token_file = Path(server["token_file"])
    nodes = list((person.home / "project" / ".lading-submitter" / "nodes").iterdir())
    secrets = {"password": PASSWORD, "owner's token": token_file.read_text().strip()}
    secrets |= {f"token of {path.name}": json.loads(path.read_text())["token"] for path in nodes}
    return {token_file, *nodes}, secrets


def files_of(person: User) -> list[Path]:
    """Return every file of that user, wherever everybody may write."""
    command = ["find", "/tmp", "/var/tmp", "/dev/shm", "-type", "f", "-user", person.name]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [path for line in listed.splitlines() if (path := Path(line)).is_file()]


def check_stranger(cluster: Cluster, person: User, private: set[Path], secrets: dict[str, str]) -> None:
    """Let another user without rights try to open every file, those of Slurm's daemons too."""
    paths = [*files_of(person), *(path for path in cluster.folder.rglob("*") if path.is_file())]
    kept = {name: person.environment[name] for name in ("PATH", "LD_LIBRARY_PATH")}
    stranger = User("nobody", Path("/tmp"), kept, person.python)
    reader = [str(person.python), "-P", "-c", _READER]
    opened = json.loads(stranger.run(*reader, stdin=json.dumps([str(path) for path in paths])))
    assert str(person.home / "running") in opened, "the stranger can read what is open"
    closed = {path for path in paths if path.is_relative_to(person.home / "project")} | private
    closed |= set((person.home / ".local").rglob("*.json"))
    assert {path.suffix for path in closed} >= {".db", ".json", ".token", ".log"}
    assert [str(path) for path in closed if str(path) in opened] == []
    leaks = [(path, which) for path, text in opened.items() for which, it in secrets.items() if it in text]
    assert leaks == []
