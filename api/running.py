"""What `lading serve` runs, in the foreground, detached or in a job of Slurm: a server and its submitter."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import uvloop

from lading.api.server_process import Server, ServerOptions, serving, stop_on_signals
from lading.api.storage.opening import is_postgres, sqlite_path
from lading.toolkit.private_files import make_private_directory
from lading.toolkit.settings import state_directory
from lading.toolkit.supervise import KeptChild


def run_server(serving_it: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine of a server on the loop that suits it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving_it)


async def serve_until_stopped(
    options: ServerOptions,
    server_file: Path,
    on_ready: Callable[[Server], None],
    *,
    no_submitter: bool,
    beside: Callable[[Server], AbstractAsyncContextManager[None]] = lambda _server: nullcontext(),
) -> None:
    """Serve until a signal or a person says stop; `beside` is entered as long as the server answers."""
    async with serving(options) as server:
        stop_on_signals(server)
        child = None if no_submitter else _submitter(server, options, server_file)
        try:
            async with beside(server):
                on_ready(server)
                await server.stop.wait()
        finally:
            # Before the server: its last call gives its lease back.
            if child is not None:
                await child.stop()


def greeting(server: Server, options: ServerOptions) -> str:
    """Say where a server is found, and how others reach it."""
    token = f" --token-file {options.token_file}" if server.token else ""
    database = server.services.database.url.removeprefix("sqlite://")
    return (
        f"Lading serves at {server.url}, database {database}; your commands on this machine find it, "
        f"others take: lading --server {server.url}{token}"
    )


def _submitter(server: Server, options: ServerOptions, server_file: Path) -> KeptChild:
    if is_postgres(options.database):
        folder = state_directory() / "submitters" / server.services.server_id
    else:
        folder = sqlite_path(options.database).parent / ".lading-submitter"
    make_private_directory(folder)

    def on_problem(problem: str | None) -> None:
        if problem is None:
            server.state.degraded.pop("submitter", None)
        else:
            server.state.degraded["submitter"] = problem

    arguments = ["--server-file", str(server_file.absolute()), "--state-directory", str(folder)]
    log_file = folder / "submitter.log"
    child = KeptChild("lading.toolkit.submitter", arguments, log_file, on_problem=on_problem)
    child.start()
    return child


def server_file_of(location: str, place: str) -> Path:
    """Return where commands of this user find a server of that database."""
    folder = state_directory() / "servers"
    make_private_directory(folder)
    # The same name at each start, so that a server that was killed leaves nothing behind.
    digest = hashlib.sha256(location.encode()).hexdigest()[:12]
    return folder / f"{digest}-{place}.json"
