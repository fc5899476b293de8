"""`lading serve`, `lading db`, `lading token`: what is done where the database is."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from lading.api.database_commands import back_up, check, upgrade, verify
from lading.api.detached import Started, detach
from lading.api.in_slurm import Begun, InSlurm, check_no_other, serve_in_slurm
from lading.api.running import greeting, run_server, serve_until_stopped, server_file_of
from lading.api.server_process import Server, ServerOptions
from lading.api.storage.opening import is_postgres, prepare_file, sqlite_path
from lading.api.token_access import TokenAccess, token_access
from lading.toolkit.cli.context import Amount, Session, format_option
from lading.toolkit.cli.output import Column, examples, note
from lading.toolkit.domain.values import parse_duration
from lading.toolkit.errors import BadInput
from lading.toolkit.log import configure_logging
from lading.toolkit.settings import LoadedSettings, state_directory
from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS

DATABASE_NAME = "lading.db"
_FILE = click.Path(path_type=Path, dir_okay=False)
_TOKEN_COLUMNS = (
    Column("id", "id", right=True),
    Column("scope", lambda row: ", ".join(row["scopes"])),
    Column("user", "user"),
    Column("workflow", "workflow"),
    Column("label", "label"),
    Column("created", "created_at"),
    Column("expires", "expires_at"),
)

database_option = click.option(
    "--database",
    metavar="PATH|URL",
    help="SQLite file, or postgres://HOST/NAME (the password from PGPASSFILE or PGPASSWORD). "
    "[default: lading.db in ~/.local/state/lading]",
)


def database_of(settings: LoadedSettings, given: str | None) -> str:
    """Return the location that is meant: the option, the settings, or the user's own file."""
    location = given or settings.values.database
    if location is None:
        return str(state_directory() / DATABASE_NAME)
    return location if is_postgres(location) else str(sqlite_path(location))


# ---- serve ----------------------------------------------------------------------------------


@click.command(
    epilog=examples(
        "lading serve",
        "lading serve --port 0 --database ./project.db",
        "lading serve --detach",
        "lading serve --in-slurm workflow.yaml:small --database /shared/me/project.db",
        "lading serve --host 0.0.0.0 --tls-certificate cert.pem --tls-key key.pem",
        "lading serve --database postgres://lading@db.example.org/lading",
    )
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: one that is free."
)
@database_option
@click.option(
    "--auth",
    type=click.Choice(["token", "none"]),
    default="token",
    show_default=True,
    help="none: whoever reaches the server may do everything; for old clients on a trusted network.",
)
@click.option("--no-submitter", is_flag=True, help="Ask no scheduler; run `lading submitter` elsewhere.")
@click.option(
    "--local-cpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run jobs of workflows that name no scheduler on N CPUs of this machine.",
)
@click.option(
    "--longest-wait",
    type=Amount(0.1, MAXIMUM_WAIT_SECONDS),
    default=MAXIMUM_WAIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Answer requests that wait for news after so long; for proxies that cut silent connections.",
)
@click.option("--tls-certificate", type=_FILE, help="PEM file, the chain included.")
@click.option("--tls-key", type=_FILE, help="PEM file of the certificate's key.")
@click.option(
    "--advertise",
    metavar="URL",
    help="Address by which nodes reach the server: HOST, HOST:PORT, or the URL of a proxy. "
    "[default: the one it listens on]",
)
@click.option("--plain-http", is_flag=True, help="Accept plain HTTP on an address other machines reach.")
@click.option(
    "--synchronous",
    type=click.Choice(["FULL", "NORMAL"]),
    default="FULL",
    show_default=True,
    help="SQLite: NORMAL is faster, and a power loss may undo the last transactions.",
)
@click.option("--server-file", type=_FILE, help="Where to write the address, for commands to find it.")
@click.option(
    "--detach",
    "is_detached",
    is_flag=True,
    help="Return once the server answers; it runs on when you log out, until `lading stop`.",
)
@click.option(
    "--in-slurm",
    metavar="FILE[:NAME]",
    help="Serve in small Slurm jobs, each of which asks for the next: asked for as the Slurm config NAME "
    "of a workflow file says.",
)
@format_option
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    *,
    database: str | None,
    no_submitter: bool,
    server_file: Path | None,
    is_detached: bool,
    in_slurm: str | None,
    style: str | None,
    **given: Any,
) -> None:
    """Run a server, and the submitter that asks schedulers for allocations.

    Your own commands on this machine find it by themselves. It stops at Ctrl-C, at TERM and at
    `lading stop`; running jobs go on and report to the next server on the same database. With --detach
    what it has to say goes to a log file beside the database, readable by you alone.

    With --in-slurm it lives in jobs of Slurm instead, one after the other, until `lading stop`. The database
    and your home then have to be on a file system that all nodes share. Each server listens on its node's
    address towards slurmctld, at a free port, with a certificate of its own that runners and commands pin.
    """
    session: Session = ctx.obj
    location = database_of(session.settings, database)
    if in_slurm is not None:
        if is_detached:
            raise click.UsageError("--in-slurm and --detach exclude each other.")
        asked = InSlurm(in_slurm, location, server_file, no_submitter, _given_alone(ctx, given))
        _tell_begun(session, serve_in_slurm(asked, session.settings), style)
        return
    check_no_other(location)
    path = server_file or server_file_of(location, f"{socket.gethostname()}-{given['port']}")
    options = ServerOptions(
        database=location, server_file=path, token_file=path.with_suffix(".token"), **given
    )
    parent = None
    if is_detached:
        log_file = _log_file(location, path)
        outcome = detach(log_file)
        if isinstance(outcome, Started):
            _tell_started(session, outcome, style)
            return
        parent = outcome
    if session.settings.origins.get("log_level") is None:
        configure_logging("info")

    def on_ready(server: Server) -> None:
        note(greeting(server, options))
        if parent is not None:
            parent.say_ready(_started(server, options, parent.log_file))

    run_server(serve_until_stopped(options, path, on_ready, no_submitter=no_submitter))


def _given_alone(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what nobody gave: the defaults of a server in Slurm are others."""
    default = click.core.ParameterSource.DEFAULT
    return {name: value for name, value in options.items() if ctx.get_parameter_source(name) is not default}


def _tell_begun(session: Session, begun: Begun, style: str | None) -> None:
    if begun.url is not None:
        message = (
            f"Lading serves at {begun.url} in Slurm job {begun.slurm_job}, database {begun.database}; "
            f"log: {begun.log}. `lading stop` ends it."
        )
    else:
        message = (
            f"Slurm job {begun.slurm_job} waits ({begun.reason or 'no reason yet'}); your commands find the server "
            f"once it runs. Log: {begun.log}. `lading stop` takes it back."
        )
    session.output(style).done(message, msgspec.structs.asdict(begun))


def _log_file(location: str, server_file: Path) -> Path:
    """Return where a detached server writes: beside the database, or its address if that is no file."""
    if is_postgres(location):
        return server_file.with_suffix(".log")
    database = sqlite_path(location)
    prepare_file(database)
    return database.with_name(f"{database.name}.log")


def _started(server: Server, options: ServerOptions, log_file: Path) -> Started:
    return Started(
        url=server.url,
        pid=os.getpid(),
        log=str(log_file),
        database=server.services.database.url.removeprefix("sqlite://"),
        server_file=str(Path(options.server_file or "").absolute()),
        token_file=str(Path(options.token_file or "").absolute()) if server.token else None,
    )


def _tell_started(session: Session, started: Started, style: str | None) -> None:
    message = (
        f"Lading serves at {started.url} (process {started.pid}), database {started.database}; "
        f"log: {started.log}. `lading stop` ends it."
    )
    session.output(style).done(message, msgspec.structs.asdict(started))


# ---- db -------------------------------------------------------------------------------------


@click.group()
def db() -> None:
    """Upgrade, check, back up and verify a database."""


@db.command("upgrade", epilog=examples("lading db upgrade", "lading db upgrade --database ./project.db"))
@database_option
@click.pass_obj
def db_upgrade(session: Session, *, database: str | None) -> None:
    """Bring a database to this version's schema; a SQLite file is backed up first."""
    for line in asyncio.run(upgrade(database_of(session.settings, database))):
        click.echo(line)


@db.command("check", epilog=examples("lading db check --database ./project.db"))
@database_option
@click.pass_obj
def db_check(session: Session, *, database: str | None) -> None:
    """Check the schema's version and that the file is sound. Possible beside a server."""
    _report(asyncio.run(check(database_of(session.settings, database))))


@db.command("backup", epilog=examples("lading db backup /backups/lading-monday.db"))
@click.argument("target", type=_FILE)
@database_option
@click.pass_obj
def db_backup(session: Session, *, target: Path, database: str | None) -> None:
    """Copy a SQLite database to TARGET, consistently, also beside a server."""
    location = database_of(session.settings, database)
    back_up(location, target)
    click.echo(f"{location} is copied to {target}.")


@db.command("verify", epilog=examples("lading db verify --database output/.lading/lading.db"))
@database_option
@click.pass_obj
def db_verify(session: Session, *, database: str | None) -> None:
    """Prove from tables and events that nothing was lost and nothing ran twice."""
    _report(asyncio.run(verify(database_of(session.settings, database))))


def _report(problems: list[str]) -> None:
    """Print OK, or every problem and end with code 1."""
    if not problems:
        click.echo("OK")
        return
    for problem in problems:
        click.echo(problem)
    sys.exit(1)


# ---- token ----------------------------------------------------------------------------------


@click.group()
def token() -> None:
    """Create, list and revoke tokens.

    A server that owns the database is asked; without one the database is opened directly.
    """


def _access(session: Session, database: str | None, *, create: bool = False) -> TokenAccess:
    if database is None and session.settings.values.server_url is not None:
        return token_access(target=session.target())
    return token_access(location=database_of(session.settings, database), create=create)


@token.command(
    "create",
    epilog=examples(
        "lading token create --label laptop --expires 30d",
        "lading token create --scope read --user ana",
    ),
)
@click.option(
    "--scope",
    type=click.Choice(["user", "read", "admin", "node"]),
    default="user",
    show_default=True,
    help="user: own workflows; read: the same without changes; admin: everything; node: one workflow.",
)
@click.option("--user", help="Whom it stands for. [default: you]")
@click.option("--workflow", metavar="KEY", help="With --scope node: the workflow its nodes work for.")
@click.option("--expires", metavar="DURATION", help="How long it lives: 12h, P30D. [default: until revoked]")
@click.option("--label", default="", help="What it is for.")
@database_option
@click.pass_obj
def token_create(
    session: Session,
    *,
    scope: Literal["user", "read", "admin", "node"],
    user: str | None,
    workflow: str | None,
    expires: str | None,
    label: str,
    database: str | None,
) -> None:
    """Make a token and print it, alone on the last line. It is shown this once."""
    seconds = None if expires is None else _seconds(expires)
    made = _access(session, database, create=True).create(
        [scope], user=user, workflow=workflow, expires_seconds=seconds, label=label
    )
    note(f"Token {made['id']} for {made['user']}, scope {scope}, expires {made['expires_at'] or 'never'}.")
    click.echo(made["token"])


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except BadInput as error:
        raise BadInput(f"--expires: {error}") from error


@token.command("list", epilog=examples("lading token list", "lading token list --format json"))
@database_option
@format_option
@click.pass_obj
def token_list(session: Session, *, database: str | None, style: str | None) -> None:
    """List tokens, without their secrets."""
    rows = _access(session, database).list()
    session.output(style).rows("tokens", _TOKEN_COLUMNS, rows)


@token.command("revoke", epilog=examples("lading token revoke 17"))
@click.argument("token_id", metavar="ID")
@database_option
@format_option
@click.pass_obj
def token_revoke(session: Session, *, token_id: str, database: str | None, style: str | None) -> None:
    """End a token, within a second."""
    document = _access(session, database).revoke(token_id)
    session.output(style).done(f"Token {token_id} is revoked.", document)
