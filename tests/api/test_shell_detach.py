"""`lading serve --detach`: a server that outlives the login from which it was started."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest

from lading.toolkit.private_files import process_start_ticks
from tests.lib.waiting import until

LADING = [sys.executable, "-P", "-c", "from lading.toolkit.cli.main import run; run()"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep the state of this test's servers apart, and end what a failed test left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for path in (tmp_path / "state").rglob("servers/*.json"):
        os.kill(orjson.loads(path.read_bytes())["pid"], signal.SIGKILL)


def lading(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LADING, *arguments], capture_output=True, text=True, timeout=120, check=False)


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return lading("serve", "--detach", "--port", "0", "--no-submitter", *arguments)


def test_it_answers_outlives_its_terminal_and_stops(home: Path) -> None:
    database = home / "new" / "project.db"
    # In a terminal of its own, which is closed once the command has returned: a logout.
    pid, terminal = pty.fork()
    if pid == 0:
        command = [*LADING, "serve", "--detach", "--port", "0", "--database", str(database)]
        os.execv(command[0], command)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    record = orjson.loads(next((home / "state").rglob("servers/*.json")).read_bytes())
    server = record["pid"]
    assert os.getsid(server) == server
    os.kill(server, signal.SIGHUP)
    with urlopen(f"{record['url']}/ping", timeout=20) as answer:
        assert answer.status == 200
    log = database.with_name("project.db.log")
    assert log.stat().st_mode & 0o777 == 0o600
    assert record["url"] in log.read_text()
    second = serve("--database", str(database))
    assert second.returncode == 2
    assert f"process id {server}" in second.stderr
    assert record["url"] in second.stderr
    assert lading("stop").returncode == 0
    until(lambda: process_start_ticks(server) is None, 30, "the end of the server")


def test_it_says_in_json_where_it_is(home: Path) -> None:
    outcome = serve("--database", str(home / "x.db"), "--format", "json")
    assert outcome.returncode == 0, outcome.stderr
    told = orjson.loads(outcome.stdout)
    assert process_start_ticks(told["pid"]) is not None
    assert told["log"] == str(home / "x.db.log")
    assert Path(told["server_file"]).is_file()
    assert lading("--server", told["url"], "stop").returncode == 0


def test_one_that_does_not_start_shows_why(home: Path) -> None:
    (home / "x.db.log").write_text("complaints of an older server\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = lading("serve", "--detach", "--port", str(port), "--database", str(home / "x.db"))
    assert outcome.returncode == 2
    assert "cannot listen there" in outcome.stderr
    assert "older server" not in outcome.stderr
    assert str(home / "x.db.log") in outcome.stderr
    assert (home / "x.db.log").stat().st_mode & 0o777 == 0o600
