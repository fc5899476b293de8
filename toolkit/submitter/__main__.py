"""`python -P -m lading.toolkit.submitter`: turn what the server wants into allocations."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lading.toolkit.backends import Backend, installed_kinds, load_backend
from lading.toolkit.errors import BadInput, LadingError
from lading.toolkit.log import configure_logging
from lading.toolkit.private_files import make_private_directory
from lading.toolkit.submitter.connection import Connection
from lading.toolkit.submitter.holder import holder_of
from lading.toolkit.submitter.loop import Submitter

EXIT_BAD_INPUT: Final = 2

logger = logging.getLogger("lading.submitter")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT or the end of the pipe `--end-fd`; the runners outlive this process."""
    options = _parser().parse_args(arguments)
    configure_logging(options.log_level)
    try:
        make_private_directory(options.state_directory)
        backends = usable_backends(options.backend)
        with holder_of(options.state_directory) as holder:
            is_idle = asyncio.run(_run(options, backends, holder))
    except FileNotFoundError as error:
        sys.stderr.write(f"lading submitter: there is no {error.filename}: is the server running?\n")
        return EXIT_BAD_INPUT
    except (LadingError, OSError) as error:
        sys.stderr.write(f"lading submitter: {error}\n")
        return EXIT_BAD_INPUT
    if not is_idle:
        # A backend's call hangs in its thread, and the interpreter would wait for that thread for ever.
        logging.shutdown()
        os._exit(0)
    return 0


def usable_backends(kinds: Sequence[str] = ()) -> dict[str, Backend]:
    """Load the backends of these kinds, by default all that are installed, and keep what works here."""
    usable: dict[str, Backend] = {}
    for kind in kinds or installed_kinds():
        try:
            backend = load_backend(kind)
        except ImportError as error:
            if kinds:
                raise BadInput(
                    f"The backend {kind} cannot be loaded: {error}. Install it: lading[{kind}]."
                ) from error
            # Installed without what it needs: no reason to do without the others.
            logger.warning("backend %s cannot be loaded: %s", kind, error)
            continue
        found = backend.probe()
        verdict = "can be used" if found.available else "cannot be used"
        if found.is_weather:
            verdict = "is asked again when it is needed"
        logger.info("backend %s %s: %s", kind, verdict, found.reason or "no reason given")
        # Left out, it would be so until somebody starts us again.
        if found.available or found.is_weather:
            usable[kind] = backend
    return usable


async def _run(options: argparse.Namespace, backends: dict[str, Backend], holder: str) -> bool:
    submitter = Submitter(
        Connection(options.server_file),
        backends,
        options.state_directory.absolute(),
        per_minute=options.submissions_per_minute,
        site=options.site,
        holder=holder,
        when_connected=lambda: _say_ready(options.ready_fd),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, submitter.stop)
    if options.end_fd is not None:
        os.set_inheritable(options.end_fd, False)
        os.set_blocking(options.end_fd, False)
        loop.add_reader(options.end_fd, _stop_at_end, options.end_fd, submitter)
    return await submitter.run()


def _stop_at_end(descriptor: int, submitter: Submitter) -> None:
    """Stop when whoever started this process has closed the pipe, by being killed or on purpose."""
    try:
        is_over = os.read(descriptor, 1024) == b""
    except BlockingIOError:
        return
    if is_over:
        asyncio.get_running_loop().remove_reader(descriptor)
        submitter.stop()


def _say_ready(descriptor: int | None) -> None:
    if descriptor is None:
        return
    try:
        os.write(descriptor, b"ready\n")
        os.close(descriptor)
    except OSError as error:
        logger.warning("nobody was told that this submitter is ready: %s", error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lading submitter", description=main.__doc__)
    path = Path
    parser.add_argument("--server-file", type=path, required=True, help="server.json of the server")
    parser.add_argument(
        "--state-directory", type=path, required=True, help="0700 folder for node files and records"
    )
    parser.add_argument("--backend", action="append", default=[], help="use only this kind; repeatable")
    parser.add_argument("--site", default="", help="name of the place whose batch systems are used")
    parser.add_argument(
        "--submissions-per-minute", type=_rate, default=60.0, help="at most so many (default: 60)"
    )
    parser.add_argument("--ready-fd", type=int, help="gets one line after the first answer")
    parser.add_argument("--end-fd", type=int, help="stop at the end of this pipe")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1.0 <= rate <= 10_000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return rate


if __name__ == "__main__":
    sys.exit(main())
