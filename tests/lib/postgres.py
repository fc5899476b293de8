"""A private PostgreSQL server for tests: in a temporary folder, on loopback, gone with the session."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

ADMIN_URL_VARIABLE = "LADING_TEST_POSTGRES"
"""Names a running server instead: a URL whose user may create databases."""
START_SECONDS = 60.0
PACKAGED = Path("/usr/lib/postgresql")
"""Where Debian keeps the server programs, outside PATH."""

# Nothing here needs to survive a power cut, and the tests create hundreds of databases.
SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=300",
    "shared_buffers=64MB",
    "max_wal_size=1GB",
    "autovacuum_naptime=10min",
)


class Unavailable(Exception):
    """No PostgreSQL server can be started on this machine; the text says why."""


def programs() -> Path:
    """Return the folder of `initdb` and `postgres`: the newest version found. Raises Unavailable."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = [path.parent for path in PACKAGED.glob("*/bin/initdb")]
    if not versions:
        raise Unavailable("no `initdb` on this machine: install PostgreSQL's server package")
    return max(versions, key=lambda path: float(path.parent.name))


@contextmanager
def running_server() -> Iterator[str]:
    """Yield the admin URL of a server of our own. Raises Unavailable."""
    bin_directory = programs()
    # Not below pytest's folders: those are 0700 for root, and PostgreSQL refuses to run as root.
    # And a short path: a socket's may have 107 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="lading-postgres-"))
    try:
        account = _account()
        if account is not None:
            shutil.chown(directory, account, _group(account))
        data = directory / "data"
        _initialise(bin_directory / "initdb", data, account)
        port = _free_port()
        command: list[str | Path] = [bin_directory / "postgres", "-D", data, "-p", str(port)]
        command += ["-h", "127.0.0.1", "-k", directory]
        for setting in SETTINGS:
            command += ["-c", setting]
        log = directory / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                user=account,
                group=_group(account),
                extra_groups=None if account is None else [],
                # Ctrl-C in the terminal is for pytest, which then stops the server itself.
                start_new_session=True,
            )
        try:
            url = f"postgres://postgres@127.0.0.1:{port}/postgres"
            _await_start(url, server, log)
            yield url
        finally:
            _stop(server)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Databases:
    """Hands out databases of one server; a template is filled once and cloned for each test."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self._prefix = f"lading_test_{os.getpid()}"
        self._count = 0

    def create(self, template: str | None = None) -> str:
        """Create an empty database, or a copy of one named by its URL; return its URL."""
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        source = "template0" if template is None else urlsplit(template).path.lstrip("/")
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        return self._url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        name = urlsplit(url).path.lstrip("/")
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{quote(name)}"))

    def _execute(self, statement: str) -> None:
        async def once() -> None:
            connection = await asyncpg.connect(self.admin_url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        _run_apart(once)


def _run_apart(function: Callable[[], Coroutine[None, None, None]]) -> None:
    # In a thread of its own, because asyncio.run takes away the loop that pytest-asyncio has set.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: asyncio.run(function())).result()


def _account() -> str | None:
    """Return the user to run the server as; None for ourselves. PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Unavailable("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")


def _group(account: str | None) -> int | None:
    return None if account is None else pwd.getpwnam(account).pw_gid


def _initialise(program: Path, data: Path, account: str | None) -> None:
    command: list[str | Path] = [
        program,
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    outcome = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=data.parent,
        user=account,
        group=_group(account),
        extra_groups=None if account is None else [],
    )
    if outcome.returncode != 0:
        raise Unavailable(f"`initdb` failed: {outcome.stderr.strip()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_start(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    async def connect() -> None:
        connection = await asyncpg.connect(url, timeout=5)
        await connection.close()

    deadline = time.monotonic() + START_SECONDS
    while True:
        if server.poll() is not None:
            raise Unavailable(f"`postgres` ended at once: {log.read_text(errors='replace').strip()}")
        try:
            _run_apart(connect)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            if time.monotonic() > deadline:
                text = log.read_text(errors="replace").strip()
                raise Unavailable(f"`postgres` did not answer in {START_SECONDS:.0f} s: {text}") from None
            time.sleep(0.05)  # between two looks, not instead of one
        else:
            return


def _stop(server: subprocess.Popen[bytes]) -> None:
    # INT disconnects the clients, QUIT does not even do that.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(15)
            return
