"""Tortoise's SQLite client on a connection that can only read.

Tortoise's own would create a missing file, and sets a journal mode: of a file that a read-only server
was pointed at, not even that may change. Named by `orm.py` as the engine.
"""

from __future__ import annotations

import sqlite3

import aiosqlite
from tortoise.backends.sqlite.client import SqliteClient


class ReadingClient(SqliteClient):
    """`file_path` is a URI with its mode."""

    async def create_connection(self, with_db: bool) -> None:  # noqa: ARG002 - Tortoise's signature
        """Connect; the settings are pragmas."""
        if self._connection is not None:
            return
        connection = await aiosqlite.connect(self.filename, uri=True, isolation_level=None)
        connection.row_factory = sqlite3.Row
        for name in ("busy_timeout", "cache_size", "temp_store", "query_only"):
            await connection.execute(f"PRAGMA {name}={self.pragmas[name]}")
        self._connection = connection
        await self._post_connect()


client_class = ReadingClient
