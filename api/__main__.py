"""`python -P -m lading.api`: the server as a process that another program starts and stops."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import uvloop

from lading.api.server_process import Server, ServerOptions, serving, stop_on_signals
from lading.toolkit.cli.context import Amount
from lading.toolkit.errors import BadInput, LadingError, Unavailable
from lading.toolkit.log import configure_logging
from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS

_PATH = click.Path(path_type=Path, dir_okay=False)
_WAIT = Amount(0.1, MAXIMUM_WAIT_SECONDS)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--database", required=True, metavar="PATH|URL", help="SQLite file, or postgres://HOST/NAME.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0: one that is free.")
@click.option("--server-file", type=_PATH, help="Where to write the address (0600).")
@click.option("--token-file", type=_PATH, help="Where to write the owner's token (0600).")
@click.option("--auth", type=click.Choice(["token", "none"]), default="token", show_default=True)
@click.option("--read-only", is_flag=True, help="Change nothing; possible beside another server.")
@click.option("--ready-fd", type=int, help="Gets the URL on one line once the server answers.")
@click.option("--end-fd", type=int, help="The server stops at the end of this pipe.")
@click.option("--synchronous", type=click.Choice(["FULL", "NORMAL"]), default="FULL", show_default=True)
@click.option("--tls-certificate", type=_PATH, help="PEM file, the chain included.")
@click.option("--tls-key", type=_PATH, help="PEM file.")
@click.option("--plain-http", is_flag=True, help="Allow plain HTTP beyond this machine.")
@click.option("--local-cpus", type=click.IntRange(1), help="CPUs of this host for workflows of no config.")
@click.option(
    "--longest-wait", type=_WAIT, default=MAXIMUM_WAIT_SECONDS, help="Seconds that a request may wait."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def main(ready_fd: int | None, end_fd: int | None, log_level: str, **given: Any) -> None:
    """Run a server until SIGTERM, SIGINT, `POST /shutdown` or the end of a pipe."""
    # This process has no children: everything it creates is for its owner alone.
    os.umask(0o077)
    configure_logging(log_level)
    known = {item.name for item in fields(ServerOptions)}
    options = ServerOptions(**{name: value for name, value in given.items() if name in known})
    try:
        _check_descriptors(ready_fd, end_fd)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(options, ready_fd, end_fd))
    except LadingError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3 if isinstance(error, Unavailable) else 2)


async def _run(options: ServerOptions, ready_fd: int | None, end_fd: int | None) -> None:
    async with serving(options) as server:
        stop_on_signals(server)
        if end_fd is not None:
            _stop_at_end(server, end_fd)
        if ready_fd is not None:
            _say_ready(ready_fd, server.url)
        await server.stop.wait()


def _check_descriptors(*descriptors: int | None) -> None:
    for descriptor in descriptors:
        if descriptor is None:
            continue
        try:
            os.fstat(descriptor)
        except OSError as error:
            raise BadInput(f"Descriptor {descriptor} is not open: {error.strerror}.") from error


def _stop_at_end(server: Server, descriptor: int) -> None:
    """Stop when whoever started this process closed the pipe, on purpose or by being killed."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)

    def look() -> None:
        try:
            is_over = os.read(descriptor, 1024) == b""
        except BlockingIOError:
            return
        if is_over:
            loop.remove_reader(descriptor)
            server.stop.set()

    loop.add_reader(descriptor, look)


def _say_ready(descriptor: int, url: str) -> None:
    try:
        os.write(descriptor, f"{url}\n".encode())
        os.close(descriptor)
    except BrokenPipeError:
        # Whoever wanted to know is gone; the end of the other pipe will stop us.
        return


if __name__ == "__main__":
    main(prog_name="python -m lading.api")
