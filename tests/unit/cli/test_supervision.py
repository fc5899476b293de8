from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lading.toolkit.cli import supervision
from lading.toolkit.cli.run_folder import RunFolder
from lading.toolkit.cli.supervision import MOST_RESTARTS, Interruptions, Supervised
from lading.toolkit.client.server_process import Child
from lading.toolkit.errors import Conflict, Unavailable
from lading.toolkit.private_files import boot_id, make_private_directory, process_start_ticks

PROGRAM = """
import os, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
counter = arguments["--counter"]
with open(counter, "a") as stream:
    stream.write("x")
os.write(int(arguments["--ready-fd"]), b"ready\\n")
if os.path.getsize(counter) <= int(arguments["--deaths"]):
    sys.exit(9)
os.read(int(arguments["--end-fd"]), 1)
"""


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stand_in_service.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 0.001)
    return tmp_path / "counter"


def supervised(counter: Path, deaths: int) -> tuple[Supervised, Child]:
    arguments = ["--counter", str(counter), "--deaths", str(deaths)]
    child = Child("stand_in_service", arguments, counter.with_name("log"))
    return Supervised(child, "service", ready=True), child


async def test_a_child_that_dies_is_started_again(counter: Path) -> None:
    service, child = supervised(counter, 2)
    await service.start()
    async with asyncio.timeout(20):
        while not counter.exists() or counter.stat().st_size < 3:
            await asyncio.sleep(0.01)
    await service.stop()
    assert counter.stat().st_size == 3
    assert child.poll() is None


async def test_a_child_that_always_dies_is_given_up(counter: Path) -> None:
    service, _ = supervised(counter, 1000)
    await service.start()
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match=rf"ended {MOST_RESTARTS + 1} times.*code 9"):
            await service.given_up()
    await service.stop()
    assert counter.stat().st_size == MOST_RESTARTS + 1


async def test_a_start_that_is_cancelled_leaves_no_process(counter: Path) -> None:
    service, child = supervised(counter, 0)
    start = asyncio.create_task(service.start())
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await service.stop()
    assert child.poll() is None


async def test_signals_ask_first_and_then_kill() -> None:
    interruptions = Interruptions()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(interruptions.first.wait(), 5)
        if number == signal.SIGINT:
            assert not interruptions.second.is_set()
    await asyncio.wait_for(interruptions.second.wait(), 5)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.remove_signal_handler(number)


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "output")
    with folder.hold():
        assert folder.private.stat().st_mode & 0o777 == 0o700
        with pytest.raises(Conflict, match=str(os.getpid())), folder.hold():
            pass
    with folder.hold():
        pass


def test_killing_ends_guardians_and_marked_processes_and_no_others(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "output")
    make_private_directory(folder.submitter_state / "local")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    environment = {name: value for name, value in os.environ.items() if name != "LADING_ALLOCATION"}
    guardian = subprocess.Popen(sleep, env=environment)
    job = subprocess.Popen(sleep, env={**environment, "LADING_ALLOCATION": "tag1.0"})
    other = subprocess.Popen(sleep, env={**environment, "LADING_ALLOCATION": "tag1.00"})
    try:
        ticks = process_start_ticks(guardian.pid)
        record = {"pid": guardian.pid, "start_ticks": ticks, "boot_id": boot_id()}
        (folder.submitter_state / "local" / "tag1.0.json").write_bytes(msgspec.json.encode(record))
        stale = {"pid": other.pid, "start_ticks": 1, "boot_id": boot_id()}
        (folder.submitter_state / "local" / "tag0.0.json").write_bytes(msgspec.json.encode(stale))
        folder.kill_runners()
        assert guardian.wait(5) == -signal.SIGTERM
        assert job.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (guardian, job, other):
            process.kill()
            process.wait()
