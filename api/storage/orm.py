"""Tortoise for reading lists: one explicit context per application, with connections of its own.

Nothing is written here: the connections cannot. Each use case runs in a task of its own, in which
the context is current, and is never cancelled: Tortoise serialises the statements of a connection
with a lock, which a cancelled statement has been seen to keep.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

import asyncpg
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException, DBConnectionError, OperationalError

from lading.api.storage import tables
from lading.api.storage.sqlite import BUSY_TIMEOUT_MS, SqliteDatabase
from lading.api.storage.unit_of_work import DEADLINE_SECONDS, Database
from lading.toolkit.errors import Unavailable

Answer = TypeVar("Answer")
Read = Callable[[], Awaitable[Answer]]

POOL_SIZE = 4
_ENVIRONMENT = ("USE_TZ", "TIMEZONE")
_WEATHER = ("locked", "busy", "disk", "unable to open")
_GONE = (OSError, DBConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


class Orm:
    """Opens at its first use; `close` ends the connections."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._context: TortoiseContext | None = None
        self._opening = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def dialect(self) -> str:
        """Name the database behind it, for the few texts that differ."""
        return self._database.dialect

    async def read(self, use_case: Read[Answer]) -> Answer:
        """Run a use case that asks Tortoise's models. Raises Unavailable when the database is away."""
        task = asyncio.get_running_loop().create_task(self._read(use_case), context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        answer: Answer = await asyncio.shield(task)
        return answer

    async def close(self) -> None:
        """Let what runs finish, then close the connections."""
        if self._running:
            await asyncio.wait(self._running)
        if self._context is not None:
            await self._context.close_connections()
            self._context = None

    async def _read(self, use_case: Read[Answer]) -> Answer:
        # Entered and not left: what entering sets lives in this task's own copy of the variables and
        # ends with it. Leaving would reset another task's, since the object remembers only one.
        (await self._opened()).__enter__()
        try:
            return await use_case()
        except asyncpg.QueryCanceledError as error:
            raise Unavailable(f"The database did not finish within {DEADLINE_SECONDS:.0f} s.") from error
        except OperationalError as error:
            # Only what a later try may mend: a statement that is wrong is our bug, and a 500.
            if not any(word in str(error) for word in _WEATHER):
                raise
            raise Unavailable(f"The database did not answer: {error}.") from error
        except _GONE as error:
            raise Unavailable(f"The database cannot be reached: {error}.") from error

    async def _opened(self) -> TortoiseContext:
        async with self._opening:
            if self._context is None:
                context = TortoiseContext()
                context.__enter__()
                with _environment_kept():
                    try:
                        await context.init(config=self._config(), use_tz=True, timezone="UTC")
                    except (OSError, asyncpg.PostgresError, BaseORMException) as error:
                        raise Unavailable(f"The database cannot be reached: {error}.") from error
                self._context = context
            return self._context

    def _config(self) -> dict[str, Any]:
        database = self._database
        if isinstance(database, SqliteDatabase):
            mode = "ro" if database.read_only else "rw"
            connection = {
                "engine": "lading.api.storage.orm_sqlite",
                "credentials": {
                    "file_path": f"{database.path.absolute().as_uri()}?mode={mode}",
                    "busy_timeout": BUSY_TIMEOUT_MS,
                    "cache_size": -16384,
                    "temp_store": "MEMORY",
                    "query_only": 1,
                },
            }
        else:
            connection = {
                "engine": "lading.api.storage.orm_postgres",
                "credentials": {
                    "url": database.url,
                    "deadline_ms": int(DEADLINE_SECONDS * 1000),
                    "minsize": 1,
                    "maxsize": POOL_SIZE,
                },
            }
        return {
            "connections": {"default": connection},
            "apps": {"lading": {"models": [tables.__name__], "default_connection": "default"}},
        }


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back what Tortoise writes into this process's environment: jobs inherit it."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
