"""`lading completion`: completion of commands and options in the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lading.toolkit.cli.output import examples
from lading.toolkit.errors import BadInput

_SHELLS = ["bash", "zsh", "fish"]


@click.command(
    epilog=examples(
        "echo 'eval \"$(lading completion bash)\"' >> ~/.bashrc",
        "lading completion fish > ~/.config/fish/completions/lading.fish",
    )
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the script that completes commands and options in a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise BadInput(f"There is no completion for {shell!r}; accepted are {', '.join(_SHELLS)}.")
    click.echo(kind(ctx.find_root().command, {}, "lading", "_LADING_COMPLETE").source())
