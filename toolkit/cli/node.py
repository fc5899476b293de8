"""`lading node`: this machine becomes a node of a workflow."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import click
import msgspec

from lading.toolkit.cli.context import Amount, Session, chosen_workflow, workflow_option
from lading.toolkit.cli.output import examples
from lading.toolkit.cli.run import Memory
from lading.toolkit.client.target import Target
from lading.toolkit.errors import LadingError
from lading.toolkit.private_files import make_private_directory, write_private
from lading.toolkit.wire.files import NodeFile


@click.group(
    epilog=examples(
        "lading node run --workflow 12",
        "lading node run --workflow 12 --cpus 8 --time-limit-seconds 3600",
        "lading node run --workflow 12 --cpu-affinity-cpus-per-job 4",
    )
)
def node() -> None:
    """Run jobs of a workflow on this machine."""


@node.command(
    "run", epilog=examples("lading node run --workflow 12", "lading slurm run-jobs --workflow 12 --cpus 8")
)
@workflow_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the output of the jobs. [default: the workflow's]",
)
@click.option("--cpus", type=click.IntRange(min=1), help="Offer at most so many CPUs. [default: all]")
@click.option("--memory", type=Memory(), help="Offer at most so much memory, such as 8g. [default: all]")
@click.option("--gpus", type=click.IntRange(min=0), help="Offer at most so many GPUs. [default: all]")
@click.option(
    "-m", "--max-parallel-jobs", type=click.IntRange(min=1), help="Run at most so many jobs at once."
)
@click.option(
    "-c",
    "--cpu-affinity-cpus-per-job",
    type=click.IntRange(min=1),
    metavar="N",
    help="Bind each job to N CPUs of one NUMA node; jobs count such groups as CPUs.",
)
@click.option("--time-limit-seconds", type=Amount(min=1), help="Leave after so many seconds.")
@click.pass_obj
def run_node(
    session: Session,
    *,
    workflow: str | None,
    output: Path | None,
    cpus: int | None,
    memory: int | None,
    gpus: int | None,
    max_parallel_jobs: int | None,
    cpu_affinity_cpus_per_job: int | None,
    time_limit_seconds: float | None,
) -> None:
    """Run jobs of a workflow here until it is complete. Ctrl-C ends the jobs in order, twice kills them."""
    with session.client() as client:
        key = chosen_workflow(client, workflow)
        config = client.workflow_config(key)
        target = client.target
        server_id = target.server_id or str(client.health().get("server_id") or "")
    folder = (output or Path(config.get("output_directory") or session.settings.values.output)).absolute()
    working_directory = Path(config.get("working_directory") or Path.cwd())
    if not working_directory.is_dir():
        raise LadingError(
            f"The working directory of workflow {key}, {working_directory}, is not on this machine."
        )
    node_file = _write_node_file(target, server_id, key, folder, working_directory)
    numbers = {
        "--cpus": cpus,
        "--memory-bytes": memory,
        "--gpus": gpus,
        "--max-parallel-jobs": max_parallel_jobs,
        "--cpu-affinity-cpus-per-job": cpu_affinity_cpus_per_job,
        "--time-limit-seconds": time_limit_seconds,
    }
    options = [item for name, value in numbers.items() if value is not None for item in (name, str(value))]
    # The guardian takes this process's place, so that signals and the exit code are its own.
    command = [sys.executable, "-P", "-m", "lading.toolkit.runner", "--node-file", str(node_file), *options]
    os.chdir(working_directory)
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def _write_node_file(target: Target, server_id: str, workflow: str, folder: Path, directory: Path) -> Path:
    private = folder / ".lading" / "nodes"
    make_private_directory(private.parent)
    make_private_directory(private)
    tag = f"by-hand-{secrets.token_hex(8)}"
    record = NodeFile(
        url=target.url,
        server_id=server_id,
        token=target.token or "",
        workflow=workflow,
        allocation=None,
        tag=tag,
        output_directory=str(folder),
        working_directory=str(directory),
        fingerprint=target.fingerprint,
        server_file=str(target.server_file) if target.server_file else None,
    )
    path = private / f"{tag}.json"
    write_private(path, msgspec.json.encode(record))
    return path
