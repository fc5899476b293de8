"""What the server itself asks its database."""

from __future__ import annotations

from lading.api.storage.migrate import applied_version
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.api.storage.unit_of_work import Database

_SECONDS = 5.0


async def check_database(database: Database) -> None:
    """Ask the database anything at all. Raises Unavailable when it does not answer within 5 s."""

    def work(_effects: Effects) -> UseCase:
        yield Statement("SELECT 1 AS one")

    await database.read(work, deadline=_SECONDS)


async def schema_version(database: Database) -> int:
    """Return the version of the schema."""
    return await applied_version(database)
