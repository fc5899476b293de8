"""The options of the command line that stand for the fields of a Slurm config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_COUNT: Final = click.IntRange(min=1)
_FIELDS: Final[tuple[tuple[str, click.ParamType[Any] | None, str], ...]] = (
    ("--account", None, "What Slurm charges."),
    ("--nodes", _COUNT, "Nodes of each allocation."),
    ("--partition", None, "Partition, or several with commas."),
    ("--qos", None, "Quality of service."),
    ("--walltime", None, "How long an allocation lasts: [DAYS-]HOURS:MINUTES:SECONDS."),
    ("--mem", None, "Memory of each node, as sbatch takes it: 64G."),
    ("--gres", None, "Generic resources: gpu:a100:2."),
    ("--tmp", None, "Local disk of each node."),
    ("--ntasks-per-node", _COUNT, "Tasks on each node."),
    ("--cpus", _COUNT, "CPUs of each task; without any size nodes are taken whole."),
    ("--gpus", _COUNT, "GPUs of each node."),
    ("--constraint", None, "Features that nodes must have."),
    ("--exclude", None, "Nodes not to take."),
    ("--reservation", None, "Reservation to run in."),
    ("--extra", None, "Further options of sbatch as one text."),
    ("--site", None, "Name of the submitter's site."),
    ("--min-allocations", click.IntRange(min=0), "Asked for as soon as one job is ready."),
    ("--max-allocations", click.IntRange(min=0), "The most that come by themselves."),
    ("--max-parallel-jobs", _COUNT, "The most jobs that one runner runs at once."),
    ("--idle-minutes", click.IntRange(min=0), "How long a runner without work stays."),
)
# torc's letters, but -w, the workflow here, and -q, quiet.
_LETTERS: Final = {
    "--account": "-a", "--gres": "-g", "--mem": "-m", "--nodes": "-n", "--partition": "-p",
    "--tmp": "-t", "--extra": "-e",
}  # fmt: skip
_REQUIRED: Final = frozenset({"--account"})
_DEFAULTS: Final = {"--nodes": 1}


def _default(name: str, *, is_new: bool) -> dict[str, Any]:
    """Return the default as an argument; to click None is one, too, and the option would not be missed."""
    return {"default": _DEFAULTS[name]} if is_new and name in _DEFAULTS else {}


def config_options(*, is_new: bool) -> Callable[[F], F]:
    """Make a decorator that adds them; of a new config some are required or have a default."""

    def decorate(command: F) -> F:
        decorators = [
            click.option(
                *((_LETTERS[name],) if name in _LETTERS else ()),
                name,
                type=kind,
                help=text,
                required=is_new and name in _REQUIRED,
                show_default=True,
                **_default(name, is_new=is_new),
            )
            for name, kind, text in _FIELDS
        ]
        decorators += [
            click.option("--exclusive/--shared", default=None, help="Take nodes whole, or not."),
            click.option("--array/--no-array", default=None, help="Several at once as a job array, or not."),
            click.option(
                "--on-cannot-start",
                type=click.Choice(["cancel", "keep"]),
                help="What becomes of an allocation that Slurm will never start as it stands.",
            ),
            click.option(
                "--submit", type=click.Choice(["sbatch", "pyslurm"]), help="By what it is submitted. [sbatch]"
            ),
            click.option(
                "--set-up", multiple=True, metavar="LINE", help="Shell before the runner; repeatable."
            ),
        ]
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate
