"""One running server: lock, database, token, application, socket, and the file that says where it is.

Every step that is taken is undone in the opposite order, whatever ends the server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from lading.api.app import SHUTDOWN_SECONDS, create_app, create_services
from lading.api.auth import server_owner
from lading.api.services import tokens
from lading.api.services.identity import Principal, Scope
from lading.api.services.resources import Services
from lading.api.state import ServerState
from lading.api.storage.locks import DatabaseLock
from lading.api.storage.opening import is_postgres, open_database, prepare_file, sqlite_path
from lading.api.storage.sqlite import SqliteDatabase, Synchronous
from lading.api.storage.unit_of_work import Database
from lading.toolkit.cli.server_chain import stopped_because
from lading.toolkit.client.target import is_loopback, read_token_file
from lading.toolkit.clock import Clock, SystemClock, to_milliseconds
from lading.toolkit.errors import BadInput
from lading.toolkit.private_files import boot_id, make_private_directory, write_private
from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS
from lading.toolkit.wire.files import ServerFile

log = logging.getLogger("lading.api")

_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class ServerOptions:
    database: str
    """Path of a SQLite file, or postgres://HOST/NAME without a password."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any that is free."""
    server_file: Path | None = None
    """Default: none is written."""
    token_file: Path | None = None
    """Default: `token` beside the server file."""
    auth: Literal["token", "none"] = "token"
    read_only: bool = False
    synchronous: Synchronous = "FULL"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    plain_http: bool = False
    """Allow plain HTTP on other addresses than loopback."""
    advertise: str | None = None
    """The address by which nodes and commands reach the server; None: the one it listens on."""
    local_cpus: int | None = None
    longest_wait: float = MAXIMUM_WAIT_SECONDS
    """Seconds until a request that waits for news is answered without."""
    chain: Path | None = None
    """`chain.json` of a server that moves from job to job: token and address file outlive each of them."""


@dataclass(slots=True)
class Server:
    """A server that listens."""

    url: str
    services: Services
    state: ServerState
    token: str
    """The owner's; empty with `--auth none`."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by whoever wants it to end: a signal, the end of a pipe, `POST /shutdown`."""


@asynccontextmanager
async def serving(options: ServerOptions, clock: Clock | None = None) -> AsyncIterator[Server]:
    """Run a server for the length of the context."""
    clock = clock or SystemClock()
    context = _tls_context(options)
    async with AsyncExitStack() as stack:
        lock = _take_lock(options, stack)
        database = await open_database(
            options.database,
            now_ms=to_milliseconds(clock.wall()),
            read_only=options.read_only,
            synchronous=options.synchronous,
        )
        stack.push_async_callback(database.close)
        services = await create_services(
            database,
            clock=clock,
            read_only=options.read_only,
            authenticated=options.auth == "token",
            local_cpus=options.local_cpus,
            longest_wait_seconds=options.longest_wait,
        )
        stack.push_async_callback(services.orm.close)
        state = ServerState()
        state.degraded.update(_degraded(options, database))
        token, fixed = await _owner_token(options, services)
        app = create_app(
            services,
            state=state,
            fixed_tokens=fixed,
            allowed_hosts=_proxy_hosts(options) if is_loopback(options.host) else None,
        )
        listens_at = await _listen(options, app, context, stack)
        url = advertised(options.advertise, listens_at)
        server = Server(url, services, state, token)
        state.request_stop = server.stop.set
        _announce(options, server, lock, stack)
        log.info("The server listens.", extra={"url": url, "database": database.url})
        yield server
        log.info("The server stops.")


def stop_on_signals(server: Server) -> None:
    """Stop in order at SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop.set)


def _proxy_hosts(options: ServerOptions) -> tuple[str, ...]:
    """Return the names beside loopback's own by which a server that only listens there may be called."""
    if options.advertise is None:
        return ()
    return (urlsplit(advertised(options.advertise, "http://localhost")).hostname or "",)


def _take_lock(options: ServerOptions, stack: AsyncExitStack) -> DatabaseLock | None:
    # PostgreSQL excludes by itself what must be excluded; a reader harms nobody.
    if is_postgres(options.database) or options.read_only:
        return None
    path = sqlite_path(options.database)
    prepare_file(path)
    return stack.enter_context(DatabaseLock(path, "server"))


def _degraded(options: ServerOptions, database: Database) -> dict[str, str]:
    reasons = {}
    if isinstance(database, SqliteDatabase) and database.on_network and not options.read_only:
        reasons["database"] = (
            f"{database.path} is on a network file system, where SQLite is slow: "
            "a local disk (`--database PATH`) or PostgreSQL is better."
        )
    if options.synchronous == "NORMAL":
        reasons["durability"] = "With --synchronous NORMAL a power loss may undo the last transactions."
    if not is_loopback(options.host) and options.tls_certificate is None:
        reasons["transport"] = "Plain HTTP: tokens and data can be read on the network."
    if options.auth == "none":
        reasons["authentication"] = "With --auth none whoever reaches this server may do everything."
    for reason in reasons.values():
        log.warning(reason)
    return reasons


async def _owner_token(options: ServerOptions, services: Services) -> tuple[str, dict[str, Principal]]:
    """Make the owner's token and put it into its file; return it with those that only this process knows."""
    if options.auth == "none":
        return "", {}
    owner = server_owner()
    path = token_file(options)
    host = socket.gethostname() if options.chain is None else "slurm"
    place = f"{host}:{path.absolute() if path else secrets.token_hex(8)}"
    fixed = {}
    if options.read_only:
        # Nothing can be stored: the token lives and ends with this process.
        token = tokens.new_secret()
        fixed[tokens.hash_of(token)] = Principal(user=owner, scope=Scope.ADMIN)
    else:
        now_ms = to_milliseconds(services.clock.wall())
        kept = None if options.chain is None else _token_of_predecessor(path)
        token = await tokens.replace_owner_token(services.database, owner, place, now_ms, kept=kept)
    if path is not None:
        _make_folder(path)
        write_private(path, f"{token}\n".encode())
    return token, fixed


def _token_of_predecessor(path: Path | None) -> str | None:
    try:
        return None if path is None else read_token_file(path)
    except BadInput:
        # The first of its chain, or a file that somebody else could have read or written.
        return None


def token_file(options: ServerOptions) -> Path | None:
    """Return where the owner's token goes."""
    if options.token_file is not None or options.server_file is None:
        return options.token_file
    return options.server_file.with_name("token")


async def _listen(
    options: ServerOptions, app: web.Application, context: ssl.SSLContext | None, stack: AsyncExitStack
) -> str:
    # A handler is cancelled when its client goes away: a node that is gone must not wait for jobs.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, options.host, options.port, ssl_context=context, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        raise BadInput(
            f"--host {options.host} --port {options.port}: the server cannot listen there "
            f"({os.strerror(error.errno) if error.errno else error}); choose another, or --port 0 for a free one."
        ) from error
    port = runner.addresses[0][1]
    scheme = "http" if context is None else "https"
    return f"{scheme}://{_reachable_name(options.host)}:{port}"


def advertised(given: str | None, listens_at: str) -> str:
    """Return the address to tell others: `HOST` and `HOST:PORT` are completed by what the server listens on."""
    if given is None:
        return listens_at
    actual = urlsplit(listens_at)
    parts = urlsplit(given if "://" in given else f"{actual.scheme}://{given}")
    try:
        port = parts.port or (None if "://" in given else actual.port)
    except ValueError:
        port = -1
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or port == -1
        or parts.query
        or parts.fragment
    ):
        raise BadInput(
            f"--advertise {given!r} is not an address; accepted is HOST, HOST:PORT or https://HOST:PORT/PREFIX."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _reachable_name(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.getfqdn()
    return f"[{host}]" if address.version == 6 else host


def _announce(
    options: ServerOptions, server: Server, lock: DatabaseLock | None, stack: AsyncExitStack
) -> None:
    path = options.server_file
    if lock is not None:
        lock.announce(server.url, str(path.absolute()) if path is not None else "")
    if path is None:
        return
    tokens_at = token_file(options)
    record = ServerFile(
        url=server.url,
        server_id=server.services.server_id,
        pid=os.getpid(),
        hostname=socket.gethostname(),
        boot_id=boot_id(),
        database=server.services.database.url.removeprefix("sqlite://"),
        fingerprint=_fingerprint(options.tls_certificate),
        token_file=str(tokens_at.absolute()) if tokens_at is not None and server.token else None,
        chain=str(options.chain) if options.chain is not None else None,
    )
    content = msgspec.json.encode(record)
    _make_folder(path)
    write_private(path, content)
    # Last in, first out: nobody may find the address of a server that has begun to stop.
    stack.callback(_remove_own, path, content, options.chain)


def _remove_own(path: Path, content: bytes, chain: Path | None) -> None:
    if chain is not None and stopped_because(chain) is None:
        # The next job of the chain replaces it; until then it tells commands that there is a server.
        return
    try:
        if path.read_bytes() == content:
            path.unlink()
    except OSError:
        # Gone, or unreadable: then it is not ours any more.
        return


def _make_folder(path: Path) -> None:
    if not path.parent.exists():
        make_private_directory(path.parent)


def _tls_context(options: ServerOptions) -> ssl.SSLContext | None:
    certificate, key = options.tls_certificate, options.tls_key
    if (certificate is None) != (key is None):
        raise BadInput("--tls-certificate and --tls-key are given together or not at all.")
    if certificate is None or key is None:
        if not is_loopback(options.host) and not options.plain_http:
            raise BadInput(
                f"--host {options.host} can be reached from other machines: give --tls-certificate and "
                "--tls-key, or accept with --plain-http that tokens and data can be read on the network."
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"--tls-certificate {certificate}, --tls-key {key}: {error}.") from error
    return context


def _fingerprint(certificate: Path | None) -> str | None:
    """Return the SHA-256 of the first certificate in a PEM file: the server's own."""
    if certificate is None:
        return None
    text = certificate.read_text(encoding="ascii", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = text[text.index(begin) : text.index(end) + len(end)]
    return sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
