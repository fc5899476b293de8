"""A real HTTP server that speaks the runner's protocol over a list of jobs, and remembers everything."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from lading.toolkit.wire.extensions import (
    ClaimedJob,
    CompletionScript,
    CompletionScriptReport,
    Ended,
    Order,
    RegisterRequest,
    RegisterResponse,
    SyncRequest,
    SyncResponse,
)

SERVER_ID = "server-of-the-tests"


@dataclass
class ProtocolServer:
    lease_seconds: float = 20.0
    config: dict[str, Any] = field(default_factory=dict)
    end_seconds: float | None = None
    stays_open: bool = False
    """The workflow is not called complete even when nothing is left."""
    completion_script: str | None = None
    on_ended: Callable[[Ended], None] = lambda _ended: None

    def __post_init__(self) -> None:
        self.ready: deque[ClaimedJob] = deque()
        self.outstanding: dict[str, ClaimedJob] = {}
        self.holder: dict[str, str] = {}
        self.claimed: list[str] = []
        self.ended: dict[str, list[Ended]] = {}
        self.returned: list[str] = []
        self.started: dict[str, float] = {}
        self.orders: list[Order] = []
        self.acknowledged_orders: list[str] = []
        self.requests: list[tuple[float, SyncRequest]] = []
        self.registrations: list[RegisterRequest] = []
        self.tokens: set[str] = set()
        self.left = asyncio.Event()
        self.fenced = False
        self.lose_answers = 0
        self.script_claims = 0
        self.script_reports: list[CompletionScriptReport] = []
        self.newest_seq: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self.port = 0

    # ---- its life ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/workflows/{workflow}/compute_nodes/register", self._register)
        application.router.add_post("/workflows/{workflow}/compute_nodes/{node}/sync", self._sync)
        node = "/workflows/{workflow}/compute_nodes/{node}"
        application.router.add_post(f"{node}/claim_completion_script", self._claim_script)
        application.router.add_post(f"{node}/report_completion_script", self._report_script)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # ---- what a test does --------------------------------------------------------------------

    def job(self, command: str, **fields: Any) -> ClaimedJob:
        number = next(self._numbers)
        fields = {"job_key": str(number), "run_id": 1, "number": 1, "memory_bytes": 1 << 20, **fields}
        return ClaimedJob(attempt_id=f"attempt-{number}", command=command, **fields)

    async def add(self, *jobs: ClaimedJob) -> None:
        self.ready.extend(jobs)
        await self.wake()

    async def wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait until something is true of this server."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def result(self, job: ClaimedJob) -> Ended:
        ends = self.ended[job.attempt_id]
        assert len({(end.cause, end.return_code, end.status) for end in ends}) == 1, ends
        return ends[-1]

    @property
    def is_complete(self) -> bool:
        return not self.ready and not self.outstanding and not self.stays_open

    # ---- the protocol ------------------------------------------------------------------------

    async def _register(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer node-token"
        document = msgspec.json.decode(await request.read(), type=RegisterRequest)
        self.registrations.append(document)
        self.tokens.add(document.session_token)
        answer = RegisterResponse(
            workflow="7",
            compute_node=f"n{len(self.registrations)}",
            lease_seconds=self.lease_seconds,
            run_id=1,
            server_id=SERVER_ID,
            config=self.config,
            end_seconds=self.end_seconds,
        )
        await self.wake()
        return _json(answer)

    async def _sync(self, request: web.Request) -> web.Response:
        sync = msgspec.json.decode(await request.read(), type=SyncRequest)
        assert request.headers["Authorization"].removeprefix("Bearer ") in self.tokens
        self.requests.append((time.clock_gettime(time.CLOCK_BOOTTIME), sync))
        if self.fenced:
            body = {"error": True, "errorNum": 1, "errorMessage": "not yours", "code": 409, "type": "fenced"}
            return web.json_response(body, status=409)
        node = request.match_info["node"]
        self.newest_seq[node] = max(self.newest_seq.get(node, 0), sync.seq)
        self._take_reports(node, sync)
        await self.wake()
        if self.lose_answers:
            self.lose_answers -= 1
            assert request.transport is not None
            request.transport.close()
        answer = self._answer(node, sync)
        if not _has_report(sync) and not sync.leave and sync.wait and not answer.claims and not answer.orders:
            answer = await self._wait(node, sync)
        if sync.leave:
            self.left.set()
        await self.wake()
        return _json(answer)

    async def _claim_script(self, request: web.Request) -> web.Response:
        assert request.headers["Idempotency-Key"]
        script = self.completion_script if self.is_complete and not self.script_claims else None
        self.script_claims += 1
        return _json(CompletionScript(run_id=1, script=script))

    async def _report_script(self, request: web.Request) -> web.Response:
        report = msgspec.json.decode(await request.read(), type=CompletionScriptReport)
        self.script_reports.append(report)
        return _json(report)

    async def _wait(self, node: str, sync: SyncRequest) -> SyncResponse:
        answer: SyncResponse | None = None

        def has_news() -> bool:
            nonlocal answer
            if self.newest_seq[node] > sync.seq:
                answer = self._response(sync)
                return True
            answer = self._answer(node, sync)
            return bool(answer.claims or answer.orders or answer.is_complete)

        try:
            async with asyncio.timeout(sync.wait), self._changed:
                await self._changed.wait_for(has_news)
        except TimeoutError:
            answer = self._response(sync)
        assert answer is not None
        return answer

    def _take_reports(self, node: str, sync: SyncRequest) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for started in sync.started:
            self.started.setdefault(started.attempt_id, now)
        for ended in sync.ended:
            self.ended.setdefault(ended.attempt_id, []).append(ended)
            if self.outstanding.pop(ended.attempt_id, None):
                self.on_ended(ended)
        for attempt in sync.returned:
            if job := self.outstanding.pop(attempt, None):
                self.returned.append(attempt)
                self.ready.appendleft(msgspec.structs.replace(job, attempt_id=f"{attempt}+"))
        self.acknowledged_orders += sync.acknowledged_orders
        for order in list(self.orders):
            over = order.kind == "kill" and all(name in self.ended for name in order.attempts)
            if over or order.id in sync.acknowledged_orders:
                self.orders.remove(order)
        if sync.leave:
            for name in [name for name in self.outstanding if self.holder[name] == node]:
                job = self.outstanding.pop(name)
                self.ready.append(msgspec.structs.replace(job, attempt_id=f"{name}+"))

    def _answer(self, node: str, sync: SyncRequest) -> SyncResponse:
        answer = self._response(sync)
        known = {*sync.held, *sync.returned, *(ended.attempt_id for ended in sync.ended)}
        if not sync.leave:
            answer.claims = [
                job
                for name, job in self.outstanding.items()
                if name not in known and self.holder[name] == node
            ]
        if sync.free is not None and sync.seq == self.newest_seq[node]:
            cpus, memory = sync.free.num_cpus, sync.free.memory_bytes
            most = len(self.ready) if sync.free.max_jobs is None else sync.free.max_jobs
            for job in list(self.ready):
                per_job = sync.free.job_num_cpus or sync.free.num_cpus
                if most <= 0 or job.num_cpus > min(cpus, per_job) or job.memory_bytes > memory:
                    continue
                if job.num_gpus > sync.free.num_gpus:
                    continue
                cpus, memory, most = cpus - job.num_cpus, memory - job.memory_bytes, most - 1
                self.ready.remove(job)
                self.outstanding[job.attempt_id] = job
                self.holder[job.attempt_id] = node
                self.claimed.append(job.attempt_id)
                answer.claims.append(job)
        answer.orders = list(self.orders)
        answer.num_ready = len(self.ready)
        answer.is_complete = self.is_complete
        answer.has_completion_script = bool(
            self.completion_script and self.is_complete and not self.script_claims
        )
        return answer

    def _response(self, sync: SyncRequest) -> SyncResponse:
        return SyncResponse(
            seq=sync.seq,
            lease_seconds=self.lease_seconds,
            run_id=1,
            acknowledged=[*(ended.attempt_id for ended in sync.ended), *sync.returned],
            num_ready=len(self.ready),
            is_complete=self.is_complete,
            has_completion_script=bool(
                self.completion_script and self.is_complete and not self.script_claims
            ),
        )


def _has_report(sync: SyncRequest) -> bool:
    return bool(sync.ended or sync.started or sync.returned or sync.acknowledged_orders)


def _json(document: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")
