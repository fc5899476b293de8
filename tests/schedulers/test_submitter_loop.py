"""The submitter's loop with a site's own backend that fails in every way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from lading.toolkit.backends import (
    Allocation,
    Availability,
    LaunchRequest,
    Observation,
    ObservedState,
)
from lading.toolkit.errors import PermanentError, TransientError
from lading.toolkit.submitter.connection import Connection
from lading.toolkit.submitter.loop import Submitter
from tests.schedulers.scripted_server import ScriptedServer, until


class SiteBackend:
    """A batch system in memory; `troubles` are raised by the next submissions, `lost` after they launched."""

    kind = "local"
    runs_elsewhere = False
    observe_interval_seconds = 0.05

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.looks = 0
        self.launched: dict[str, Allocation] = {}
        self.troubles: list[Exception] = []
        self.lost: list[Exception] = []
        self.observe_trouble: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def probe(self) -> Availability:
        return Availability(available=True)

    def submit(self, request: LaunchRequest) -> Sequence[Allocation]:
        self.calls.append(f"submit {request.tag}")
        self.gate.wait(20)
        if self.troubles:
            raise self.troubles.pop()
        assert request.tag not in self.launched, "launched twice"
        self.launched[request.tag] = Allocation(f"site:{request.tag}", 0)
        if self.lost:
            raise self.lost.pop()
        return [self.launched[request.tag]]

    def find(self, request: LaunchRequest) -> Sequence[Allocation]:
        self.calls.append(f"find {request.tag}")
        return [self.launched[request.tag]] if request.tag in self.launched else []

    def observe(self, external_ids: Sequence[str]) -> Sequence[Observation]:
        self.looks += 1
        if self.observe_trouble is not None:
            raise self.observe_trouble
        return [Observation(identity, ObservedState.PENDING, "Priority") for identity in external_ids]

    def cancel(self, external_ids: Sequence[str]) -> None:
        self.calls += [f"cancel {identity}" for identity in external_ids]

    def render(self, request: LaunchRequest) -> str:
        return request.tag

    def log_files(self, external_id: str, output_directory: Path) -> Sequence[Path]:
        return [output_directory / external_id]


class Queue(SiteBackend):
    """The same, with a queue."""

    def take_back(self, external_ids: Sequence[str]) -> None:
        self.calls += [f"take back {identity}" for identity in external_ids]


class Bench:
    def __init__(self, folder: Path, backend: SiteBackend | None = None) -> None:
        self.server = ScriptedServer(folder)
        self.backend = backend or SiteBackend()
        self.folder = folder

    async def start(self) -> None:
        await self.server.start()
        connection = Connection(self.server.file)
        self.submitter = Submitter(connection, {"local": self.backend}, self.folder / "state")
        self.running = asyncio.create_task(self.submitter.run())

    async def close(self) -> None:
        self.submitter.stop()
        self.backend.gate.set()
        await self.running
        await self.server.stop()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.start()
    yield made
    await made.close()


async def test_lost_answer_is_followed_by_a_find(bench: Bench) -> None:
    bench.backend.lost = [RuntimeError("the answer was lost")]
    bench.server.launch("a")
    await until(lambda: bench.server.rows["row-a"].external_id == "site:a")
    assert bench.backend.calls == ["submit a", "find a"]
    retries = [report for report in bench.server.launch_reports() if report.kind == "retry"]
    assert [report.error for report in retries] == ["RuntimeError: the answer was lost"]


async def test_weather_is_waited_for(bench: Bench) -> None:
    bench.backend.troubles = [TransientError("slurmctld does not answer")]
    bench.server.launch("b")
    await until(lambda: bench.server.rows["row-b"].external_id == "site:b")
    assert bench.backend.calls == ["submit b", "find b", "submit b"]


async def test_refusal_is_reported_and_not_repeated(bench: Bench) -> None:
    bench.backend.troubles = [PermanentError("invalid account")]
    bench.server.launch("c")
    await until(lambda: bench.server.errors)
    assert bench.server.errors == ["invalid account"]
    assert bench.backend.calls == ["submit c"]


async def test_nodes_of_other_machines_are_not_asked_for_by_a_server_on_loopback(bench: Bench) -> None:
    bench.backend.runs_elsewhere = True
    bench.server.launch("g")
    await until(lambda: bench.server.errors)
    [error] = bench.server.errors
    assert "can reach the server at http://127.0.0.1" in error
    assert "lading serve --host ADDRESS" in error
    assert bench.backend.calls == []


async def test_reason_for_waiting_is_reported_once(bench: Bench) -> None:
    bench.server.launch("d")
    await until(lambda: any(request.allocations for request in bench.server.requests))
    looks = bench.backend.looks
    await until(lambda: bench.backend.looks >= looks + 5)
    reports = [report for request in bench.server.requests for report in request.allocations]
    assert [(report.state, report.reason) for report in reports] == [("pending", "Priority")]


async def test_cancel_passes_a_submission_that_takes_its_time(bench: Bench) -> None:
    bench.server.launch("e")
    await until(lambda: bench.server.rows["row-e"].external_id)
    bench.backend.gate.clear()
    bench.server.launch("slow")
    await until(lambda: "submit slow" in bench.backend.calls)
    bench.server.cancel("row-e")
    await until(lambda: "cancel site:e" in bench.backend.calls)
    assert "slow" not in bench.backend.launched


@pytest.mark.parametrize(("kind", "word"), [(SiteBackend, "cancel"), (Queue, "take back")])
async def test_a_queue_is_asked_to_take_back_and_others_to_cancel(
    tmp_path: Path, kind: type[SiteBackend], word: str
) -> None:
    bench = Bench(tmp_path, kind())
    await bench.start()
    try:
        bench.server.launch("h")
        await until(lambda: bench.server.rows["row-h"].external_id)
        bench.server.take_back("row-h")
        await until(lambda: f"{word} site:h" in bench.backend.calls)
        assert set(bench.backend.calls) == {"submit h", f"{word} site:h"}
        assert bench.server.requests[0].take_back_backends == (["local"] if kind is Queue else [])
    finally:
        await bench.close()


async def test_leaving_reports_what_the_last_call_launched(bench: Bench) -> None:
    bench.backend.gate.clear()
    bench.server.launch("last")
    await until(lambda: "submit last" in bench.backend.calls)
    bench.submitter.stop()
    bench.backend.gate.set()
    assert await bench.running
    assert bench.server.rows["row-last"].external_id == "site:last"
    assert bench.server.requests[-1].leave


async def test_errors_of_observe_open_the_breaker(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.backend.observe_trouble = TransientError("squeue hangs")
    bench.server.launch("f")
    await until(lambda: "errors in a row" in caplog.text)
    assert caplog.text.count("observe failed: squeue hangs") == 5
