"""The schema's versions: what is there, what is newer, how to get from one to the other.

Migrations are hand-written SQL in `migrations/`, one text for both databases. All that are pending
run in one transaction together with their record, so that a kill at any moment leaves the old
version or the new one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from lading.api.storage.statements import Effects, Statement, UseCase
from lading.api.storage.unit_of_work import Database
from lading.toolkit.errors import Conflict

Dialect = Literal["sqlite", "postgres"]
_ID = {"sqlite": "INTEGER PRIMARY KEY", "postgres": "BIGINT PRIMARY KEY"}


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, dialect: Dialect) -> list[str]:
        """Split into single statements for one dialect, comments removed."""
        mark = f"--{dialect}:"
        lines = []
        for line in self.text.splitlines():
            if line.startswith(mark):
                lines.append(line.removeprefix(mark))
            elif not line.lstrip().startswith("--"):
                lines.append(line)
        text = "\n".join(lines).replace("{id}", _ID[dialect])
        return [statement for part in text.split(";\n") if (statement := part.strip().rstrip(";"))]


def all_migrations() -> list[Migration]:
    """Read the migrations that this code ships, in order."""
    found = [
        Migration(int(entry.name[:4]), entry.name[5:-4], entry.read_text(encoding="utf-8"))
        for entry in files("lading.api.storage.migrations").iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.version)


async def applied_version(database: Database) -> int:
    """Return the newest applied version; 0 for an empty database."""

    def work(_effects: Effects) -> UseCase:
        if database.dialect == "sqlite":
            rows = yield Statement("SELECT name FROM sqlite_master WHERE name = 'schema_version'")
        else:
            rows = yield Statement(
                "SELECT 1 AS found FROM information_schema.tables "
                "WHERE table_name = 'schema_version' AND table_schema = current_schema()"
            )
        if not rows:
            return 0
        rows = yield Statement("SELECT max(version) AS version FROM schema_version")
        return rows[0]["version"] or 0

    version: int = await database.read(work)
    return version


async def upgrade(database: Database, now_ms: int) -> list[Migration]:
    """Apply what is pending, in one transaction. Raises Conflict for a database newer than the code."""
    migrations = all_migrations()
    check_not_newer(await applied_version(database))

    def work(_effects: Effects) -> UseCase:
        if database.dialect == "postgres":
            # Two servers that start at once: the second one waits here and finds nothing to do.
            yield Statement("SELECT pg_advisory_xact_lock(7236837)")
        yield Statement(
            "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, name TEXT NOT NULL, "
            "checksum TEXT NOT NULL, applied_ms BIGINT NOT NULL)"
        )
        rows = yield Statement("SELECT version FROM schema_version")
        known = {row["version"] for row in rows}
        pending = [migration for migration in migrations if migration.version not in known]
        for migration in pending:
            for text in migration.statements(database.dialect):
                yield Statement(text)
            yield Statement(
                "INSERT INTO schema_version (version, name, checksum, applied_ms) "
                "VALUES (:version, :name, :checksum, :now)",
                {
                    "version": migration.version,
                    "name": migration.name,
                    "checksum": migration.checksum,
                    "now": now_ms,
                },
            )
        if database.dialect == "sqlite":
            broken = yield Statement("PRAGMA foreign_key_check")
            if broken:
                raise Conflict(f"The upgrade would break {len(broken)} references; nothing was changed.")
        rows = yield Statement("SELECT server_id FROM server")
        if not rows:
            yield Statement(
                "INSERT INTO server (id, server_id, created_ms) VALUES (1, :server_id, :now)",
                {"server_id": secrets.token_hex(8), "now": now_ms},
            )
        return pending

    applied: list[Migration] = await database.write(work, deadline=3600)
    return applied


def check_not_newer(version: int) -> None:
    """Refuse a database that a newer Lading has written."""
    newest = all_migrations()[-1].version
    if version > newest:
        raise Conflict(
            f"The database has schema version {version}, this Lading knows {newest}: "
            "install the Lading that wrote it, or a newer one."
        )


async def server_id(database: Database) -> str:
    """Return the random name that this database was given when it was made."""

    def work(_effects: Effects) -> UseCase:
        rows = yield Statement("SELECT server_id FROM server")
        return rows[0]["server_id"]

    name: Any = await database.read(work)
    return str(name)
