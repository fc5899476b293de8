"""A list of a workflow that does not exist prints one line of error, and nothing that looks like an answer."""

from __future__ import annotations

import click

from lading.toolkit.cli.main import main
from tests.unit.cli_server.conftest import Shell

READERS = {"list", "status", "attempts", "results", "join", "explain", "show", "get", "plot"}
ARGUMENTS = {
    "join": ["job-results"], "join-by-edge": ["jobs", "blocks"], "show": ["1"], "attempts": ["1"],
    "explain": ["1"], "get": ["1"], "list-user-data": ["1", "--stores"],
}  # fmt: skip


def reading_commands(group: click.Group, path: tuple[str, ...] = ()) -> list[list[str]]:
    """Return calls of the commands below a group that read of one workflow, for workflow 77."""
    found: list[list[str]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += reading_commands(command, (*path, name))
        elif name.split("-")[0] in READERS:
            options = {option for item in command.params for option in item.opts}
            if "--workflow" in options:
                found.append([*path, name, *ARGUMENTS.get(name, []), "--workflow", "77"])
            elif path == ("workflows",) and options & {"workflow", "key"}:
                found.append([*path, name, "77"])
    return found


def test_nothing_is_printed_before_the_error(shell: Shell) -> None:
    commands = reading_commands(main)
    assert len(commands) > 15
    for command in commands:
        styles: list[list[str]] = [[]]
        if "--format" in shell.ok(*command, "--help"):
            styles += [["--format", style] for style in ("json", "csv")]
        for style in styles:
            result = shell.call(*command, *style)
            assert (result.exit_code, result.stdout) == (2, ""), (command, style, result.output)
            assert result.stderr.count("\n") == 1, (command, style, result.stderr)
            assert "77" in result.stderr, (command, style, result.stderr)
