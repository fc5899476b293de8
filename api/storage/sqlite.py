"""SQLite: one writing connection in a thread of its own, a few reading ones beside it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lading.api.storage.filesystems import is_network_file_system
from lading.api.storage.statements import Effects, Many, Work, for_sqlite, sqlite_parameters
from lading.api.storage.unit_of_work import Database
from lading.toolkit.errors import BadInput, Conflict, Unavailable

MINIMUM_VERSION = (3, 35, 0)
BUSY_TIMEOUT_MS = 10_000
READERS = 2
PROGRESS_STEPS = 50_000

Synchronous = Literal["FULL", "NORMAL"]
_Call = Callable[[], None]


class SqliteDatabase(Database):
    """A file. Every write is a `BEGIN IMMEDIATE … COMMIT` that runs wholly in the writer thread."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, read_only: bool = False, synchronous: Synchronous = "FULL") -> None:
        super().__init__()
        if sqlite3.sqlite_version_info < MINIMUM_VERSION:
            needed = ".".join(map(str, MINIMUM_VERSION))
            raise BadInput(
                f"SQLite {sqlite3.sqlite_version} is too old, {needed} is needed: "
                "use a Python built with a newer SQLite, or --database postgres://…"
            )
        self.path = path
        self.url = f"sqlite://{path}"
        self.read_only = read_only
        self.synchronous = synchronous
        self.on_network = is_network_file_system(path.parent)
        self._writer: _Worker | None = None
        self._readers: list[_Worker] = []
        self._next_reader = 0

    async def open(self) -> None:
        if not self.read_only:
            self._writer = _Worker("lading-db-writer", lambda: self._connect(writing=True))
            await self._writer.started()
        self._readers = [
            _Worker(f"lading-db-reader-{number}", lambda: self._connect(writing=False))
            for number in range(READERS)
        ]
        for reader in self._readers:
            await reader.started()

    def _connect(self, *, writing: bool) -> sqlite3.Connection:
        mode = "rwc" if writing else "ro" if self.read_only else "rw"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            cached_statements=512,
        )
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if not self.read_only:
            # WAL needs shared memory, which network file systems do not give: there the classical
            # journal is the only one that survives a crash.
            connection.execute(f"PRAGMA journal_mode={'DELETE' if self.on_network else 'WAL'}")
        synchronous = "FULL" if self.on_network else self.synchronous
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-65536")
        connection.execute("PRAGMA temp_store=MEMORY")
        if not writing:
            connection.execute("PRAGMA query_only=ON")
        return connection

    async def _write(self, work: Work, deadline: float) -> tuple[Any, Effects]:
        if self._writer is None:
            raise Conflict("The database is open for reading only.")
        effects = Effects()
        answer = await self._writer.call(
            lambda connection: _transaction(connection, work, effects, "BEGIN IMMEDIATE", deadline)
        )
        return answer, effects

    async def _read(self, work: Work, deadline: float) -> Any:
        reader = self._readers[self._next_reader]
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return await reader.call(
            lambda connection: _transaction(connection, work, Effects(), "BEGIN", deadline)
        )

    async def _close(self) -> None:
        workers = [*self._readers, *([self._writer] if self._writer else [])]
        for worker in workers:
            await worker.stop()
        self._readers, self._writer = [], None


def _transaction(
    connection: sqlite3.Connection, work: Work, effects: Effects, begin: str, deadline: float
) -> Any:
    """Drive a use case from BEGIN to COMMIT; any error rolls everything back."""
    end = time.monotonic() + deadline
    connection.set_progress_handler(lambda: time.monotonic() > end, PROGRESS_STEPS)
    try:
        connection.execute(begin)
        try:
            answer = _drive(connection, work, effects)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answer
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise Unavailable(f"The database did not finish within {deadline:.0f} s.") from error
        if "locked" in str(error) or "busy" in str(error):
            raise Unavailable("The database file is locked by another process.") from error
        if "disk is full" in str(error) or "disk I/O" in str(error):
            raise Unavailable(f"The database cannot write: {error}.") from error
        raise
    except sqlite3.IntegrityError as error:
        raise Conflict(f"The database refused it: {error}.") from error
    finally:
        connection.set_progress_handler(None, 0)


def _drive(connection: sqlite3.Connection, work: Work, effects: Effects) -> Any:
    generator = work(effects)
    try:
        request = next(generator)
        while True:
            try:
                if isinstance(request, Many):
                    if request.parameter_sets:
                        connection.executemany(for_sqlite(request.text), request.parameter_sets)
                    rows: list[Any] = []
                else:
                    cursor = connection.execute(
                        for_sqlite(request.text), sqlite_parameters(request.parameters)
                    )
                    rows = cursor.fetchall()
            except sqlite3.IntegrityError as error:
                # Thrown into the use case, which may know what the clash means.
                request = generator.throw(Conflict(f"The database refused it: {error}."))
            else:
                request = generator.send(rows)
    except StopIteration as stop:
        return stop.value
    finally:
        generator.close()


class _Worker:
    """A thread with one connection; calls are done in order and answered to the event loop."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._calls: queue.SimpleQueue[Callable[[sqlite3.Connection], None] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(connect,), name=name, daemon=True)
        self._thread.start()

    async def started(self) -> None:
        await self._started

    async def call(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()

        def perform(connection: sqlite3.Connection) -> None:
            try:
                answer = function(connection)
            except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
                self._answer(future, error=error)
            else:
                self._answer(future, answer)

        self._calls.put(perform)
        return await future

    async def stop(self) -> None:
        self._calls.put(None)
        await self._stopped
        self._thread.join()

    def _run(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - open() raises it
            self._answer(self._started, error=error)
            return
        self._answer(self._started)
        while (call := self._calls.get()) is not None:
            call(connection)
        connection.close()
        self._answer(self._stopped)

    def _answer(
        self, future: asyncio.Future[Any], value: Any = None, error: BaseException | None = None
    ) -> None:
        def settle() -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        # A loop that was closed has nobody left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle)
