"""Cancel requests at every turn of the event loop. The promise: what was begun is whole, and repeats are safe."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lading.api.server_process import ServerOptions
from lading.api.services.sync import sync
from lading.api.services.verify import verify
from lading.toolkit.clock import SystemClock, to_milliseconds
from lading.toolkit.wire.extensions import (
    Ended,
    Free,
    NodeResources,
    RegisterRequest,
    RegisterResponse,
    SyncRequest,
    SyncResponse,
)
from tests.lib.service import Service, running_service

FREE = Free(num_cpus=1, memory_bytes=1 << 30, max_jobs=1)


@pytest.fixture(params=["sqlite", "postgres"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    path = str(tmp_path / "lading.db")
    database = path if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    async with running_service(ServerOptions(database, server_file=tmp_path / "server.json")) as made:
        yield made


def turns() -> Iterator[int]:
    """Every turn at first, where most happens, then ever wider steps."""
    turn = 0
    while True:
        yield turn
        turn += 1 + turn // 30


async def cancelled_after(number: int, work: Awaitable[Any]) -> bool:
    """Run something for so many turns of the loop, then cancel it; return whether it was over by then."""
    task = asyncio.ensure_future(work)
    for _ in range(number):
        await asyncio.sleep(0)
    is_over = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return is_over


class Node:
    """A runner that holds one attempt at a time and forgets every answer but the last."""

    def __init__(self, service: Service, workflow: str) -> None:
        self.service = service
        self.workflow = workflow
        self.seq = 0
        self.token = secrets.token_urlsafe(32)
        self.key = ""

    async def register(self, registration_id: str) -> None:
        request = RegisterRequest(
            registration_id=registration_id,
            session_token=self.token,
            hostname="here",
            pid=1,
            boot_id="",
            resources=NodeResources(num_cpus=1, memory_bytes=1 << 30),
        )
        path = f"/workflows/{self.workflow}/compute_nodes/register"
        answer = await self.service.call("POST", path, data=msgspec.json.encode(request))
        assert answer.status == 200, answer.content
        self.key = msgspec.json.decode(answer.content, type=RegisterResponse).compute_node

    def request(self, **fields: Any) -> SyncRequest:
        self.seq += 1
        return SyncRequest(seq=self.seq, **fields)

    async def by_http(self, request: SyncRequest) -> SyncResponse:
        path = f"/workflows/{self.workflow}/compute_nodes/{self.key}/sync"
        answer = await self.service.call("POST", path, data=msgspec.json.encode(request), token=self.token)
        assert answer.status == 200, answer.content
        return msgspec.json.decode(answer.content, type=SyncResponse)

    async def by_use_case(self, request: SyncRequest) -> SyncResponse:
        now_ms = to_milliseconds(SystemClock().wall())
        work = sync(int(self.workflow), int(self.key), request, newest=True, now_ms=now_ms)
        answer: SyncResponse = await self.service.database.write(work)
        return answer


async def new_workflow(service: Service, jobs: int) -> str:
    document = {
        "name": "turns",
        "jobs": [{"name": f"job{number}", "command": "true"} for number in range(jobs)],
    }
    workflow = await service.ok("POST", "/workflow_specifications", json=document)
    await service.ok("POST", f"/workflows/{workflow['_key']}/start")
    return str(workflow["_key"])


@pytest.mark.parametrize("way", ["by_http", "by_use_case"])
async def test_claims_and_completions(service: Service, way: str) -> None:
    """Claims and ends whose request is cancelled: each job is claimed once, ended once, has one result."""
    workflow = await new_workflow(service, 600)
    node = Node(service, workflow)
    await node.register(secrets.token_hex(16))
    call: Callable[[SyncRequest], Awaitable[SyncResponse]] = getattr(node, way)
    seen: set[str] = set()
    for number in turns():
        claimed = await cancelled_after(number, call(node.request(free=FREE)))
        # Holds nothing, so what a lost answer handed over is handed over again.
        [job] = (await call(node.request(free=FREE))).claims
        assert (job.number, job.job_key in seen) == (1, False)
        seen.add(job.job_key)
        ended = [Ended(attempt_id=job.attempt_id, cause="exit", return_code=0, exec_seconds=0.0)]
        reported = await cancelled_after(number, call(node.request(ended=ended)))
        answer = await call(node.request(ended=ended))
        assert (answer.acknowledged, answer.orders) == ([job.attempt_id], [])
        # A request that was cancelled above goes on, and its claim may be stored only now: a job that
        # has not run yet, which the next turn is handed again.
        assert all(late.job_key not in seen for late in answer.claims)
        if claimed and reported:
            break
    results = await service.ok("GET", f"/workflows/{workflow}/results")
    assert sorted(result["job_key"] for result in results["items"]) == sorted(seen)
    await call(node.request(leave=True))
    assert await verify(service.database) == []


async def test_registrations_and_starts(service: Service) -> None:
    """A registration that is repeated after it was cancelled makes one node; a start leaves a whole workflow."""
    workflow = await new_workflow(service, 3)
    registered = 0
    for number in turns():
        node, registration_id = Node(service, workflow), secrets.token_hex(16)
        first = await cancelled_after(number, node.register(registration_id))
        await node.register(registration_id)
        registered += 1
        started = await cancelled_after(number, service.ok("POST", f"/workflows/{workflow}/start"))
        gone = await cancelled_after(number, node.by_http(node.request(leave=True)))
        if first and started and gone:
            break
    nodes = await service.ok("GET", f"/workflows/{workflow}/compute_nodes")
    assert len(nodes["items"]) == registered
    assert await verify(service.database) == []
    # Nothing holds a lock.
    async with asyncio.timeout(10):
        await service.ok("POST", f"/workflows/{workflow}/start")
