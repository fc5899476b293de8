"""SQLite: one writing connection in a thread of its own, a few reading ones beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Literal

from lading.api.storage.filesystems import is_network_file_system
from lading.api.storage.sqlite_threads import Reader, Writer
from lading.api.storage.statements import Effects, Work
from lading.api.storage.unit_of_work import Database
from lading.toolkit.errors import BadInput, Conflict

MINIMUM_VERSION = (3, 35, 0)
BUSY_TIMEOUT_MS = 10_000
READERS = 2

Synchronous = Literal["FULL", "NORMAL"]


class SqliteDatabase(Database):
    """A file. Writes run wholly in the writer thread, those that wait together in one durable commit."""

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
        self._writer: Writer | None = None
        self._readers: list[Reader] = []
        self._next_reader = 0

    async def open(self) -> None:
        if not self.read_only:
            self._writer = Writer("lading-db-writer", lambda: self._connect(writing=True))
            await self._writer.started()
        self._readers = [
            Reader(f"lading-db-reader-{number}", lambda: self._connect(writing=False))
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
        return await self._writer.write(work, deadline)

    async def _read(self, work: Work, deadline: float) -> Any:
        reader = self._readers[self._next_reader]
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return await reader.read(work, deadline)

    async def _close(self) -> None:
        workers = [*self._readers, *([self._writer] if self._writer else [])]
        for worker in workers:
            await worker.stop()
        self._readers, self._writer = [], None
