"""Children that are kept alive: started again when they end by themselves, a bounded number of times."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final

from lading.toolkit.cli.output import note
from lading.toolkit.client.server_process import Child
from lading.toolkit.errors import LadingError, Unavailable
from lading.toolkit.supervise import process_end

MOST_RESTARTS: Final = 5
_STABLE_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.1


class Supervised:
    """A child and the task that watches it."""

    def __init__(self, child: Child, name: str, *, ready: bool) -> None:
        self._child = child
        self._name = name
        self._ready = ready
        self._watcher: asyncio.Task[None] | None = None
        self._watched = asyncio.Event()
        self._spawning: asyncio.Task[str] | None = None

    async def start(self) -> None:
        """Start the child, wait until it is ready, and watch it from then on."""
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self._name}")
        self._watched.set()

    async def given_up(self) -> None:
        """Return never, or raise when the child has ended too often."""
        await self._watched.wait()
        if self._watcher is not None:
            await asyncio.shield(self._watcher)

    async def stop(self, *, signal_number: int | None = None) -> None:
        """Stop the child and the watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._spawning is not None:
            # Who cancelled us did not cancel the thread: the child must be known before it is stopped.
            await asyncio.gather(self._spawning, return_exceptions=True)
        await asyncio.to_thread(self._child.stop, signal_number=signal_number)

    async def _spawn(self) -> None:
        self._spawning = asyncio.create_task(asyncio.to_thread(self._child.start, ready=self._ready))
        await asyncio.shield(self._spawning)

    async def _watch(self) -> None:
        restarts = 0
        while True:
            began = time.monotonic()
            await process_end(self._child.pid)
            code = self._child.poll()
            restarts = 1 if time.monotonic() - began > _STABLE_SECONDS else restarts + 1
            while True:
                if restarts > MOST_RESTARTS:
                    raise Unavailable(
                        f"The {self._name} ended {restarts} times in a row, the last time with code {code}; "
                        f"its log is {self._child.log_file}:\n{self._child.last_words()}"
                    )
                note(f"The {self._name} ended with code {code}; it is started again.")
                await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**restarts)
                try:
                    await self._spawn()
                    break
                except LadingError:
                    restarts += 1


class Interruptions:
    """Ctrl-C, SIGTERM and the end of the terminal: the first asks to stop in order, the second to kill."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
