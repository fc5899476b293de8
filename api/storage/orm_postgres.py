"""Tortoise's PostgreSQL client, connecting by the same URL as everything else.

Tortoise takes an address apart into host, port and user, which loses what a URL can also say (a
Unix socket, a password file, TLS); asyncpg reads the URL itself. Named by `orm.py` as the engine.
"""

from __future__ import annotations

from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient


class ReadingClient(AsyncpgDBClient):
    """A pool whose sessions cannot write and whose statements have a deadline."""

    async def create_pool(self, **settings: Any) -> Any:
        """Connect by the URL; of Tortoise's own settings only the sizes count."""
        deadline_ms = str(settings["deadline_ms"])
        return await asyncpg.create_pool(
            settings["url"],
            min_size=settings["min_size"],
            max_size=settings["max_size"],
            server_settings={"default_transaction_read_only": "on", "statement_timeout": deadline_ms},
        )


client_class = ReadingClient
