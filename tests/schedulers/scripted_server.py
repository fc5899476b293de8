"""A small real server that speaks the submitter's protocol."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import web

from lading.toolkit.private_files import boot_id, write_private
from lading.toolkit.wire.files import ServerFile
from lading.toolkit.wire.submissions import (
    Launch,
    LaunchReport,
    NodeTokenResponse,
    OpenAllocation,
    SubmitterSyncRequest,
    SubmitterSyncResponse,
)

LEASE = 4.0
TOKEN = "a-token-of-the-owner"


class ScriptedServer:
    """Speaks the submitter's protocol; keeps launches, rows and the lease as the real one does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "server.json"
        self.launches: dict[str, Launch] = {}
        self.rows: dict[str, OpenAllocation] = {}
        self.ended: dict[str, str] = {}
        self.requests: list[SubmitterSyncRequest] = []
        self.errors: list[str] = []
        self.refused = 0
        self.token = TOKEN
        self._holder, self._lease_until = "", 0.0
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/submitter/sync", self._sync)
        application.router.add_post(
            "/workflows/{workflow}/scheduled_compute_nodes/{key}/node_token", self._node_token
        )
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        token_file = self.folder / "token"
        write_private(token_file, self.token.encode())
        document = ServerFile(
            url=f"http://127.0.0.1:{port}", server_id="server-1", pid=os.getpid(), hostname="here",
            boot_id=boot_id(), database="none", token_file=str(token_file),
        )  # fmt: skip
        write_private(self.file, msgspec.json.encode(document))

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def launch(self, tag: str, *, num_cpus: int = 1) -> None:
        key = f"row-{tag}"
        self.launches[tag] = Launch(
            tag=tag, backend="local", workflow="7", config_id="local_schedulers/1",
            config={"num_cpus": num_cpus}, count=1, state="stored", allocations=[key],
            working_directory=str(self.folder), output_directory=str(self.folder / "output"),
        )  # fmt: skip
        self.rows[key] = OpenAllocation(
            allocation=key, workflow="7", backend="local", tag=tag, state="uninitialized"
        )
        self.wake()

    def take_back(self, allocation: str) -> None:
        self.rows[allocation] = msgspec.structs.replace(self.rows[allocation], take_back=True)

    def cancel(self, allocation: str) -> None:
        self.rows[allocation] = msgspec.structs.replace(self.rows[allocation], cancel=True)
        self.wake()

    def forget_lease(self) -> None:
        """Let the next submitter in at once, as if the lease had ended."""
        self._lease_until = 0.0

    def launch_reports(self) -> list[LaunchReport]:
        return [report for request in self.requests for report in request.launches]

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sync(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            self.refused += 1
            return web.json_response({"error": True, "code": 401, "errorMessage": "no"}, status=401)
        message = msgspec.json.decode(await request.read(), type=SubmitterSyncRequest)
        self.requests.append(message)
        now = asyncio.get_running_loop().time()
        if self._holder not in {"", message.holder} and now < self._lease_until:
            return _answer(SubmitterSyncResponse(granted=False, lease_seconds=LEASE))
        self._holder, self._lease_until = message.holder, now + LEASE
        if message.leave:
            self._holder = ""
        self._take_in(message)
        if message.wait:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), message.wait)
        return _answer(
            SubmitterSyncResponse(
                granted=True,
                lease_seconds=LEASE,
                launches=list(self.launches.values()),
                allocations=list(self.rows.values()),
            )
        )

    def _take_in(self, message: SubmitterSyncRequest) -> None:
        for report in message.launches:
            launch = self.launches.get(report.tag)
            if launch is None:
                continue
            if report.kind == "begun":
                self.launches[report.tag] = msgspec.structs.replace(launch, state="submitting")
            elif report.kind == "submitted":
                del self.launches[report.tag]
                key = launch.allocations[0]
                self.rows[key] = msgspec.structs.replace(
                    self.rows[key], state="pending", external_id=report.external_ids[0]
                )
            elif report.kind == "failed":
                self.errors.append(report.error)
                del self.launches[report.tag]
        for seen in message.allocations:
            if seen.state == "ended" and seen.allocation in self.rows:
                assert seen.proof_of_death
                self.ended[seen.allocation] = seen.reason
                del self.rows[seen.allocation]

    async def _node_token(self, request: web.Request) -> web.Response:
        return _answer(NodeTokenResponse(token=f"for-{request.match_info['key']}", server_id="server-1"))


def _answer(document: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
