from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from lading.toolkit.client import server_process
from lading.toolkit.client.server_process import Child
from lading.toolkit.errors import Unavailable
from lading.toolkit.private_files import process_start_ticks

PROGRAM = """
import argparse, os, signal, sys
parser = argparse.ArgumentParser()
parser.add_argument("--mode", default="good")
parser.add_argument("--end-fd", type=int)
parser.add_argument("--ready-fd", type=int)
options = parser.parse_args()
if options.mode == "broken":
    sys.exit("the database is locked by process 12")
if options.mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if options.ready_fd is not None:
    os.write(options.ready_fd, b"http://127.0.0.1:1\\n")
if options.mode == "stubborn":
    while True:
        signal.pause()
os.read(options.end_fd, 1)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stand_in_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "log"


def test_a_child_says_that_it_is_ready_and_ends_with_the_pipe(log: Path) -> None:
    child = Child("stand_in_program", [], log)
    assert child.start(ready=True) == "http://127.0.0.1:1"
    pid = child.pid
    assert os.getsid(pid) == pid
    child.stop()
    assert process_start_ticks(pid) is None


def test_a_child_that_ends_early_is_quoted(log: Path) -> None:
    child = Child("stand_in_program", ["--mode", "broken"], log)
    with pytest.raises(Unavailable, match="locked by process 12"):
        child.start(ready=True)
    assert child.poll() == 1


def test_a_child_that_does_not_go_is_killed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "_TERM_SECONDS", 0.05)
    child = Child("stand_in_program", ["--mode", "stubborn"], log)
    child.start(ready=True)
    pid = child.pid
    child.stop(seconds=0.05)
    assert process_start_ticks(pid) is None


def test_a_child_ends_when_its_parent_is_killed(log: Path) -> None:
    program = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from lading.toolkit.client.server_process import Child\n"
        f"child = Child('stand_in_program', [], Path({str(log)!r}))\n"
        "child.start(ready=True)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess

    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    try:
        descriptor = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    import select

    with os.fdopen(descriptor) as ended:
        assert select.select([ended], [], [], 10)[0]


def test_a_log_is_never_written_through_a_link(log: Path, tmp_path: Path) -> None:
    log.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        Child("stand_in_program", [], log).start(ready=True)
    assert not (tmp_path / "victim").exists()
