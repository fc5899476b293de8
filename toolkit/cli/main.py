"""The `lading` command: which commands there are, and what becomes of errors.

Exit codes: 0 success, 1 jobs failed, 2 bad input or a refusal, 3 server unreachable, 130 interrupted.
A command's module is imported when it is called: `lading --help` must not wait for all of them.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import click

from lading.toolkit.cli.context import Session
from lading.toolkit.cli.output import examples, note
from lading.toolkit.errors import BadInput, LadingError, Unavailable, Violation
from lading.toolkit.log import configure_logging
from lading.toolkit.settings import load_settings

EXIT_REFUSED: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130
ENTRY_POINT_GROUP: Final = "lading.commands"

_COMMANDS: Final = {
    "run": ("lading.toolkit.cli.run:run", "Run a workflow file, a command or a list of commands here."),
    "submit-workflow": ("lading.toolkit.cli.submit:submit_workflow", "Send a workflow file to a server and start it."),
    "workflows": ("lading.toolkit.cli.workflows:workflows", "List, show, start, cancel and delete workflows."),
    "jobs": ("lading.toolkit.cli.jobs:jobs", "List jobs, read their logs, cancel and retry them."),
    "results": ("lading.toolkit.cli.results:results", "List the results of jobs."),
    "explain": ("lading.toolkit.cli.jobs:explain", "Say why a job is in its state."),
    "events": ("lading.toolkit.cli.events:events", "List what happened, or follow it."),
    "nodes": ("lading.toolkit.cli.nodes:nodes", "List, drain and give up compute nodes."),
    "allocations": ("lading.toolkit.cli.allocations:allocations", "List, show and cancel allocations."),
    "files": ("lading.toolkit.cli.files:files", "List, add and delete the files of workflows."),
    "user-data": ("lading.toolkit.cli.user_data:user_data", "Keep JSON objects that jobs read and write."),
    "resource-requirements": (
        "lading.toolkit.cli.resource_requirements:resource_requirements", "Say what jobs need.",
    ),
    "collections": ("lading.toolkit.cli.collections:collections", "List collections, and join them."),
    "graphs": ("lading.toolkit.cli.graphs:graphs", "Draw what depends on what."),
    "reports": ("lading.toolkit.cli.reports:reports", "Tell what became of jobs, with their logs."),
    "stats": ("lading.toolkit.cli.stats:stats", "Work with the samples of runners."),
    "export": ("lading.toolkit.cli.export:export", "Copy workflows into a SQLite file."),
    "config": ("lading.toolkit.cli.config:config", "Keep settings in a file."),
    "node": ("lading.toolkit.cli.node:node", "Run jobs of a workflow on this machine."),
    "submitter": ("lading.toolkit.cli.submitter:submitter", "Ask the schedulers for allocations, for a server."),
    "stop": ("lading.toolkit.cli.stop:stop", "Stop a server."),
    "tui": ("lading.toolkit.console.command:tui", "Watch and steer workflows in the terminal."),
    "completion": ("lading.toolkit.cli.completion:completion", "Print a script for the shell's completion."),
}  # fmt: skip
# Second names, which no list shows: torc's.
_HIDDEN: Final = {"compute-nodes": "nodes"}
# Of parts that may not be installed; named here so that the list of commands needs no import.
_PART_COMMANDS: Final = {
    "serve": "Run a server.",
    "db": "Upgrade, check, back up and verify a database.",
    "token": "Create, list and revoke tokens.",
    "slurm": "Describe Slurm allocations, ask for them, see what is submitted.",
}


class Failure(click.ClickException):
    """A refusal whose text a person understands."""

    exit_code = EXIT_REFUSED

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the text on standard error."""
        del file
        note(f"Error: {self.message}")


class Unreachable(Failure):
    exit_code = EXIT_UNREACHABLE


class Interrupted(Failure):
    exit_code = EXIT_INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the text on standard error: an interruption is no error."""
        del file
        note(self.message)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, those of installed parts included."""
        del ctx
        return [
            *_COMMANDS,
            *sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} | {*_PART_COMMANDS}),
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        cmd_name = _HIDDEN.get(cmd_name, cmd_name)
        if cmd_name == "hpc" and (slurm := self.get_command(ctx, "slurm")) is not None:
            # torc's way to it: `hpc slurm`.
            return click.Group("hpc", {"slurm": slurm}, hidden=True)
        if cmd_name in _COMMANDS:
            module, _, name = _COMMANDS[cmd_name][0].partition(":")
            command = getattr(import_module(module), name)
            assert isinstance(command, click.Command)  # noqa: S101 - our own table
            return command
        for point in entry_points(group=ENTRY_POINT_GROUP, name=cmd_name):
            return _load(point)
        if cmd_name in _PART_COMMANDS:
            raise _missing_part(cmd_name)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the tables."""
        rows = [(name, self._short_help(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; our own errors become messages and exit codes here and nowhere else."""
        try:
            return super().invoke(ctx)
        except LadingError as error:
            raise failure_of(error)(message_of(error)) from error
        except (KeyboardInterrupt, click.Abort):
            raise Interrupted("Interrupted.") from None
        except BrokenPipeError:
            # The reader of a pipe has seen enough (`| head`): that is its right, not an error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise Failure(f"{where}{error.strerror or error}") from error

    @staticmethod
    def _short_help(name: str) -> str:
        if name in _COMMANDS:
            return _COMMANDS[name][1]
        return _PART_COMMANDS.get(name, "From an installed extension.")


def failure_of(error: LadingError) -> type[Failure]:
    """Choose the exit code of an error."""
    return Unreachable if isinstance(error, Unavailable) else Failure


def message_of(error: LadingError) -> str:
    """Return all that a person needs to mend an error, one violation a line."""
    lines = [str(error)]
    violations = error.violations if isinstance(error, BadInput) else ()
    if len(violations) > 1 and "\n" not in lines[0]:
        # The text of a refusal by a server has them in one line.
        lines = [f"{len(violations)} errors:", *(f"  {_placed(item)}" for item in violations)]
    elif len(violations) == 1 and str(violations[0]) == lines[0]:
        lines = [_placed(violations[0])]
    return "\n".join([*lines, *getattr(error, "__notes__", [])])


def _placed(violation: Violation) -> str:
    return f"line {violation.line}: {violation}" if violation.line is not None else str(violation)


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        raise _missing_part(point.name, error.name) from error
    if not isinstance(command, click.Command):
        raise BadInput(f"The entry point {point.name!r} of {ENTRY_POINT_GROUP} is not a click command.")
    return command


def _missing_part(name: str, module: str | None = None) -> Failure:
    reason = f" ({module} is missing)" if module else ""
    return Failure(
        f"`lading {name}` needs the server part{reason}; install it with: pip install 'lading[server]'"
    )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "lading run diamond.yaml                  run a workflow file here",
        "lading run -- python train.py --epochs 3 run one command here",
        "lading serve                             start a server, then in another terminal:",
        "lading submit-workflow diamond.yaml --wait",
        "lading jobs list",
        "lading jobs logs merge",
    ),
)
@click.option(
    "-u",
    "--server",
    "--database-url",
    "server",
    metavar="URL",
    help="Address of the server. [environment: LADING_SERVER_URL]",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="0600 file with the token for --server. [environment: LADING_TOKEN_FILE or LADING_TOKEN]",
)
@click.option(
    "-c",
    "--log-level",
    "--console-level",
    "log_level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least severity of messages on standard error. [default: warning]",
)
@click.option("-k", "--workflow-key", metavar="KEY", help="As --workflow of the commands.")
@click.option("-n", "--no-prompts", is_flag=True, help="As --yes of the commands.")
@click.option(
    "-F",
    "--output-format",
    type=click.Choice(["table", "text", "csv", "json"]),
    help="As --format of the commands; text is torc's word for a table.",
)
@click.option("-U", "--user", help="Owner of new workflows. [environment: LADING_USER]")
@click.version_option(package_name="lading", message="lading %(version)s")
@click.pass_context
def main(
    ctx: click.Context,
    *,
    server: str | None,
    token_file: Path | None,
    log_level: str | None,
    workflow_key: str | None,
    no_prompts: bool,
    output_format: str | None,
    user: str | None,
) -> None:
    """Run workflows of jobs on this machine, on Slurm, on EC2, or on all at once.

    Settings come from options, LADING_* variables, the project's .lading.toml, and config.toml in
    ~/.config/lading, in this order.
    """
    # The commands read these two where they need them, at the root of their context.
    del workflow_key, no_prompts
    given = {
        "server_url": server,
        "token_file": token_file,
        "log_level": log_level,
        "output_format": "table" if output_format == "text" else output_format,
        "user": user,
    }
    settings = load_settings(given)
    configure_logging(settings.values.log_level)
    for warning in settings.warnings:
        note(f"Warning: {warning}")
    ctx.obj = Session(settings)


def run() -> NoReturn:
    """Run the command line as a process."""
    try:
        main(prog_name="lading")
    except KeyboardInterrupt:
        # Outside of any command, while modules are loaded.
        note("Interrupted.")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)
