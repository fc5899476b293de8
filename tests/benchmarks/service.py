"""A real server process, spoken to over HTTP by a client that starts no processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from lading.toolkit.wire.extensions import (
    Ended,
    Free,
    NodeResources,
    RegisterRequest,
    RegisterResponse,
    SyncRequest,
    SyncResponse,
)

GIBIBYTE = 2**30


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """Start `python -m lading.api` without authentication; yield its URL and process id."""
    folder.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "lading.api", "--database", str(folder / "bench.db")),
            *("--server-file", str(folder / "server.json"), "--port", "0", "--auth", "token"),
            *("--token-file", str(folder / "token"), "--ready-fd", str(writer)),
        ],
        pass_fds=(writer,),
        stdout=subprocess.DEVNULL,
        stderr=(folder / "server.log").open("wb"),
    )
    os.close(writer)
    with os.fdopen(reader) as ready:
        url = ready.readline().strip()
    try:
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(30)


def peak_memory(pid: int) -> int:
    """Return the largest resident size that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@contextlib.asynccontextmanager
async def session(url: str, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    token = (folder / "token").read_text().strip()
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


async def call(client: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with client.request(method, path, json=body) as answer:
        text = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()[:500]}")
        return msgspec.json.decode(text)


async def make_workflow(client: aiohttp.ClientSession, jobs: list[dict[str, Any]]) -> str:
    """Store and start a workflow; return its key."""
    document = {"name": "bench", "jobs": jobs}
    key: str = (await call(client, "POST", "/workflow_specifications", document))["_key"]
    await call(client, "POST", f"/workflows/{key}/start", {})
    return key


def independent(number: int) -> list[dict[str, Any]]:
    return [{"name": f"job{n}", "command": "true"} for n in range(number)]


class Node:
    """A runner without processes: it ends what it claims at once."""

    def __init__(self, client: aiohttp.ClientSession, url: str, workflow: str) -> None:
        self._client, self._url, self._workflow = client, url, workflow
        self._secret = secrets.token_urlsafe(32)
        self._seq = 0
        self.key = ""

    async def register(self) -> None:
        request = RegisterRequest(
            registration_id=secrets.token_hex(8),
            session_token=self._secret,
            hostname="bench",
            pid=os.getpid(),
            boot_id="bench",
            resources=NodeResources(num_cpus=100, memory_bytes=1000 * GIBIBYTE),
        )
        path = f"/workflows/{self._workflow}/compute_nodes/register"
        async with self._client.post(path, data=msgspec.json.encode(request)) as answer:
            self.key = msgspec.json.decode(await answer.read(), type=RegisterResponse).compute_node

    async def sync(self, ended: list[Ended], *, leave: bool = False) -> SyncResponse:
        self._seq += 1
        free = None if leave else Free(num_cpus=100, memory_bytes=1000 * GIBIBYTE)
        request = SyncRequest(seq=self._seq, ended=ended, free=free, leave=leave)
        async with self._client.post(
            f"/workflows/{self._workflow}/compute_nodes/{self.key}/sync",
            data=msgspec.json.encode(request),
            headers={"Authorization": f"Bearer {self._secret}"},
        ) as answer:
            if answer.status != 200:
                raise RuntimeError(await answer.text())
            return msgspec.json.decode(await answer.read(), type=SyncResponse)

    async def run_all(self) -> int:
        """Claim and end jobs until none is left; return how many."""
        done, ended = 0, []
        while True:
            answer = await self.sync(ended)
            done += len(ended)
            if answer.is_complete or not (answer.claims or ended):
                break
            ended = [
                Ended(attempt_id=claim.attempt_id, cause="exit", return_code=0, exec_seconds=0.001)
                for claim in answer.claims
            ]
        await self.sync([], leave=True)
        return done


async def sync_rate(folder: Path, number: int) -> float:
    """Return jobs a second that one node claims and completes by `sync`, without processes."""
    with server(folder) as (url, _):
        async with session(url, folder) as client:
            workflow = await make_workflow(client, independent(number))
            node = Node(client, url, workflow)
            await node.register()
            begin = time.perf_counter()
            done = await node.run_all()
            seconds = time.perf_counter() - begin
            if done != number:
                raise RuntimeError(f"{done} of {number} jobs done")
            return number / seconds


async def endpoint_rate(folder: Path, number: int, clients: int = 4) -> float:
    """Return jobs a second by torc's own endpoints: claim, start, complete, several clients at once."""
    with server(folder) as (url, _):
        async with session(url, folder) as client:
            workflow = await make_workflow(client, independent(number))
            body = {
                "hostname": "bench", "pid": 1, "start_time": "2026-01-01T00:00:00Z",
                "resources": {"num_cpus": 1, "memory_gb": 1},
            }  # fmt: skip
            node = (await call(client, "POST", f"/workflows/{workflow}/compute_nodes", body))["_key"]
            begin = time.perf_counter()
            await asyncio.gather(*(_torc_worker(client, workflow, node) for _ in range(clients)))
            return number / (time.perf_counter() - begin)


async def _torc_worker(client: aiohttp.ClientSession, workflow: str, node: str) -> None:
    base = f"/workflows/{workflow}"
    while jobs := (await call(client, "POST", f"{base}/prepare_next_jobs_for_submission?limit=10"))["jobs"]:
        for job in jobs:
            path = f"{base}/jobs/{job['_key']}"
            started = await call(client, "PUT", f"{path}/start_job/{job['_rev']}/1/{node}")
            result = {
                "job_key": job["_key"], "run_id": 1, "return_code": 0, "exec_time_minutes": 0.1,
                "completion_time": "2026-01-01T00:00:00Z", "status": "done",
            }  # fmt: skip
            await call(client, "POST", f"{path}/complete_job/done/{started['_rev']}/1/{node}", result)


async def large_workflow(folder: Path, number: int) -> dict[str, float]:
    """Create and start many jobs, then read them as a person would."""
    figures: dict[str, float] = {}
    with server(folder) as (url, pid):
        async with session(url, folder) as client:
            begin = time.perf_counter()
            workflow = await make_workflow(client, independent(number))
            figures["create_seconds"] = time.perf_counter() - begin
            figures["peak_megabytes"] = peak_memory(pid) / 1e6
            path = f"/workflows/{workflow}"
            pages = [f"{path}/jobs?skip={page * 7919 % number}&limit=100" for page in range(60)]
            figures["page_p95_ms"] = await slowest(client, pages)
            in_order = [f"{page}&sort_by=status,name" for page in pages]
            figures["sorted_page_p95_ms"] = await slowest(client, in_order)
            figures["status_p95_ms"] = await slowest(client, [f"{path}/progress"] * 60)
    return figures


async def slowest(client: aiohttp.ClientSession, paths: Sequence[str]) -> float:
    """Get each once; return the 95th percentile in milliseconds."""
    took = []
    for path in paths:
        begin = time.perf_counter()
        await call(client, "GET", path)
        took.append(1000 * (time.perf_counter() - begin))
    return statistics.quantiles(took, n=20)[-1]
