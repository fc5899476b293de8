"""What `lading db` does, without the command line around it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from lading.api.storage import backup, migrate
from lading.api.storage.locks import DatabaseLock
from lading.api.storage.opening import is_postgres, make_database, open_database, sqlite_path
from lading.toolkit.clock import SystemClock, to_milliseconds
from lading.toolkit.errors import BadInput, NotFound


def _now_ms() -> int:
    return to_milliseconds(SystemClock().wall())


async def upgrade(location: str) -> list[str]:
    """Bring the schema up to date; return what was done, in sentences."""
    async with AsyncExitStack() as stack:
        if not is_postgres(location):
            path = sqlite_path(location)
            if not path.is_file():
                raise NotFound(f"There is no database {path}; `lading serve` makes one.")
            stack.enter_context(DatabaseLock(path, "command `lading db upgrade`"))
        database = make_database(location)
        await database.open()
        stack.push_async_callback(database.close)
        version, newest = await migrate.applied_version(database), migrate.all_migrations()[-1].version
        migrate.check_not_newer(version)
        if version == newest:
            return [f"{location} has schema version {version}, the newest; nothing was changed."]
        said = []
        if version and not is_postgres(location):
            copy = _free_name(sqlite_path(location), version)
            await asyncio.to_thread(backup.back_up, sqlite_path(location), copy)
            said.append(f"The database as it was is in {copy}.")
        applied = await migrate.upgrade(database, _now_ms())
        said += [f"Applied {migration.version:04d} {migration.name}." for migration in applied]
        return [*said, f"{location} has schema version {newest}."]


async def check(location: str) -> list[str]:
    """Return what is wrong with a database; nothing of it is changed."""
    problems = []
    if not is_postgres(location):
        problems = await asyncio.to_thread(backup.integrity_problems, sqlite_path(location))
        if problems:
            return problems
    database = make_database(location, read_only=True)
    await database.open()
    try:
        version, newest = await migrate.applied_version(database), migrate.all_migrations()[-1].version
    finally:
        await database.close()
    if version == 0:
        problems.append(f"{location} holds no Lading database.")
    elif version < newest:
        problems.append(
            f"The schema has version {version}, this Lading needs {newest}: run `lading db upgrade`."
        )
    elif version > newest:
        problems.append(f"The schema has version {version}, this Lading knows {newest}: install a newer one.")
    return problems


def back_up(location: str, target: Path) -> None:
    """Copy a SQLite database."""
    if is_postgres(location):
        raise BadInput(
            "PostgreSQL has a better program for this; run: "
            f"pg_dump --format=custom --file={target} '{location}'"
        )
    backup.back_up(sqlite_path(location), target)


async def verify(location: str) -> list[str]:
    """Return the invariants that do not hold."""
    from lading.api.services.verify import verify as violations

    database = await open_database(location, now_ms=_now_ms(), read_only=True)
    try:
        return await violations(database)
    finally:
        await database.close()


def _free_name(database: Path, version: int) -> Path:
    """Name the backup before an upgrade; one of an upgrade that failed is kept beside it."""
    number = 1
    while True:
        suffix = "" if number == 1 else f".{number}"
        name = database.with_name(f"{database.name}.version-{version}.backup{suffix}")
        if not name.exists():
            return name
        number += 1
