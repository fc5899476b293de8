"""The only module in which transactions are entered.

Every use case runs in a task of its own and is never cancelled: a client that goes away must not
leave a transaction open or a lock taken. Effects are published after the commit, inside that same
task, so that a vanished client does not swallow the wake-up of a waiting node either.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context
from typing import Any, ClassVar, Literal

from lading.api.storage.statements import Effects, Work

DEADLINE_SECONDS = 60.0
"""A use case that takes longer is interrupted inside the database and rolled back."""

Publish = Callable[[Effects], None]


class Database(ABC):
    """Runs use cases; one transaction each."""

    dialect: ClassVar[Literal["sqlite", "postgres"]]
    url: str

    def __init__(self) -> None:
        self._publish: Publish = lambda _effects: None
        self._running: set[asyncio.Task[Any]] = set()

    def subscribe(self, publish: Publish) -> None:
        """Name the function that hears the effects of every committed use case."""
        self._publish = publish

    async def write(self, work: Work, *, deadline: float = DEADLINE_SECONDS) -> Any:
        """Run a use case in one transaction, commit, publish its effects, return its answer."""
        # An empty context: a use case inherits nothing of the request that asked for it.
        task = asyncio.get_running_loop().create_task(self._committed(work, deadline), context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def read(self, work: Work, *, deadline: float = DEADLINE_SECONDS) -> Any:
        """Run a use case that only reads, on a connection that cannot write, in one snapshot."""
        task = asyncio.get_running_loop().create_task(self._read(work, deadline), context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let what runs finish, then give the connections back."""
        if self._running:
            await asyncio.wait(self._running)
        await self._close()

    async def _committed(self, work: Work, deadline: float) -> Any:
        answer, effects = await self._write(work, deadline)
        if effects:
            self._publish(effects)
        return answer

    @abstractmethod
    async def open(self) -> None:
        """Connect; the schema is somebody else's business."""

    @abstractmethod
    async def _write(self, work: Work, deadline: float) -> tuple[Any, Effects]: ...

    @abstractmethod
    async def _read(self, work: Work, deadline: float) -> Any: ...

    @abstractmethod
    async def _close(self) -> None: ...
