from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from lading.toolkit.private_files import write_private
from lading.toolkit.runner import processes
from lading.toolkit.wire.files import NodeFile, ServerFile
from tests.runner.protocol_server import SERVER_ID, ProtocolServer


@dataclass
class RunningNode:
    """A real guardian with its runner."""

    process: asyncio.subprocess.Process
    tag: str
    output: Path
    log: Path

    @property
    def guardian(self) -> int:
        return self.process.pid

    @property
    def runner(self) -> int:
        lines = [line for line in processes.read_all().values() if line.parent == self.guardian]
        for line in lines:
            command = Path(f"/proc/{line.pid}/cmdline").read_bytes()
            if b"lading.toolkit.runner.node" in command:
                return line.pid
        raise AssertionError(f"no runner among {lines}")

    def marked(self) -> list[int]:
        """Return the processes of jobs that carry this node's mark."""
        mine = {self.guardian}
        return [
            pid
            for pid in processes.marked(processes.ALLOCATION_MARK, self.tag)
            if pid not in mine and processes.ATTEMPT_MARK in processes.environment_of(pid)
        ]

    async def wait(self, seconds: float = 30.0) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@dataclass
class Lab:
    """Starts servers and nodes, and clears away what a failed test leaves."""

    folder: Path
    servers: list[ProtocolServer] = field(default_factory=list)
    nodes: list[RunningNode] = field(default_factory=list)

    async def server(self, **settings: object) -> ProtocolServer:
        server = ProtocolServer(**settings)  # type: ignore[arg-type]
        await server.start()
        self.servers.append(server)
        self.write_server_file(server)
        return server

    def write_server_file(self, server: ProtocolServer, server_id: str = SERVER_ID) -> Path:
        path = self.folder / "server.json"
        document = ServerFile(
            url=server.url, server_id=server_id, pid=os.getpid(), hostname="here", boot_id="", database=""
        )
        write_private(path, msgspec.json.encode(document))
        return path

    async def node(
        self,
        server: ProtocolServer,
        *arguments: str,
        cpus: int = 2,
        environment: dict[str, str] | None = None,
    ) -> RunningNode:
        number = len(self.nodes)
        tag = f"lading-test-{os.getpid()}-{number}-{self.folder.name}"
        output = self.folder / "output"
        output.mkdir(exist_ok=True)
        node_file = self.folder / f"node-{number}.json"
        document = NodeFile(
            url=server.url,
            server_id=SERVER_ID,
            token="node-token",
            workflow="7",
            allocation="a1",
            tag=tag,
            output_directory=str(output),
            working_directory=str(self.folder),
            server_file=str(self.folder / "server.json"),
        )
        write_private(node_file, msgspec.json.encode(document))
        log = self.folder / f"runner-{number}.log"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "lading.toolkit.runner",
            "--node-file", str(node_file), "--cpus", str(cpus), "--memory-bytes", str(1 << 30),
            "--log-file", str(log), *arguments,
            env={**os.environ, "LADING_SECRET_TOKEN": "secret", **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
        node = RunningNode(process, tag, output, log)
        self.nodes.append(node)
        return node

    async def clear(self) -> None:
        for node in self.nodes:
            for pid in processes.marked(processes.ALLOCATION_MARK, node.tag):
                processes.send_signal([pid], signal.SIGKILL)
            if node.process.returncode is None:
                node.process.kill()
                await node.process.wait()
        for server in self.servers:
            await server.stop()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        for node in made.nodes:
            if node.log.exists():
                sys.stdout.write(node.log.read_text())
        await made.clear()


async def eventually(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something outside of our processes' reach: a file, the end of another's process."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
