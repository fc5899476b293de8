"""`lading tui`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from lading.toolkit.cli.context import Session, output_option, workflow_option
from lading.toolkit.cli.output import examples
from lading.toolkit.errors import BadInput


@click.command(
    epilog=examples(
        "lading tui",
        "lading tui --workflow 12",
        "lading --server https://head:8080 tui",
    )
)
@workflow_option
@output_option
@click.pass_obj
def tui(session: Session, *, workflow: str | None, folder: Path | None) -> None:
    """Watch and steer workflows in the terminal: jobs, nodes and events, live.

    Keys stand at the foot of the screen; what changes something asks first. Needs: pip install 'lading[tui]'
    """
    if find_spec("textual") is None:
        raise BadInput(
            "`lading tui` needs the package textual; install it with: pip install 'lading[tui]'. "
            "Without it: lading workflows list, lading jobs list, lading events follow."
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("`lading tui` needs a terminal; for pipes there is: lading jobs list --format json")
    from lading.toolkit.console.app import Console

    Console(session.target(folder), workflow=workflow).run()
