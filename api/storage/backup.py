"""Copies and checks of a SQLite file, also beside a server that uses it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from lading.toolkit.errors import BadInput, NotFound

_PAGES_AT_ONCE = 1024
_MOST_PROBLEMS = 100


def back_up(database: Path, target: Path) -> None:
    """Write a consistent copy to `target` (0600), which must not exist yet.

    SQLite's own copying reads one state of the database, whatever is written meanwhile; to copy the
    file with `cp` would leave the write-ahead log behind.
    """
    if not database.is_file():
        raise NotFound(f"There is no database {database}.")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise BadInput(f"{target} exists; a backup overwrites nothing.") from None
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror}.") from error
    try:
        with closing(_reading(database)) as source, closing(sqlite3.connect(target)) as copy:
            # One transaction around all steps: else each write of a server starts the copy again.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            source.backup(copy, pages=_PAGES_AT_ONCE)
            copy.execute("PRAGMA journal_mode=DELETE")
        os.fsync(descriptor)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise BadInput(f"{database} cannot be copied: {error}.") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def integrity_problems(database: Path) -> list[str]:
    """Return what SQLite finds wrong with the file: broken pages, indexes, references."""
    if not database.is_file():
        raise NotFound(f"There is no database {database}.")
    try:
        with closing(_reading(database)) as connection:
            found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})")]
            broken = connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS)
    except sqlite3.DatabaseError as error:
        return [f"{database} is not readable as a database: {error}."]
    problems = [] if found == ["ok"] else found
    return problems + [f"Row {row[1]} of {row[0]} refers to a missing row of {row[2]}." for row in broken]


def _reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
