"""Children that are kept alive, and `lading serve` with its submitter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lading.toolkit import supervise
from lading.toolkit.client import Lading
from lading.toolkit.client.target import Target
from lading.toolkit.private_files import process_start_ticks
from lading.toolkit.supervise import KeptChild

CHILD = """
import os, signal, sys
descriptor = int(sys.argv[sys.argv.index("--end-fd") + 1])
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("begun", os.getpid(), flush=True)
if "deaf" in sys.argv:
    signal.pause()
os.read(descriptor, 1)
print("over", flush=True)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "kept_child_for_tests.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervise, "FIRST_PAUSE_SECONDS", 0.01)
    return "kept_child_for_tests"


async def lines_of(log: Path, number: int) -> list[str]:
    async with asyncio.timeout(30):
        while not log.exists() or len(log.read_text().splitlines()) < number:
            await asyncio.sleep(0.01)
    return log.read_text().splitlines()


async def test_a_child_that_ends_is_started_again_and_told(module: str, tmp_path: Path) -> None:
    problems: list[str | None] = []
    log = tmp_path / "log"
    child = KeptChild(module, [], log, on_problem=problems.append)
    child.start()
    for restart in range(3):
        lines = await lines_of(log, restart + 1)
        pid = int(lines[-1].split()[1])
        assert os.getsid(pid) == pid
        os.kill(pid, signal.SIGKILL)
    await lines_of(log, 4)
    assert problems[0] is not None
    assert "code -9" in problems[0]
    assert problems[-1] is None
    assert child.restarts == 3
    last = child.pid
    await child.stop()
    assert last is not None
    assert process_start_ticks(last) is None
    assert len(log.read_text().splitlines()) in {4, 5}


async def test_a_child_that_does_not_listen_is_killed(module: str, tmp_path: Path) -> None:
    child = KeptChild(module, ["deaf"], tmp_path / "log")
    child.start()
    await lines_of(tmp_path / "log", 1)
    pid = child.pid
    await child.stop(seconds=0.1)
    assert pid is not None
    assert process_start_ticks(pid) is None


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


async def test_serve_says_where_it_is_and_keeps_its_submitter(tmp_path: Path) -> None:
    server_file = tmp_path / "server.json"
    command = [sys.executable, "-P", "-c", "from lading.toolkit.cli.main import run; run()"]
    command += ["serve", "--port", "0"]
    command += ["--database", str(tmp_path / "lading.db"), "--server-file", str(server_file)]
    log = tmp_path / "serve.log"
    serve = start(command, log)
    try:
        async with asyncio.timeout(60):
            while "Lading serves at" not in log.read_text():
                assert serve.poll() is None, log.read_text()
                await asyncio.sleep(0.05)
            target = Target.from_server_file(server_file)
            assert target.url in log.read_text()
            first = await _submitter_of(serve.pid)
            os.kill(first, signal.SIGKILL)
            while await _submitter_of(serve.pid) == first:
                await asyncio.sleep(0.05)
        second = await _submitter_of(serve.pid)

        def stop() -> None:
            with Lading(target) as client:
                client.shutdown()

        await asyncio.to_thread(stop)
        assert await asyncio.to_thread(serve.wait, 30) == 0
        assert process_start_ticks(second) is None
        assert not server_file.exists()
    finally:
        serve.kill()
        serve.wait()


async def _submitter_of(parent: int) -> int:
    """Return the process id of the submitter that is a child of `parent`; waits until there is one."""
    while True:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if process_start_ticks(int(child)) is not None and "lading.toolkit.submitter" in Path(
                f"/proc/{child}/cmdline"
            ).read_text().split("\0"):
                return int(child)
        await asyncio.sleep(0.02)
