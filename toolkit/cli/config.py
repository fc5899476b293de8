"""`lading config`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from lading.toolkit.cli.context import Session
from lading.toolkit.cli.output import examples, note
from lading.toolkit.errors import BadInput
from lading.toolkit.private_files import make_private_directory
from lading.toolkit.settings import PROJECT_FILE, USER_FILE, Settings, config_directory


@click.group(
    epilog=examples(
        "lading config create --server-url http://head:8529 --output-format json",
        "lading config show",
    )
)
def config() -> None:
    """Keep settings in a file, so that they need not be given with every command."""


@config.command()
@click.option("-u", "--server-url", help="Address of the server.")
@click.option("--token-file", type=click.Path(path_type=Path), help="0600 file with the token for it.")
@click.option(
    "-F", "--output-format", type=click.Choice(["table", "csv", "json"]), help="How lists are printed."
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the output of jobs.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--user", help="Owner of new workflows.")
@click.option("--project", is_flag=True, help=f"Write {PROJECT_FILE} here instead of the user's file.")
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
@click.pass_obj
def create(session: Session, /, *, project: bool, force: bool, **given: Any) -> None:
    """Write a settings file: ~/.config/lading/config.toml, or the project's."""
    del session
    values: dict[str, Any] = {
        name: str(value.expanduser().absolute()) if isinstance(value, Path) else value
        for name, value in given.items()
        if value is not None
    }
    if not values:
        raise BadInput("Give at least one setting; see: lading config create --help")
    try:
        Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{first['loc'][0]}: {first['input']!r} is not accepted: {first['msg']}.") from None
    path = Path(PROJECT_FILE).absolute() if project else config_directory() / USER_FILE
    if not project:
        make_private_directory(path.parent)
    _write(path, values, force=force)
    click.echo(str(path))


@config.command()
@click.option("--format", "style", type=click.Choice(["table", "csv", "json"]), help="How to print.")
@click.pass_obj
def show(session: Session, *, style: str | None) -> None:
    """Print the settings that count here, and who gave each."""
    settings = session.settings
    document = {
        name: f"{value}  ({settings.origin(name).name.lower()})"
        for name, value in settings.values
        if value is not None
    }
    session.output(style).document(document)


def _write(path: Path, values: dict[str, str], *, force: bool) -> None:
    # A string of JSON is a string of TOML.
    text = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError:
        raise BadInput(f"{path} exists; replace it with --force.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    if force:
        note(f"{path} was replaced.")
