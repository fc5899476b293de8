"""From `--database PATH|URL` to a database that is open and has the right schema."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lading.api.storage.migrate import all_migrations, applied_version, check_not_newer, upgrade
from lading.api.storage.postgres import PostgresDatabase
from lading.api.storage.sqlite import SqliteDatabase, Synchronous
from lading.api.storage.unit_of_work import Database
from lading.toolkit.errors import BadInput, Conflict, NotFound
from lading.toolkit.private_files import make_private_directory

_POSTGRES = ("postgres://", "postgresql://")


def is_postgres(location: str) -> bool:
    """Tell a database server's URL from a path."""
    return location.startswith(_POSTGRES)


def sqlite_path(location: str) -> Path:
    """Return the file that a location names; BadInput for a URL of another kind."""
    plain = location.removeprefix("sqlite://")
    if "://" in plain:
        raise BadInput(f"--database {location}: accepted are a path, or postgres://HOST/NAME.")
    return Path(plain).expanduser().absolute()


def make_database(location: str, *, read_only: bool = False, synchronous: Synchronous = "FULL") -> Database:
    """Return the database of a location, not opened yet."""
    if is_postgres(location):
        _refuse_password(location)
        return PostgresDatabase(location, read_only=read_only)
    path = sqlite_path(location)
    if read_only and not path.is_file():
        raise NotFound(f"There is no database {path}.")
    if not read_only:
        prepare_file(path)
    return SqliteDatabase(path, read_only=read_only, synchronous=synchronous)


async def open_database(
    location: str, *, now_ms: int, read_only: bool = False, synchronous: Synchronous = "FULL"
) -> Database:
    """Open a database; one that is new gets the schema, an older one is refused with the remedy."""
    database = make_database(location, read_only=read_only, synchronous=synchronous)
    try:
        await _connect(database)
        version = await applied_version(database)
        check_not_newer(version)
        if version == 0:
            await _create(database, location, now_ms)
        elif version < (newest := all_migrations()[-1].version):
            raise Conflict(
                f"The database {location} has schema version {version}, this Lading needs {newest}: "
                f"run `lading db upgrade --database {location}`."
            )
    except BaseException:
        await database.close()
        raise
    return database


async def _connect(database: Database) -> None:
    try:
        await database.open()
    except sqlite3.Error as error:
        raise BadInput(f"{database.url} cannot be opened: {error}.") from error


async def _create(database: Database, location: str, now_ms: int) -> None:
    if isinstance(database, SqliteDatabase | PostgresDatabase) and database.read_only:
        raise NotFound(f"{location} holds no Lading database.")
    if isinstance(database, SqliteDatabase) and _has_tables(database.path):
        raise Conflict(f"{location} is a database of another program; choose another path.")
    await upgrade(database, now_ms)


def _has_tables(path: Path) -> bool:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    connection.close()
    return found is not None


def prepare_file(path: Path) -> None:
    """Create the file 0600 before SQLite does: its journals take their mode from it."""
    if path.is_dir():
        raise BadInput(f"--database {path} is a folder; accepted is the path of a file.")
    if not path.parent.exists():
        make_private_directory(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadInput(f"--database {path} cannot be written: {error.strerror}.") from error
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _refuse_password(location: str) -> None:
    parts = urlsplit(location)
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise BadInput(
            "--database has a password in it, which everybody on this machine can read in the list of "
            "processes; put it into ~/.pgpass (or the file that PGPASSFILE names) or into PGPASSWORD."
        )
