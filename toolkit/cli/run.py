"""`lading run`: a workflow on this machine, with a server of its own, from beginning to end."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path
from typing import Any

import click

from lading.toolkit.cli.context import Session
from lading.toolkit.cli.inside_slurm import (
    go_to_first_node,
    is_inside,
    learn_end,
    limits_of,
    stop_at,
    use_only_this_node,
)
from lading.toolkit.cli.output import examples, note
from lading.toolkit.cli.report import print_report
from lading.toolkit.cli.run_flow import RunPlan, run_plan
from lading.toolkit.cli.run_folder import RunFolder
from lading.toolkit.cli.specification import (
    add_local_scheduler,
    document_of,
    read_workflow,
    refuse_too_large,
)
from lading.toolkit.client.server_process import require_server_part
from lading.toolkit.domain.values import parse_memory
from lading.toolkit.errors import BadInput

_EXIT_JOBS_FAILED = 1
_EXIT_INTERRUPTED = 130
_TAIL_KEY = "lading.command"


class Memory(click.ParamType[int]):
    """A memory size on the command line; its value is bytes."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes of `512m`."""
        if isinstance(value, int):
            return value
        try:
            return parse_memory(str(value))
        except BadInput as error:
            self.fail(str(error), param, ctx)


class CommandWithTail(click.Command):
    """A command that takes everything behind `--` as it is, also what looks like options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the tail aside, and parse the rest."""
        if "--" in args:
            position = args.index("--")
            ctx.meta[_TAIL_KEY] = tuple(args[position + 1 :])
            args = args[:position]
        return super().parse_args(ctx, args)


@click.command(
    cls=CommandWithTail,
    epilog=examples(
        "lading run diamond.yaml",
        "lading run diamond.yaml --max-parallel-jobs 4 --fail-fast",
        "lading run --commands jobs.txt --output results",
        "lading run -- python train.py --epochs 3",
        "lading run diamond.yaml --format json | jq .counts",
    ),
)
@click.argument("spec", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--commands",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with one command a line; each becomes a job.",
)
@click.option("--max-parallel-jobs", type=click.IntRange(min=1), help="Run at most so many jobs at once.")
@click.option("--cpus", type=click.IntRange(min=1), help="Use at most so many CPUs. [default: all]")
@click.option("--memory", type=Memory(), help="Use at most so much memory, such as 8g. [default: all]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for job output and the run's database. [default: ./output]",
)
@click.option("--fail-fast", is_flag=True, help="Cancel everything when the first job fails.")
@click.option("--name", help="Name of the workflow. [default: from the file]")
@click.option("--database", help="SQLite file or postgres://HOST/NAME. [default: OUTPUT/.lading/lading.db]")
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), help="How to print. [default: table]"
)
@click.pass_context
def run(
    ctx: click.Context,
    *,
    spec: Path | None,
    commands: Path | None,
    max_parallel_jobs: int | None,
    cpus: int | None,
    memory: int | None,
    output: Path | None,
    fail_fast: bool,
    name: str | None,
    database: str | None,
    style: str | None,
) -> None:
    """Run a workflow file here, or a list of commands, or one command.

    The exit code is 0 if every job succeeded, 1 if some did not, 2 if the input is refused (then nothing
    was started), 130 after Ctrl-C. The first Ctrl-C lets running jobs end in order, the second kills them.

    A command is started without a shell; for a pipeline write: bash -c "one | two".

    Inside a Slurm allocation (salloc, sbatch) it uses what was granted on one node, submits nothing, and
    stops before the allocation ends.
    """
    session: Session = ctx.obj
    settings = session.settings.values
    directory = Path.cwd()
    specification = read_workflow(spec, commands, ctx.meta.get(_TAIL_KEY, ()), directory=directory)
    inside = is_inside(os.environ)
    if inside:
        go_to_first_node(os.environ)
        cpus, memory = limits_of(os.environ, cpus, memory)
    refuse_too_large(specification, cpus=cpus, memory=memory, all_here=inside)
    require_server_part()
    folder = RunFolder((output or settings.output).absolute())
    document = document_of(specification, settings, name=name, directory=directory, output=folder.output)
    if inside:
        use_only_this_node(document)
    end = stop_at(learn_end(os.environ), document) if inside else None
    add_local_scheduler(document, cpus=cpus, memory=memory, max_parallel_jobs=max_parallel_jobs)
    place = _database(database, folder)
    with folder.hold():
        outcome = asyncio.run(run_plan(RunPlan(document, folder, directory, place, fail_fast, stop_at=end)))
    if outcome.report is not None:
        again = f"lading jobs list --workflow {outcome.report.workflow} --output {shlex.quote(str(folder.output))}"
        print_report(outcome.report, style or _style(settings.output_format), again)
    if outcome.interrupted:
        note("Interrupted.")
        ctx.exit(_EXIT_INTERRUPTED)
    if outcome.report is None or not outcome.report.is_success:
        ctx.exit(_EXIT_JOBS_FAILED)


def _database(given: str | None, folder: RunFolder) -> str:
    if given is None:
        return str(folder.database)
    return given if "://" in given else str(Path(given).absolute())


def _style(output_format: str) -> str:
    return "json" if output_format == "json" else "table"
