"""A whole run as a user without any rights, among others who look everywhere they can."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.lib.repository import ROOT
from tests.lib.waiting import until
from tests.slurm.conftest import Cluster
from tests.slurm.host import document
from tests.slurm.people import PASSWORD, User, at_home

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


_TOKEN_LENGTHS = (43, 50)
"""Of 32 random bytes in letters: a node's session, and what has our prefix."""


@pytest.fixture
def person(on_b: Cluster, guest: str, open_python: Path) -> Iterator[User]:
    with at_home(guest, open_python) as user:
        yield user


@pytest.fixture
def person_on_a(on_a: Cluster, guest: str, open_python: Path) -> Iterator[User]:
    with at_home(guest, open_python) as user:
        yield user


def test_a_run_without_rights_tells_nothing_to_others(on_b: Cluster, person: User) -> None:
    tell_nothing(on_b, person, "--detach", "--host", on_b.address, "--port", "0", "--plain-http")


def test_a_server_in_slurm_tells_nothing_to_others(on_a: Cluster, person_on_a: User) -> None:
    # The guest of cluster B may not have three jobs.
    tell_nothing(on_a, person_on_a, "--in-slurm", "workflow.json")


def tell_nothing(cluster: Cluster, person: User, *how: str) -> None:
    write_workflow(person)
    database = person.home / "project" / "lading.db"
    server = person.lading("serve", *how, "--database", str(database))
    record = json.loads(Path(server["server_file"]).read_text())
    try:
        key = str(person.lading("submit-workflow", "workflow.json")["_key"])
        until((person.home / "running").exists, 90.0, "the job runs", pause=0.2)
        private = private_files(person, record)
        shown = shown_while_it_runs(cluster)
        assert "lading.toolkit.runner" in shown["batch scripts"]
        assert f"pid {record['pid']} " in shown["command lines"]
        shown |= opened_by_a_stranger(cluster, person, private)
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
        # The owner's, of the node's file, and of the session that it opened.
        hashes = token_hashes(database)
        assert len(hashes) >= 3
        assert tokens_in(Path(record["token_file"]).read_text(), hashes), "the search finds what is there"
        leaks = [name for name, text in shown.items() if PASSWORD in text or tokens_in(text, hashes)]
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


def write_workflow(person: User) -> None:
    waits = "bash -c 'touch running; until [ -e go ]; do sleep 0.1; done'"
    made = document(
        [{"name": "shows", "command": "env"}, {"name": "waits", "command": waits}], cpus=2, mem="500M"
    )
    (person.home / "workflow.json").write_text(json.dumps(made))


def private_files(person: User, record: dict[str, Any]) -> set[Path]:
    """Return the files that hold secrets: the owner's token, what opens the registration of nodes, keys."""
    project = person.home / "project"
    nodes = list((project / ".lading-submitter" / "nodes").iterdir())
    assert len(nodes) == 1
    return {Path(record["token_file"]), *nodes, *project.rglob("key.pem")}


def shown_while_it_runs(cluster: Cluster) -> dict[str, str]:
    """Return what everybody, or Slurm, is told of all jobs and processes."""
    jobs = [line.split()[0] for line in cluster.queue()]
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {
        "scontrol show job": cluster.run("scontrol", "show", "job", "-dd"),
        "batch scripts": "".join(cluster.run("scontrol", "write", "batch_script", job, "-") for job in jobs),
        "command lines": "".join(f"pid {path.name} {read(path / 'cmdline')}\n" for path in processes),
        # The environments with which sbatch was called, as the controller keeps them.
        **{str(path): read(path) for path in cluster.folder.rglob("state/**/environment")},
        **{str(path): read(path) for path in cluster.folder.rglob("state/**/script")},
    }


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except OSError:
        # A process that has just ended.
        return ""


def token_hashes(database: Path) -> set[str]:
    """Return what the server knows all its tokens by that are in use."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT hash FROM token WHERE revoked_ms IS NULL").fetchall()
    return {row[0] for row in rows}


def tokens_in(text: str, hashes: set[str]) -> bool:
    """Say whether a text holds one of the tokens, wherever in it: their hashes are all that is known."""
    for run in re.findall(rf"[A-Za-z0-9_-]{{{min(_TOKEN_LENGTHS)},}}", text):
        for length in _TOKEN_LENGTHS:
            windows = (run[begin : begin + length] for begin in range(len(run) - length + 1))
            if any(sha256(window.encode()).hexdigest() in hashes for window in windows):
                return True
    return False


def files_of(person: User) -> list[Path]:
    """Return every file of that user, wherever everybody may write."""
    command = ["find", "/tmp", "/var/tmp", "/dev/shm", "-type", "f", "-user", person.name]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [path for line in listed.splitlines() if (path := Path(line)).is_file()]


def opened_by_a_stranger(cluster: Cluster, person: User, private: set[Path]) -> dict[str, str]:
    """Let another user without rights try to open every file, those of Slurm's daemons too; return what was read."""
    paths = [*files_of(person), *(path for path in cluster.folder.rglob("*") if path.is_file())]
    kept = {name: person.environment[name] for name in ("PATH", "LD_LIBRARY_PATH")}
    stranger = User("nobody", Path("/tmp"), kept, person.python)
    reader = [str(person.python), "-P", "-c", _READER]
    opened: dict[str, str] = json.loads(
        stranger.run(*reader, stdin=json.dumps([str(path) for path in paths]))
    )
    assert str(person.home / "running") in opened, "the stranger can read what is open"
    closed = {path for path in paths if path.is_relative_to(person.home / "project")} | private
    closed |= set((person.home / ".local").rglob("*.json"))
    assert {path.suffix for path in closed} >= {".db", ".json", ".token", ".log"}
    assert [str(path) for path in closed if str(path) in opened] == []
    return opened
