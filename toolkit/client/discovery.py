"""Find the server that a command means: option, environment, the nearest run, the user's own servers.

A server that is gone is skipped, and named when nothing else is found. Two that are equally near are
an error: a command that guesses between two servers cancels the wrong jobs sooner or later.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from lading.toolkit.client.target import Target, checked_token, read_server_file, read_token_file
from lading.toolkit.errors import BadInput, LadingError, Unavailable
from lading.toolkit.private_files import boot_id, process_start_ticks
from lading.toolkit.settings import ENVIRONMENT_PREFIX, LoadedSettings, Origin, state_directory
from lading.toolkit.wire.files import ServerFile

PRIVATE_FOLDER: Final = ".lading"
SERVER_FILE: Final = "server.json"
RUN_FILE: Final = "run.json"
DATABASE_FILE: Final = "lading.db"
DEFAULT_OUTPUT: Final = "output"


class RunFile(msgspec.Struct, kw_only=True):
    """What `lading run` leaves in its output folder, so that the run can still be read afterwards."""

    database: str
    workflow: str = ""


@dataclass(frozen=True, slots=True)
class Sleeping:
    """The database of a run that has ended: a private server can read it."""

    folder: Path
    database: str


@dataclass(slots=True)
class _Search:
    """What was seen on the way: gone servers and runs that have ended, for the message or to fall back on."""

    gone: list[Path] = field(default_factory=list)
    sleeping: list[Sleeping] = field(default_factory=list)


def discover(
    settings: LoadedSettings, *, output: Path | None = None, directory: Path | None = None
) -> Target | Sleeping:
    """Return the server to talk to, or the ended run to read; `output` is a run's folder given by option."""
    if settings.origin("server_url") is Origin.OPTION:
        if output is not None:
            raise BadInput("Give either --server or the --output folder of a run, not both.")
        return _addressed(settings)
    search = _Search()
    if output is not None:
        return _only(_living([output / PRIVATE_FOLDER], search), search, f"in the output folder {output}")
    if settings.values.server_url is not None:
        return _addressed(settings)
    start = (directory or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        nearest = list(_living([folder / DEFAULT_OUTPUT / PRIVATE_FOLDER, folder / PRIVATE_FOLDER], search))
        if nearest:
            return _only(nearest, search, "")
    own = list(_living_files(_own_server_files(), search))
    if own or not search.sleeping:
        return _only(own, search, "")
    return search.sleeping[0]


def _addressed(settings: LoadedSettings) -> Target:
    """Make the target of an address that was given; its token comes only from who may name it."""
    url = str(settings.values.server_url).rstrip("/")
    origin = settings.origin("server_url")
    found_by = f"the {origin.name.lower()} setting server_url"
    known = _known_servers(url)
    token = _token_for(url, settings)
    if known is not None:
        path, record = known
        if token is None and record.token_file:
            token = read_token_file(Path(record.token_file))
        chain = Path(record.chain) if record.chain else None
        return Target(url, token, record.fingerprint, record.server_id, path, found_by, chain)
    return Target(url, token, None, None, None, found_by)


def _token_for(url: str, settings: LoadedSettings) -> str | None:
    """Return the token that belongs to an address.

    A token belongs to the address of its own source. One from a source without an address follows
    the address of a person (option, environment, user's config), never that of a project's file:
    whoever wrote that file could send it anywhere.
    """
    chosen = settings.origin("server_url")
    for origin in sorted(settings.layers, reverse=True):
        token = _token_of(origin, settings)
        if token is None:
            continue
        own_url = settings.layers[origin].get("server_url")
        if own_url is not None and str(own_url).rstrip("/") != url:
            continue
        if own_url is None and (chosen is Origin.PROJECT or origin is Origin.PROJECT):
            continue
        return token
    return None


def _token_of(origin: Origin, settings: LoadedSettings) -> str | None:
    path = settings.layers[origin].get("token_file")
    if path is not None:
        return read_token_file(Path(path).expanduser())
    variable = f"{ENVIRONMENT_PREFIX}TOKEN"
    given = os.environ.get(variable) if origin is Origin.ENVIRONMENT else None
    return checked_token(given.strip(), variable) if given else None


def _known_servers(url: str) -> tuple[Path, ServerFile] | None:
    for path in _own_server_files():
        try:
            record = read_server_file(path)
        except (BadInput, OSError):
            continue
        if record.url.rstrip("/") == url:
            return path, record
    return None


def _own_server_files() -> list[Path]:
    return sorted((state_directory(create=False) / "servers").glob("*.json"))


def _living(folders: Iterable[Path], search: _Search) -> Iterator[Target]:
    for folder in folders:
        if not folder.is_dir():
            continue
        living = list(_living_files([folder / SERVER_FILE], search))
        yield from living
        database = None if living else _database_of(folder)
        if database is not None:
            search.sleeping.append(Sleeping(folder, database))


def _living_files(paths: Iterable[Path], search: _Search) -> Iterator[Target]:
    for path in paths:
        if not path.is_file():
            continue
        if _is_gone(read_server_file(path)):
            search.gone.append(path)
        else:
            yield Target.from_server_file(path)


def _is_gone(record: ServerFile) -> bool:
    """Say whether the process is surely gone; on another host nobody here can tell.

    A server in Slurm takes its file away when a person stops it; else its next job comes.
    """
    if record.chain is not None:
        return False
    if record.hostname != socket.gethostname():
        return False
    return record.boot_id != boot_id() or process_start_ticks(record.pid) is None


def _database_of(folder: Path) -> str | None:
    try:
        record = msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=RunFile)
    except (OSError, msgspec.DecodeError):
        record = RunFile(database=str(folder / DATABASE_FILE))
    if "://" in record.database or Path(record.database).is_file():
        return record.database
    return None


def _only(found: Iterable[Target], search: _Search, where: str) -> Target | Sleeping:
    targets = list(found)
    if len(targets) > 1:
        names = " and ".join(f"{target.url} ({target.found_by})" for target in targets)
        raise BadInput(f"More than one server is running: {names}. Choose with --server URL or --output DIR.")
    if targets:
        return targets[0]
    if search.sleeping:
        return search.sleeping[0]
    raise nothing_found(search.gone, where)


def nothing_found(gone: Iterable[Path], where: str = "") -> LadingError:
    """Say that no server was found, where one used to be, and what can be done."""
    message = f"No running server was found{' ' + where if where else ''}."
    paths = list(gone)
    if paths:
        message += f" The one of {', '.join(map(str, paths))} has ended."
    return Unavailable(
        f"{message} Start one with `lading serve`, or name one with --server URL "
        "(environment LADING_SERVER_URL) or --output DIR."
    )
