"""Submitter processes against a small scripted server: killed at any moment, stopped, moved."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from lading.schedulers.local.processes import kill_marked, marked_processes
from lading.toolkit.wire.files import NodeFile
from tests.schedulers.scripted_server import LEASE, TOKEN, ScriptedServer, until

HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-P", str(HERE / "run_submitter.py")]
MOMENTS = ("answered", "begun", "started", "recorded")


class Bench:
    """A server, its submitters, and what they started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ScriptedServer(folder)
        self.tags: set[str] = set()
        self._processes: list[asyncio.subprocess.Process] = []

    def launch(self, tag: str, **more: int) -> None:
        self.tags.add(tag)
        self.server.launch(tag, **more)

    async def submitter(self, *program: str) -> asyncio.subprocess.Process:
        log = (self.folder / "submitter.log").open("ab")
        with log:
            process = await asyncio.create_subprocess_exec(
                *(program or PROGRAM), str(self.server.file), str(self.folder / "state"), stderr=log
            )
        self._processes.append(process)
        return process

    def starts(self) -> Counter[str]:
        path = self.folder / "output" / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(line.split()[2] for line in lines)

    def runners(self, tag: str) -> set[int]:
        return marked_processes([f"{tag}.0"])[f"{tag}.0"]

    async def reaches(self, moment: str, heard: int) -> None:
        """Wait until the submitter that was just started has come to a moment, if it gets there at all."""

        def has_come() -> bool:
            if moment == "answered" or not self.server.launches:
                return len(self.server.requests) > heard
            if moment == "begun":
                return any(launch.state == "submitting" for launch in self.server.launches.values())
            if moment == "started":
                return any(self.runners(tag) for tag in self.server.launches)
            records = self.folder / "state" / "backends" / "local"
            return any((records / f"{tag}.0.json").exists() for tag in self.server.launches)

        with suppress(TimeoutError):
            await until(has_come, 2.0)

    def kill_launched(self, chance: random.Random) -> None:
        """Kill about half of the runners whose launch is through."""
        for tag in sorted(self.tags):
            row = self.server.rows.get(f"row-{tag}")
            if row is not None and row.external_id and chance.random() < 0.5:
                kill_marked([f"{tag}.0"], 5.0)

    async def close(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await self.server.stop()
        assert kill_marked([f"{tag}.0" for tag in self.tags], 5.0) == {}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.server.start()
    yield made
    await made.close()


async def test_launches_observes_and_leaves(bench: Bench) -> None:
    bench.launch("one")
    process = await bench.submitter()
    await until(lambda: bench.server.rows["row-one"].external_id)
    node_file = bench.folder / "state" / "nodes" / "one.0.json"
    assert node_file.stat().st_mode & 0o777 == 0o600
    document = msgspec.json.decode(node_file.read_bytes(), type=NodeFile)
    assert (document.token, document.allocation, document.workflow) == ("for-row-one", "row-one", "7")
    assert document.server_file == str(bench.server.file)
    kinds = [report.kind for request in bench.server.requests for report in request.launches]
    assert kinds == ["begun", "submitted"]
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert bench.server.requests[-1].leave
    assert bench.runners("one"), "runners outlive the submitter"
    # The next one gets the lease at once, sees the end, and closes the row.
    await bench.submitter()
    kill_marked(["one.0"], 5.0)
    await until(lambda: "row-one" in bench.server.ended)
    await until(lambda: not node_file.exists())
    assert TOKEN not in (bench.folder / "submitter.log").read_text()


async def test_cancel_reaches_the_runner(bench: Bench) -> None:
    bench.launch("gone")
    await bench.submitter()
    await until(lambda: bench.server.rows["row-gone"].external_id)
    bench.server.cancel("row-gone")
    # The guardian leaves at TERM; the job it left behind is killed when its time to report is over.
    await until(lambda: "row-gone" in bench.server.ended)
    assert bench.runners("gone") == set()


async def test_server_that_moved_with_a_new_token_is_followed(bench: Bench) -> None:
    await bench.submitter()
    await until(lambda: bench.server.requests)
    await bench.server.stop()
    bench.server.token = "another-token"
    await bench.server.start()
    bench.launch("late")
    await until(lambda: bench.server.rows["row-late"].external_id)


async def test_second_submitter_waits_for_the_lease(bench: Bench) -> None:
    first, second = await bench.submitter(), await bench.submitter()
    await until(lambda: len({request.holder for request in bench.server.requests}) == 2)
    bench.launch("only")
    await until(lambda: bench.server.rows["row-only"].external_id)
    assert bench.starts() == {"only.0": 1}
    assert first.returncode is second.returncode is None


async def test_idle_submitter_is_quiet(bench: Bench) -> None:
    """A row that is open makes no server answer in circles."""
    bench.launch("calm")
    await bench.submitter()
    await until(lambda: bench.server.rows["row-calm"].external_id)
    await until(lambda: bench.server.requests[-1].wait > 0)
    before = len(bench.server.requests)
    await asyncio.sleep(3 * LEASE / 4)
    assert len(bench.server.requests) - before <= 5


@pytest.mark.parametrize("seed", range(2))
async def test_killed_at_any_moment_never_starts_two_runners_of_a_tag(bench: Bench, seed: int) -> None:
    """Promise 1: a submitter killed between any two steps launches each tag once."""
    chance = random.Random(seed)
    for number in range(12):
        if number % 2 == 0:
            bench.launch(f"tag{number}", num_cpus=1)
        process = await bench.submitter()
        await bench.reaches(chance.choice(MOMENTS), len(bench.server.requests))
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.005, 0.02, 0.05, 0.1]))
        process.kill()
        await process.wait()
        bench.server.forget_lease()
        bench.kill_launched(chance)
    await bench.submitter()

    def all_launched() -> bool:
        # The host has CPUs for a few at a time only, so the earlier ones have to go.
        bench.kill_launched(chance)
        return not bench.server.launches

    await until(all_launched, 60.0)
    assert bench.server.errors == []
    assert set(bench.starts()) == {f"{tag}.0" for tag in bench.tags}
    assert set(bench.starts().values()) == {1}


async def test_real_program_stops_at_the_end_of_its_pipe(bench: Bench) -> None:
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    with (bench.folder / "submitter.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "lading.toolkit.submitter",
            "--server-file", str(bench.server.file), "--state-directory", str(bench.folder / "state"),
            "--ready-fd", str(ready_write), "--end-fd", str(end_read),
            stderr=log, pass_fds=(ready_write, end_read),
        )  # fmt: skip
    bench._processes.append(process)
    os.close(ready_write)
    os.close(end_read)
    line = await asyncio.get_running_loop().run_in_executor(None, os.read, ready_read, 100)
    os.close(ready_read)
    assert line == b"ready\n"
    assert process.returncode is None
    assert bench.server.requests[0].backends == ["local"]
    os.close(end_write)
    assert await asyncio.wait_for(process.wait(), 15) == 0
    assert bench.server.requests[-1].leave
    first = json.loads((bench.folder / "submitter.log").read_text().splitlines()[0])
    assert "can be used" in first["message"]


async def test_missing_server_file_is_a_clear_error(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "lading.toolkit.submitter",
        "--server-file", str(tmp_path / "none.json"), "--state-directory", str(tmp_path / "state"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert f"there is no {tmp_path / 'none.json'}".encode() in errors
    assert b"Traceback" not in errors


async def test_backend_that_cannot_be_imported_does_not_stop_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend whose libraries are missing is left out; asked for by name, it is refused with the remedy."""
    metadata = bench.folder / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[lading.schedulers]\nbroken = nowhere.at_all:Backend\n")
    paths = [str(bench.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    program = [
        sys.executable,
        "-P",
        "-m",
        "lading.toolkit.submitter",
        "--server-file",
        str(bench.server.file),
    ]
    program += ["--state-directory", str(bench.folder / "state")]
    with (bench.folder / "submitter.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*program, stderr=log)
    bench._processes.append(process)
    await until(lambda: bench.server.requests)
    assert "broken" not in bench.server.requests[0].backends
    assert "local" in bench.server.requests[0].backends
    named = await asyncio.create_subprocess_exec(
        *program, "--backend", "broken", stderr=asyncio.subprocess.PIPE
    )
    _, errors = await named.communicate()
    assert named.returncode == 2
    assert b"cannot be loaded: No module named 'nowhere'" in errors
    assert b"Traceback" not in errors
