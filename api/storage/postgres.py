"""PostgreSQL through asyncpg: for more than one server process or host."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import orjson

from lading.api.storage.statements import Effects, Many, Statement, Work, for_postgres
from lading.api.storage.unit_of_work import Database
from lading.toolkit.errors import Conflict, Unavailable

CHANNEL = "lading"
TRIES = 12
_RETRIED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_GONE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.TooManyConnectionsError,
)


class PostgresDatabase(Database):
    """A database server. Effects travel to the other Lading servers by NOTIFY, in the transaction."""

    dialect = "postgres"

    def __init__(self, url: str, *, read_only: bool = False, pool_size: int = 10) -> None:
        super().__init__()
        self.url = url
        self.read_only = read_only
        self._pool_size = pool_size
        self._pool: Any = None
        self._listener: Any = None
        self._listening: asyncio.Task[None] | None = None
        self._origin = f"{random.getrandbits(64):016x}"

    async def open(self) -> None:
        try:
            self._pool = await asyncpg.create_pool(
                self.url, min_size=1, max_size=self._pool_size, command_timeout=None
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise Unavailable(f"PostgreSQL cannot be reached: {error}.") from error
        self._listening = asyncio.create_task(self._listen())

    async def _write(self, work: Work, deadline: float) -> tuple[Any, Effects]:
        if self.read_only:
            raise Conflict("The database is open for reading only.")
        for attempt in range(TRIES):
            effects = Effects()
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(f"SET LOCAL statement_timeout = {int(deadline * 1000)}")
                    answer = await _drive(connection, work, effects)
                    if effects:
                        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, self._encode(effects))
                return answer, effects
            except _RETRIED:
                # Nothing of this try was stored; the whole use case runs again.
                if attempt == TRIES - 1:
                    raise Unavailable("The database could not serialise this request.") from None
                await asyncio.sleep(random.uniform(0, 0.005 * 2 ** min(attempt, 6)))
            except asyncpg.QueryCanceledError as error:
                raise Unavailable(f"The database did not finish within {deadline:.0f} s.") from error
            except _GONE as error:
                raise Unavailable(f"PostgreSQL cannot be reached: {error}.") from error
        raise AssertionError("unreachable: the loop returns or raises")

    async def _read(self, work: Work, deadline: float) -> Any:
        try:
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute(f"SET LOCAL statement_timeout = {int(deadline * 1000)}")
                return await _drive(connection, work, Effects())
        except asyncpg.QueryCanceledError as error:
            raise Unavailable(f"The database did not finish within {deadline:.0f} s.") from error
        except _GONE as error:
            raise Unavailable(f"PostgreSQL cannot be reached: {error}.") from error

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    async def _listen(self) -> None:
        """Hear the other servers; after every reconnect everybody looks again, for what was missed."""
        while True:
            lost = asyncio.Event()
            connection = None
            try:
                connection = await asyncpg.connect(self.url)
                connection.add_termination_listener(lambda _connection, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, self._hear)
                self._publish(Effects(demand=True, tokens=True, events={-1}))
                await lost.wait()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            finally:
                if connection is not None and not connection.is_closed():
                    await asyncio.shield(connection.close(timeout=2))
            await asyncio.sleep(random.uniform(0.2, 1.0))

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        message = orjson.loads(payload)
        if message["origin"] == self._origin:
            return
        self._publish(
            Effects(
                ready={int(key): number for key, number in message["ready"].items()},
                events=set(message["events"]),
                nodes=set(message["nodes"]),
                finished=set(message["finished"]),
                demand=message["demand"],
                tokens=message["tokens"],
            )
        )

    def _encode(self, effects: Effects) -> str:
        nodes = sorted(effects.nodes)[:500]  # NOTIFY carries 8000 bytes; a node also asks by itself
        return orjson.dumps(
            {
                "origin": self._origin,
                "ready": {str(key): number for key, number in effects.ready.items()},
                "events": sorted(effects.events),
                "nodes": nodes,
                "finished": sorted(effects.finished),
                "demand": effects.demand,
                "tokens": effects.tokens,
            }
        ).decode()


async def _drive(connection: Any, work: Work, effects: Effects) -> Any:
    generator = work(effects)
    try:
        request = next(generator)
        while True:
            try:
                rows = await _execute(connection, request)
            except asyncpg.IntegrityConstraintViolationError as error:
                # The transaction is lost by now: the use case may only name the clash, not go on.
                request = generator.throw(Conflict(f"The database refused it: {error}."))
            else:
                request = generator.send(rows)
    except StopIteration as stop:
        return stop.value
    finally:
        generator.close()


async def _execute(connection: Any, request: Statement | Many) -> list[Any]:
    text, names = for_postgres(request.text)
    if isinstance(request, Many):
        if request.parameter_sets:
            await connection.executemany(
                text, [[values[name] for name in names] for values in request.parameter_sets]
            )
        return []
    rows: list[Any] = await connection.fetch(text, *(request.parameters[name] for name in names))
    return rows
