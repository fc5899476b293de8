"""`python -P -m lading.api.server_job CHAIN_FILE`: one job of a server that lives in Slurm.

It asks for its successor before anything else, serves until Slurm says that its time is up, and leaves in
order. Whatever ends it, Slurm starts the successor, which finds database, token and address where they were.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lading.api.in_slurm import service_of
from lading.api.running import greeting, run_server, serve_until_stopped
from lading.api.server_process import Server, ServerOptions
from lading.api.storage.locks import find_holder
from lading.api.storage.opening import is_postgres, sqlite_path
from lading.toolkit.cli.server_chain import (
    count_failure,
    current_job,
    end_chain,
    forget_failures,
    read_chain,
    slurm_services,
    stopped_because,
    take_over,
)
from lading.toolkit.errors import BackendError, LadingError
from lading.toolkit.log import configure_logging
from lading.toolkit.wire.files import ServerChain

MOST_FAILURES: Final = 3
"""In a row: then something is wrong that the next job will not find right."""
_PREDECESSOR_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.5
_LOOK_FOR_ANOTHER_SECONDS: Final = 2.0
_FIRST_PAUSE_SECONDS: Final = 5.0
_LAST_PAUSE_SECONDS: Final = 300.0

log = logging.getLogger("lading.api.server_job")


def main(arguments: Sequence[str]) -> int:
    """Serve; return 0 when the next job takes over or a person said stop."""
    configure_logging("info")
    chain_file = Path(arguments[0])
    try:
        job = _Job(chain_file, read_chain(chain_file), os.environ.get("SLURM_JOB_ID", ""))
        stopped = stopped_because(chain_file)
        if stopped is not None:
            log.info("This server is not to go on: %s", stopped)
            return 0
        failures = count_failure(chain_file)
        if failures > MOST_FAILURES:
            end_chain(chain_file, f"{MOST_FAILURES} jobs in a row could not serve")
            log.error("%d jobs in a row could not serve: no further one is asked for.", MOST_FAILURES)
            return 1
        job.serve()
    except (LadingError, OSError) as error:
        log.error("%s", error)  # noqa: TRY400 - a person reads it, the trace says nothing more
        return 1
    return 0


@dataclass(slots=True)
class _Job:
    chain_file: Path
    chain: ServerChain
    number: str
    """Of this job in Slurm."""

    def serve(self) -> None:
        # First of all: whoever is killed from here on has a successor in the queue.
        has_successor = self._try_ensure_successor()
        options = self._options()
        take_over(self.chain_file, self.number)
        self._await_predecessor(options.database)

        @asynccontextmanager
        async def beside(server: Server) -> AsyncIterator[None]:
            ending: list[asyncio.Task[None]] = []
            server.state.request_stop = lambda: ending.append(asyncio.create_task(self._end(server)))
            tasks = [asyncio.create_task(self._leave_when_replaced(server))]
            if not has_successor:
                tasks.append(asyncio.create_task(self._keep_asking(server)))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                # It may have been taken out of the queue meanwhile, which ends the chain unseen.
                await asyncio.to_thread(self._try_ensure_successor)

        def on_ready(server: Server) -> None:
            forget_failures(self.chain_file)
            log.info("Slurm job %s: %s", self.number, greeting(server, options))

        path = Path(self.chain.server_file)
        run_server(
            serve_until_stopped(options, path, on_ready, no_submitter=self.chain.no_submitter, beside=beside)
        )

    def _options(self) -> ServerOptions:
        given: dict[str, Any] = dict(self.chain.options)
        for name in ("tls_certificate", "tls_key"):
            if given.get(name) is not None:
                given[name] = Path(given[name])
        given.setdefault("host", "")
        if not given["host"]:
            given["host"] = slurm_services().own_address()
        if self.chain.templates is not None:
            # What begins with LADING_ does not come along through sbatch.
            os.environ.setdefault("LADING_SBATCH_TEMPLATES", self.chain.templates)
        server_file = Path(self.chain.server_file)
        return ServerOptions(
            server_file=server_file,
            token_file=server_file.with_suffix(".token"),
            chain=self.chain_file,
            **given,
        )

    def _await_predecessor(self, location: str) -> None:
        """Wait for the lock: Slurm calls a job over while its last processes still end."""
        if is_postgres(location):
            return
        database = sqlite_path(location)
        deadline = time.monotonic() + _PREDECESSOR_SECONDS
        while (holder := find_holder(database)) is not None and time.monotonic() < deadline:
            log.info("The database is still held by %s.", holder)
            time.sleep(_LOOK_SECONDS)

    def _ensure_successor(self) -> None:
        if stopped_because(self.chain_file) is not None:
            return
        services = slurm_services()
        waiting = [job for job in services.service_jobs(self.chain.name) if job.is_waiting]
        if any(job.number != self.number for job in waiting):
            return
        number = services.submit_service(service_of(self.chain, self.chain_file))
        log.info("Slurm job %s serves after this one.", number)

    def _try_ensure_successor(self) -> bool:
        try:
            self._ensure_successor()
        except LadingError as error:
            log.warning("The next job of this server cannot be asked for now: %s", error)
            return False
        return True

    async def _leave_when_replaced(self, server: Server) -> None:
        """Leave once another job serves: on a node that Slurm took for dead this process would hold the database."""
        while True:
            await asyncio.sleep(_LOOK_FOR_ANOTHER_SECONDS)
            try:
                current = await asyncio.to_thread(current_job, self.chain_file)
            except (OSError, LadingError) as error:
                log.warning("It cannot be told whose turn it is: %s", error)
                continue
            if current not in {"", self.number}:
                log.warning("Slurm has started job %s in the place of this one, which leaves.", current)
                server.stop.set()
                return

    async def _keep_asking(self, server: Server) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not await asyncio.to_thread(self._try_ensure_successor):
            server.state.degraded["successor"] = (
                f"Slurm takes no next job for this server; see {self.chain.log}."
            )
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE_SECONDS, 2 * pause)
        server.state.degraded.pop("successor", None)

    async def _end(self, server: Server) -> None:
        """A person says stop: the successor leaves the queue before this server leaves its place."""
        try:
            await asyncio.to_thread(end_chain, self.chain_file, "a person stopped it")
        except BackendError as error:
            # It sees the mark and leaves by itself.
            log.warning("The next job cannot be taken out of the queue: %s", error)
        finally:
            server.stop.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
