"""What the commands share: options, the connection to a server, and which workflow is meant.

The client is imported when a connection is made: help and refusals must not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from lading.toolkit.cli.output import Output, note, output_of
from lading.toolkit.errors import BadInput, LadingError, NotFound, Unavailable
from lading.toolkit.settings import LoadedSettings, load_settings

if TYPE_CHECKING:
    from lading.toolkit.client import Document, Lading, Target

F = TypeVar("F", bound=Callable[..., Any])

_NEWEST: Final = 50
_OFFERED: Final = 200

format_option = click.option(
    "--format", "style", type=click.Choice(["table", "csv", "json"]), help="How to print. [default: table]"
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print keys only, one a line.")
limit_option = click.option("-l", "--limit", type=click.IntRange(min=1), help="Print at most so many.")


def given_workflow(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Prefer what the command says, then torc's `lading --workflow-key`, then the environment."""
    if ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE:
        return value
    return ctx.find_root().params.get("workflow_key") or value


def _needs_no_answer(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Do not ask if the command says so, or torc's `lading --no-prompts`."""
    del param
    return value or bool(ctx.find_root().params.get("no_prompts"))


yes_option = click.option("--yes", is_flag=True, callback=_needs_no_answer, help="Do not ask.")


def complete_workflow(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the keys of workflows to the shell, with their names; nothing where no server answers."""
    from lading.toolkit.client import Lading, Patience

    said = ctx.find_root().params
    given = {"server_url": said.get("server"), "token_file": said.get("token_file")}
    try:
        with Lading(Session(load_settings(given)).target(), patience=Patience(tries=1)) as client:
            found = list(client.list_workflows(limit=_OFFERED))
    except LadingError:
        # A person who presses a key in the shell must not read a traceback there.
        return []
    keys = [(str(item["_key"]), str(item.get("name") or "")) for item in found]
    return [CompletionItem(key, help=name) for key, name in keys if key.startswith(begun)]


workflow_option = click.option(
    "-w",
    "--workflow",
    shell_complete=complete_workflow,
    envvar="LADING_WORKFLOW",
    callback=given_workflow,
    metavar="KEY",
    help="The workflow; left out: the only one, or the newest that is not finished.",
)
output_option = click.option(
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Output folder of a `lading run`, also of one that has ended.",
)


skip_option = click.option("-s", "--skip", type=click.IntRange(min=0), help="Leave out the first ones.")


def sorting(command: F) -> F:
    """Add --sort-by and --reverse-sort."""
    downwards = click.option("--reverse-sort", is_flag=True, help="Sort downwards.")
    return click.option("--sort-by", metavar="FIELD", help="Sort by a field, such as name.")(
        downwards(command)
    )


class Amount(click.FloatRange):
    """A number within bounds; `nan` would pass click's own comparisons, and `inf` is none of ours."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with the value."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def printing(command: F) -> F:
    """Add --format and --quiet."""
    return format_option(quiet_option(command))


def reading(command: F) -> F:
    """Add the options of a command that reads one workflow and prints."""
    return workflow_option(output_option(printing(command)))


def hidden(command: click.Command) -> click.Command:
    """Return a command as it is, for a second name that no list of commands shows."""
    alias = copy(command)
    alias.hidden = True
    return alias


class Session:
    """What one call of the command line knows before it does anything."""

    def __init__(self, settings: LoadedSettings) -> None:
        self.settings = settings

    def output(self, style: str | None, *, quiet: bool = False) -> Output:
        """Return the renderer that was asked for."""
        return output_of(style or self.settings.values.output_format, quiet=quiet)

    def target(self, folder: Path | None = None) -> Target:
        """Find a server that runs."""
        from lading.toolkit.client.discovery import Sleeping, discover

        found = discover(self.settings, output=folder)
        if isinstance(found, Sleeping):
            raise Unavailable(
                f"No server is running for {found.folder.parent}: that run has ended, it can only be read. "
                "Name another server with --server URL, or start one with `lading serve`."
            )
        return found

    @contextmanager
    def client(self, folder: Path | None = None) -> Iterator[Lading]:
        """Connect to a server that runs."""
        with _connect(self.target(folder)) as client:
            yield client

    @contextmanager
    def reader(self, folder: Path | None = None) -> Iterator[Lading]:
        """Connect to a server that runs, or read a run that has ended."""
        from lading.toolkit.client.discovery import Sleeping, discover
        from lading.toolkit.client.private_server import reading_server

        found = discover(self.settings, output=folder)
        if not isinstance(found, Sleeping):
            with _connect(found) as client:
                yield client
            return
        with reading_server(found) as target, _connect(target) as client:
            yield client


def chosen_workflow(client: Lading, given: str | None, *, changing: bool = False) -> str:
    """Return the key of the workflow that is meant; a command that changes something never guesses."""
    if given:
        return given
    found = list(client.list_workflows(is_archived=False))
    if not found:
        raise NotFound("There is no workflow on this server; make one with `lading submit-workflow FILE`.")
    if len(found) == 1:
        return str(found[0]["_key"])
    found.sort(key=lambda document: _age_order(str(document["_key"])), reverse=True)
    unfinished = islice((item for item in found[:_NEWEST] if _is_unfinished(client, item)), 2)
    candidates = list(unfinished)
    if not candidates or (changing and len(candidates) > 1):
        raise BadInput(f"Which workflow? Give --workflow KEY, one of: {_names(found)}.")
    newest = candidates[0]
    note(f"Workflow {newest['_key']} ({newest.get('name') or 'unnamed'}), the newest that is not finished.")
    return str(newest["_key"])


def chosen_job(client: Lading, workflow: str, job: str) -> Document:
    """Return the job with that key, or with that name."""
    if not job:
        raise BadInput("The name of a job is empty; give its key or its name.")
    if job.isdecimal():
        try:
            return client.get_job(workflow, job)
        except NotFound:
            # Jobs may be named with digits.
            pass
    found = list(client.list_jobs(workflow, name=job, limit=10))
    if not found:
        raise NotFound(
            f"Workflow {workflow} has no job with the key or name {job!r}; see: lading jobs list -w {workflow}"
        )
    if len(found) > 1:
        keys = ", ".join(str(item["_key"]) for item in found)
        raise BadInput(f"More than one job is named {job!r}; give a key, one of: {keys}.")
    return found[0]


def _connect(target: Target) -> Lading:
    from lading.toolkit.client import Lading, Patience

    # A person waits at the prompt: give up after seconds, not after minutes.
    patience = Patience(tries=4, first_ceiling=0.2, last_ceiling=2.0) if target.chain is None else None
    return Lading(target, patience=patience)


def _is_unfinished(client: Lading, workflow: Document) -> bool:
    progress = client.progress(str(workflow["_key"]))
    return not (progress.is_complete or progress.is_canceled)


def _age_order(key: str) -> tuple[int, int, str]:
    # Generated keys grow; one that a person chose says nothing about its age.
    return (1, int(key), key) if key.isdecimal() else (0, 0, key)


def _names(found: list[Document]) -> str:
    names = [f"{item['_key']} ({item.get('name') or 'unnamed'})" for item in found[:10]]
    return ", ".join(names) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
