"""What the groups of plain documents share: find by key or name, delete after a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

import click

from lading.toolkit.cli.context import (
    Session,
    chosen_workflow,
    hidden,
    limit_option,
    output_option,
    printing,
    reading,
    skip_option,
    sorting,
    workflow_option,
    yes_option,
)
from lading.toolkit.cli.output import Column, note
from lading.toolkit.client.api import Document
from lading.toolkit.client.session import QueryValue
from lading.toolkit.client.sync import Lading
from lading.toolkit.errors import BadInput, NotFound
from lading.toolkit.specfile import load

_FILTER_METAVAR: Final = "FIELD=VALUE"


class Filter(click.ParamType[tuple[str, QueryValue]]):
    """`name=value` on the command line; digits become a number, true and false a boolean."""

    name = _FILTER_METAVAR

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, QueryValue]:
        """Split at the first equals sign."""
        if isinstance(value, tuple):
            return value
        field, separator, text = str(value).partition("=")
        if not separator or not field:
            self.fail(f"{value!r} is not of the form {_FILTER_METAVAR}.", param, ctx)
        if text.isascii() and text.isdigit():
            return field, int(text)
        return field, {"true": True, "false": False}.get(text.lower(), text)


filter_option = click.option(
    "-f", "--filter", "filters", type=Filter(), multiple=True, help="Only with that value; may be repeated."
)


def list_command(
    collection: str, columns: Sequence[Column], help_text: str, *, plural: str | None = None
) -> click.Command:
    """Make the `list` of a group."""

    @click.command("list", help=help_text)
    @filter_option
    @sorting
    @skip_option
    @limit_option
    @reading
    @click.pass_obj
    def command(
        session: Session,
        *,
        filters: tuple[tuple[str, QueryValue], ...],
        sort_by: str | None,
        reverse_sort: bool,
        skip: int | None,
        limit: int | None,
        workflow: str | None,
        folder: Path | None,
        style: str | None,
        quiet: bool,
    ) -> None:
        with session.reader(folder) as client:
            key = chosen_workflow(client, workflow)
            query: dict[str, QueryValue] = {
                **dict(filters), "sort_by": sort_by, "reverse_sort": reverse_sort or None, "skip": skip,
            }  # fmt: skip
            found = client.list_documents(key, collection, limit=limit, **query)
            session.output(style, quiet=quiet).rows(plural or collection, columns, found)

    return command


def delete_command(
    collection: str, noun: str, find: Callable[[Lading, str, str], Document] | None = None
) -> click.Command:
    """Make the `delete` of a group: some documents, by key or name, or all of them."""

    @click.command("delete", help=f"Delete {noun}: those that are named, or all with --all.")
    @click.argument("names", metavar="[KEY OR NAME]...", nargs=-1)
    @click.option("--all", "everything", is_flag=True, help="All of the workflow.")
    @yes_option
    @workflow_option
    @output_option
    @printing
    @click.pass_obj
    def command(
        session: Session,
        *,
        names: tuple[str, ...],
        everything: bool,
        yes: bool,
        workflow: str | None,
        folder: Path | None,
        style: str | None,
        quiet: bool,
    ) -> None:
        if bool(names) == everything:
            raise BadInput("Give either the keys or names of what to delete, or --all.")
        with session.client(folder) as client:
            owner = chosen_workflow(client, workflow, changing=True)
            output = session.output(style, quiet=quiet)
            # All names are looked up first: a misspelt one deletes nothing.
            look_up = find or (lambda one, key, name: find_document(one, key, collection, name))
            found = [look_up(client, owner, name) for name in names]
            what = f"all {noun}" if everything else ", ".join(title_of(item) for item in found)
            if not yes and not click.confirm(f"Delete {what} of workflow {owner}?", err=True):
                note("Nothing is deleted.")
                return
            if everything:
                client.delete_documents(owner, collection)
                output.done(f"All {noun} of workflow {owner} are deleted.", {"workflow": owner})
            for item in found:
                client.delete_document(owner, collection, str(item["_key"]))
                output.done(f"{title_of(item)} is deleted.", item)

    return command


def everything(delete: click.Command) -> click.Command:
    """Return torc's `delete-all`: `delete` with --all given. No list of commands shows it."""
    alias = hidden(delete)
    alias.params = [copy(item) for item in delete.params]
    for item in alias.params:
        if item.name == "everything":
            item.default = True
    return alias


def find_document(client: Lading, workflow: str, collection: str, name: str) -> Document:
    """Return the document with that key, or with that name."""
    if name.isdecimal():
        try:
            return client.get_document(workflow, collection, name)
        except NotFound:
            # Documents may be named with digits.
            pass
    found = list(client.list_documents(workflow, collection, name=name, limit=10))
    noun = collection.replace("_", " ")
    if not found:
        raise NotFound(f"Workflow {workflow} has nothing in its {noun} with the key or name {name!r}.")
    if len(found) > 1:
        keys = ", ".join(str(item["_key"]) for item in found)
        raise BadInput(f"More than one of the {noun} is named {name!r}; give a key, one of: {keys}.")
    return found[0]


def title_of(document: Document) -> str:
    """Return what a person calls a document."""
    name = document.get("name")
    return f"{document['_key']} ({name})" if name else str(document["_key"])


def parsed_object(text: str, option: str) -> Document:
    """Read the JSON or JSON5 object that an option holds."""
    value = load(text, "json5", option).plain()
    if not isinstance(value, dict):
        raise BadInput(f'{option}: {text!r} is not an object; accepted is such as {{"depth": 8}}.')
    return value
