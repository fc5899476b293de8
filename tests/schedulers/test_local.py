"""The local backend against real processes: one runner per row, and proof of death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lading.schedulers.local import LocalBackend
from lading.schedulers.local.processes import kill_marked, marked_processes
from lading.toolkit.backends import Backend, LaunchRequest, ObservedState, load_backend
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import CapacityError, PermanentError
from lading.toolkit.private_files import boot_id, process_start_ticks

STAND_IN = [sys.executable, str(Path(__file__).with_name("stand_in_runner.py"))]
CPUS = len(os.sched_getaffinity(0))


class Bench:
    """A state directory and what was launched from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.starts = folder / "starts"
        self.tags: list[tuple[str, int]] = []

    def request(self, tag: str, count: int = 1, **orders: Any) -> LaunchRequest:
        config = orders.pop("config", {})
        parameters = orders.pop("parameters", {})
        files = []
        for index in range(count):
            path = self.folder / f"node.{tag}.{index}.json"
            path.write_text(json.dumps({"starts": str(self.starts), **orders}))
            files.append(path)
        self.tags.append((tag, count))
        return LaunchRequest(
            tag=tag,
            config=config,
            node_files=files,
            output_directory=self.folder / "output",
            working_directory=self.folder,
            state_directory=self.folder / "state",
            parameters=parameters,
        )

    def started(self) -> list[list[str]]:
        return [line.split() for line in self.starts.read_text().splitlines()] if self.starts.exists() else []

    def said(self, tag: str, index: int = 0) -> dict[str, Any]:
        log = self.folder / "output" / f"runner_{tag}_{index}.log"
        document: dict[str, Any] = json.loads(await_value(lambda: log.read_text().strip()).splitlines()[0])
        return document

    def markers(self) -> list[str]:
        return [f"{tag}.{index}" for tag, count in self.tags for index in range(count)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    assert kill_marked(made.markers(), 5.0) == {}


@pytest.fixture
def backend() -> Iterator[LocalBackend]:
    made = LocalBackend(STAND_IN, last_words_seconds=0.0)
    yield made
    for child in made._children.values():
        child.kill()
        child.wait()


Value = TypeVar("Value")


def await_value(look: Callable[[], Value], seconds: float = 10.0) -> Value:
    deadline = time.monotonic() + seconds
    while True:
        value = look()
        if value or time.monotonic() > deadline:
            assert value, "the condition did not come true in time"
            return value
        time.sleep(0.01)


def pid_of(external_id: str) -> int:
    return int(external_id.split(":")[3])


def test_is_found_by_its_entry_point() -> None:
    backend = load_backend("local")
    assert isinstance(backend, Backend)
    assert backend.probe().available
    assert str(CPUS) in backend.probe().reason


def test_submit_starts_one_runner_per_row_and_repeats_nothing(bench: Bench, backend: LocalBackend) -> None:
    request = bench.request("t1", count=CPUS)
    first = backend.submit(request)
    assert [allocation.index for allocation in first] == list(range(CPUS))
    assert backend.submit(request) == first
    assert backend.find(request) == first
    assert LocalBackend(STAND_IN).submit(request) == first
    assert len(bench.started()) == CPUS
    assert {entry[2] for entry in bench.started()} == set(bench.markers())


def test_command_line_and_environment(
    bench: Bench, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADING_TOKEN", "secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    request = bench.request(
        "t2", config={"num_cpus": 1, "memory": "512m"}, parameters={"max_parallel_jobs": 3}
    )
    backend.submit(request)
    said = bench.said("t2")
    assert said["environment"] == {"LADING_ALLOCATION": "t2.0"}
    assert said["cwd"] == str(bench.folder)
    flags = dict(zip(said["argv"][::2], said["argv"][1::2], strict=True))
    assert flags["--cpus"] == "1"
    assert flags["--memory-bytes"] == str(512 * 2**20)
    assert flags["--max-parallel-jobs"] == "3"
    rendered = backend.render(request)
    assert "secret" not in rendered
    assert "--node-file" in rendered
    assert subprocess.run(["bash", "-n", "-c", rendered], check=False).returncode == 0


def test_runner_has_a_session_of_its_own(bench: Bench, backend: LocalBackend) -> None:
    (allocation,) = backend.submit(bench.request("t3"))
    pid = pid_of(allocation.external_id)
    assert os.getsid(pid) == pid


def test_a_row_that_ever_had_a_runner_is_never_launched_again(bench: Bench, backend: LocalBackend) -> None:
    request = bench.request("t4")
    first = backend.submit(request)
    os.kill(pid_of(first[0].external_id), signal.SIGKILL)
    await_value(lambda: backend.observe([first[0].external_id])[0].state is ObservedState.ENDED)
    assert backend.submit(request) == first
    assert len(bench.started()) == 1


def test_finds_a_runner_that_has_not_written_its_record(bench: Bench, backend: LocalBackend) -> None:
    request = bench.request("t5", delay=0.7)
    state = request.state_directory
    state.mkdir(mode=0o700)
    argv = backend.render(request).splitlines()[1].partition(" </dev/null")[0]
    orphan = subprocess.Popen(["bash", "-c", f"exec env {argv}"])
    try:
        await_value(lambda: marked_processes(["t5.0"])["t5.0"])
        (allocation,) = backend.submit(request)
        assert pid_of(allocation.external_id) == orphan.pid
        assert len(bench.started()) == 1
    finally:
        orphan.kill()
        orphan.wait()


def test_dead_guardian_is_buried_with_all_its_processes(bench: Bench, backend: LocalBackend) -> None:
    (allocation,) = backend.submit(bench.request("t6"))
    job = int(bench.started()[0][1])
    assert backend.observe([allocation.external_id])[0].state is ObservedState.ACTIVE
    os.kill(pid_of(allocation.external_id), signal.SIGKILL)
    backend._children["t6.0"].wait()
    (observation,) = backend.observe([allocation.external_id])
    assert observation.state is ObservedState.ENDED
    assert observation.proof_of_death
    assert observation.cause is Cause.INFRASTRUCTURE
    assert process_start_ticks(job) is None
    assert backend._children == {}


def test_runner_of_a_dead_guardian_may_speak_its_last_words(bench: Bench) -> None:
    patient = LocalBackend(STAND_IN, last_words_seconds=3600.0)
    (allocation,) = patient.submit(bench.request("t7"))
    os.kill(pid_of(allocation.external_id), signal.SIGKILL)
    patient._children["t7.0"].wait()
    (observation,) = patient.observe([allocation.external_id])
    assert observation.state is ObservedState.ACTIVE
    assert "guardian is dead" in observation.reason
    assert marked_processes(["t7.0"])["t7.0"]


def test_other_boots_and_hosts() -> None:
    host, boot = socket.gethostname(), boot_id()
    rebooted, elsewhere, gone_elsewhere, nonsense = LocalBackend().observe(
        [
            f"local:{host}:00000000-0000:77:1:tag.0",
            "local:another:00000000-0000:77:1:tag.0",
            f"local:another:{boot}:999999999:1:tag.0",
            "slurm:1234",
        ]
    )
    assert rebooted.state is ObservedState.ENDED
    assert rebooted.proof_of_death
    for observation in (elsewhere, gone_elsewhere, nonsense):
        assert observation.state is ObservedState.UNKNOWN
        assert not observation.proof_of_death
        assert observation.reason


def test_recycled_process_id_is_not_taken_for_the_runner() -> None:
    (observation,) = LocalBackend().observe(
        [f"local:{socket.gethostname()}:{boot_id()}:{os.getpid()}:1:nobody.0"]
    )
    assert observation.state is ObservedState.ENDED


def test_marker_must_match_exactly() -> None:
    process = subprocess.Popen(
        ["sleep", "60"], env={"LADING_ALLOCATION": "abc.10", "OTHER": "LADING_ALLOCATION=abc.1"}
    )
    try:
        await_value(lambda: marked_processes(["abc.10"])["abc.10"])
        assert kill_marked(["abc.1", "abc", "bc.10", ""], 0.1) == {}
        assert process.poll() is None
        assert kill_marked(["abc.10"], 5.0) == {}
        assert process.wait(5) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_never_kills_itself() -> None:
    program = (
        "from lading.schedulers.local.processes import kill_marked\n"
        "assert kill_marked(['self.0'], 0.2) == {}\nprint('alive')"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "LADING_ALLOCATION": "self.0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "alive\n"


def test_cancel_asks_once_then_kills(bench: Bench) -> None:
    backend = LocalBackend(STAND_IN, last_words_seconds=0.0, cancel_grace_seconds=3600.0)
    (kind,) = backend.submit(bench.request("kind", config={"num_cpus": 1}))
    backend.cancel([kind.external_id])
    await_value(lambda: backend.observe([kind.external_id])[0].state is ObservedState.ENDED)
    backend.cancel([kind.external_id])
    (stubborn,) = backend.submit(bench.request("stubborn", config={"num_cpus": 1}, stubborn=True))
    backend.cancel([stubborn.external_id])
    # A submitter that was started anew knows from the note when it was asked.
    LocalBackend(STAND_IN, cancel_grace_seconds=3600.0).cancel([stubborn.external_id])
    assert backend.observe([stubborn.external_id])[0].state is ObservedState.ACTIVE
    LocalBackend(STAND_IN, cancel_grace_seconds=0.0).cancel([stubborn.external_id])
    await_value(lambda: backend.observe([stubborn.external_id])[0].state is ObservedState.ENDED)


def test_runner_that_cannot_begin_is_refused_with_its_last_line(bench: Bench, backend: LocalBackend) -> None:
    with pytest.raises(PermanentError, match=r"exit code 4.*boom: the node file is bad"):
        backend.submit(bench.request("t8", fail=True))
    with pytest.raises(PermanentError, match="cannot be started"):
        LocalBackend(["/nonexistent/runner"]).submit(bench.request("t9"))
    with pytest.raises(PermanentError, match="tag"):
        backend.submit(bench.request("a b"))


def test_host_is_never_given_away_twice(bench: Bench, backend: LocalBackend) -> None:
    (whole,) = backend.submit(bench.request("whole"))
    with pytest.raises(CapacityError, match=f"0 of {CPUS} are free"):
        backend.submit(bench.request("second"))
    with pytest.raises(PermanentError, match=f"this host has {CPUS}"):
        backend.submit(bench.request("many", count=CPUS + 1))
    os.kill(pid_of(whole.external_id), signal.SIGKILL)
    await_value(lambda: backend.observe([whole.external_id])[0].state is ObservedState.ENDED)
    backend.submit(bench.request("shared", count=CPUS))
    argv = bench.said("shared")["argv"]
    assert argv[argv.index("--cpus") + 1] == "1"
    assert ("--memory-bytes" in argv) == (CPUS > 1)


@pytest.mark.parametrize("config", [{"num_cpus": 0}, {"num_cpus": "2"}, {"memory": "1.5g"}])
def test_config_that_cannot_be_read_is_refused(
    config: dict[str, Any], bench: Bench, backend: LocalBackend
) -> None:
    with pytest.raises(PermanentError, match=next(iter(config))):
        backend.submit(bench.request("bad", config=config))
    assert bench.started() == []
