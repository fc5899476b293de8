"""A child that is kept alive: started again with growing pauses whenever it ends by itself.

The child has a session of its own, so that Ctrl-C reaches it only through us, in order; files as its
standard streams; and the reading end of a pipe that we hold, so that it ends with us even when we
are killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger("lading.supervise")

FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 60.0
STABLE_SECONDS = 60.0
"""A child that lived so long is started again without having its earlier ends counted."""
_STOP_SECONDS = 20.0

ProblemListener = Callable[[str | None], None]


class KeptChild:
    """One Python module as a child process; `run` keeps it alive, `stop` ends both."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        log_file: Path,
        *,
        on_problem: ProblemListener = lambda _problem: None,
    ) -> None:
        """`on_problem` hears a sentence when the child has ended by itself, and None when it runs again."""
        self.module = module
        self.log_file = log_file
        self.restarts = 0
        self._arguments = list(arguments)
        self._on_problem = on_problem
        self._process: subprocess.Popen[bytes] | None = None
        self._end_pipe = -1
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child that runs now."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the child and watch it from now on."""
        self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.module}")

    async def stop(self, *, seconds: float = _STOP_SECONDS) -> None:
        """Send TERM and close the pipe, wait, and kill a child that does not go by itself."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        self._close_pipe()
        try:
            await asyncio.wait_for(process_end(process.pid), seconds)
        except TimeoutError:
            log.warning("A child did not stop and is killed.", extra={"child": self.module})
            process.kill()
        await asyncio.to_thread(process.wait)

    def _spawn(self) -> None:
        self._close_pipe()
        reading, self._end_pipe = os.pipe()
        descriptor = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            self._process = subprocess.Popen(
                # -P: a folder or file of the user's must not shadow our modules.
                [sys.executable, "-P", "-m", self.module, *self._arguments, "--end-fd", str(reading)],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=[reading],
                start_new_session=True,
            )
        finally:
            os.close(reading)
            os.close(descriptor)

    async def _watch(self) -> None:
        failures = 0
        while self._process is not None:
            began = time.monotonic()
            await process_end(self._process.pid)
            code = self._process.wait()
            failures = 1 if time.monotonic() - began > STABLE_SECONDS else failures + 1
            # Jitter: many servers whose batch system went away must not come back in step.
            ceiling = min(LAST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**failures)
            pause = random.uniform(ceiling / 2, ceiling)
            problem = f"It ended with code {code} and is started again; its log is {self.log_file}."
            log.error("%s: %s", self.module, problem, extra={"failures": failures})
            self._on_problem(problem)
            await asyncio.sleep(pause)
            self._spawn()
            self.restarts += 1
            self._on_problem(None)

    def _close_pipe(self) -> None:
        if self._end_pipe >= 0:
            os.close(self._end_pipe)
            self._end_pipe = -1


async def process_end(pid: int) -> None:
    """Return when a child has ended, without polling and without reaping it."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
