"""`lading slurm`: what people do with Slurm configs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from lading.schedulers.slurm.checking import check_config
from lading.schedulers.slurm.config_options import config_options
from lading.toolkit.backends import LaunchRequest
from lading.toolkit.cli.context import (
    Amount,
    Session,
    chosen_workflow,
    format_option,
    printing,
    workflow_option,
)
from lading.toolkit.cli.node import run_node
from lading.toolkit.cli.output import Column, examples, note
from lading.toolkit.domain.buffers import buffer_seconds
from lading.toolkit.domain.values import parse_duration
from lading.toolkit.errors import BadInput, NotFound
from lading.toolkit.settings import load_settings, state_directory
from lading.toolkit.wire.submissions import AllocationRequest

if TYPE_CHECKING:
    from lading.toolkit.client import Document, Lading

F = TypeVar("F", bound=Callable[..., Any])

_COLLECTION: Final = "slurm_schedulers"
_COLUMNS: Final = (
    Column("key", "_key"),
    Column("name", "name"),
    Column("account", "account"),
    Column("partition", "partition"),
    Column("nodes", "nodes", right=True),
    Column("walltime", "walltime"),
    Column("most at once", "max_allocations", right=True),
    Column("paused because", "paused_reason"),
)
_BOUND_COLUMNS: Final = (
    Column("resource", "resource"),
    Column("nodes", "nodes", right=True),
    Column("why", "reason"),
)
_ANSWER_COLUMNS: Final = (
    Column("question", "question"),
    Column("answer", "answer"),
    Column("reason", "reason"),
)


@click.group(
    epilog=examples(
        "lading slurm add-config --name day --account science --walltime 04:00:00 --max-allocations 4",
        "lading slurm render day",
        "lading slurm schedule-nodes day --count 2",
        "lading slurm probe --from-node day",
    )
)
def slurm() -> None:
    """Describe Slurm allocations, ask for them, and see what would be submitted.

    A CONFIG is named by its key or its name.
    """


@slurm.command(
    "add-config",
    epilog=examples(
        "lading slurm add-config --name day --account science --walltime 04:00:00 --max-allocations 4",
        "lading slurm add-config --name gpu --account science --gpus 2 --cpus 8 --mem 64G --set-up 'module load cuda'",
    ),
)
@click.option("-N", "--name", required=True, help="What it is called in this workflow.")
@config_options(is_new=True)
@workflow_option
@printing
@click.pass_obj
def add_config(
    session: Session, /, *, name: str, workflow: str | None, style: str | None, quiet: bool, **given: Any
) -> None:
    """Add a config to a workflow."""
    with session.client() as client:
        key = chosen_workflow(client, workflow, changing=True)
        fields = _set(given)
        check_config(fields)
        for known in client.list_documents(key, _COLLECTION, name=name):
            raise BadInput(
                f"name: {name!r} is that of config {known['_key']} already; accepted is a name of its own, or change that "
                f"one: lading slurm modify-config {known['_key']}"
            )
        document = client.add_document(key, _COLLECTION, {"name": name, **fields})
        session.output(style, quiet=quiet).done(f"Config {document['_key']} ({name}) is added.", document)


@slurm.command(
    "modify-config",
    epilog=examples(
        "lading slurm modify-config day --walltime 08:00:00",
        "lading slurm modify-config day --partition ''",
    ),
)
@click.argument("config")
@config_options(is_new=False)
@workflow_option
@printing
@click.pass_obj
def modify_config(
    session: Session, /, *, config: str, workflow: str | None, style: str | None, quiet: bool, **given: Any
) -> None:
    """Change a config; one that was paused is tried again. An empty text clears a field."""
    changes = {name: None if value == "" else value for name, value in _set(given).items()}
    if not changes:
        raise BadInput("Nothing to change; name a field, such as --walltime 02:00:00.")
    with session.client() as client:
        key = chosen_workflow(client, workflow, changing=True)
        stored = _chosen_config(client, key, config)
        check_config({**_plain(stored), **changes})
        document = client.modify_document(key, _COLLECTION, str(stored["_key"]), changes)
        session.output(style, quiet=quiet).done(f"Config {config} is changed.", document)


@slurm.command(
    "list-configs",
    epilog=examples(
        "lading slurm list-configs",
        "lading slurm list-configs -w 17 --format json",
    ),
)
@workflow_option
@printing
@click.pass_obj
def list_configs(session: Session, *, workflow: str | None, style: str | None, quiet: bool) -> None:
    """List the configs of a workflow, and why one is paused."""
    with session.client() as client:
        key = chosen_workflow(client, workflow)
        found = client.list_documents(key, _COLLECTION)
        session.output(style, quiet=quiet).rows("configs", _COLUMNS, found)


@slurm.command(
    "schedule-nodes",
    epilog=examples(
        "lading slurm schedule-nodes day --count 2",
        "lading slurm schedule-nodes pairs --one-runner-per-node",
    ),
)
@click.argument("config")
@click.option(
    "-n",
    "--count",
    "--num-hpc-jobs",
    "count",
    type=click.IntRange(1, 1_000),
    default=1,
    show_default=True,
    help="Allocations.",
)
@click.option(
    "-m", "--max-parallel-jobs", type=click.IntRange(min=1), help="Most jobs that a runner runs at once."
)
@click.option(
    "-S",
    "--one-runner-per-node",
    "--start-one-worker-per-node",
    "one_runner_per_node",
    is_flag=True,
    help="Start a runner on each node, not on the first alone.",
)
@workflow_option
@printing
@click.pass_obj
def schedule_nodes(
    session: Session,
    *,
    config: str,
    count: int,
    max_parallel_jobs: int | None,
    one_runner_per_node: bool,
    workflow: str | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Ask for allocations now, beyond what comes by itself. The server's submitter asks Slurm."""
    with session.client() as client:
        key = chosen_workflow(client, workflow, changing=True)
        stored = _chosen_config(client, key, config)
        request = AllocationRequest(
            scheduler_config_id=str(stored["_id"]),
            count=count,
            max_parallel_jobs=max_parallel_jobs,
            start_one_worker_per_node=one_runner_per_node,
        )
        answer = client.request_allocations(key, request)
        text = f"Asked for {count} allocations of {config}; see: lading allocations list -w {key}"
        session.output(style, quiet=quiet).done(text, answer)


@slurm.command(
    "render",
    epilog=examples(
        "lading slurm render day",
        "lading slurm render day --count 4",
    ),
)
@click.argument("config")
@click.option(
    "-n", "--count", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Allocations."
)
@click.option("--one-runner-per-node", is_flag=True, help="As for schedule-nodes.")
@workflow_option
@click.pass_obj
def render(
    session: Session, *, config: str, count: int, one_runner_per_node: bool, workflow: str | None
) -> None:
    """Print the script that sbatch would get; the names of files and of the job are examples."""
    from lading.schedulers.slurm.backend import SlurmBackend

    with session.client() as client:
        key = chosen_workflow(client, workflow)
        stored = _chosen_config(client, key, config)
        settings = client.workflow_config(key)
    folder = state_directory()
    request = LaunchRequest(
        tag="lading-example",
        config=_plain(stored),
        node_files=[folder / f"lading-example.{index}.json" for index in range(count)],
        output_directory=Path(settings.get("output_directory") or Path.cwd() / "output"),
        working_directory=Path(settings.get("working_directory") or Path.cwd()),
        state_directory=folder,
        parameters={"start_one_worker_per_node": one_runner_per_node},
    )
    click.echo(SlurmBackend().render(request), nl=False)


@slurm.command(
    "recommend-nodes",
    epilog=examples(
        "lading slurm recommend-nodes day",
        "lading slurm recommend-nodes day --cpus 64 --memory-gib 240",
    ),
)
@click.argument("config")
@click.option(
    "-c",
    "--cpus",
    "--num-cpus",
    "cpus",
    type=click.IntRange(min=1),
    help="CPUs of a node. [default: the config's, else Slurm's]",
)
@click.option(
    "-m",
    "--memory-gib",
    "--memory-gb",
    "memory_gib",
    type=Amount(min=0.1),
    help="Memory of a node. [default: Slurm's]",
)
@workflow_option
@printing
@click.pass_obj
def recommend_nodes(
    session: Session,
    *,
    config: str,
    cpus: int | None,
    memory_gib: float | None,
    workflow: str | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Say how many nodes do the ready jobs within one wall time, and why."""
    from lading.schedulers.slurm.choice import chosen_transport
    from lading.schedulers.slurm.node_shapes import shape_of_config
    from lading.schedulers.slurm.script import walltime_seconds
    from lading.schedulers.slurm.sizing import Work, counted, recommend

    with session.client() as client:
        key = chosen_workflow(client, workflow)
        stored = _chosen_config(client, key, config)
        asked = client.ready_job_requirements(key, str(stored["_id"]))
        buffer = float(client.workflow_config(key)["compute_node_expiration_buffer_seconds"])
    if not asked["num_jobs"]:
        raise BadInput(
            f"Workflow {key} has no ready job that this config may run: start it, or wait until a job ends."
        )
    walltime = walltime_seconds(stored)
    if walltime is None:
        raise BadInput(
            f"walltime: config {config} has none; set it: lading slurm modify-config {config} --walltime"
        )
    work = Work(
        num_jobs=asked["num_jobs"],
        num_cpus=asked["num_cpus"],
        num_gpus=asked["num_gpus"],
        memory_bytes=round(asked["memory_gb"] * 2**30),
        longest_seconds=parse_duration(asked["max_runtime"]) if asked["max_runtime"] else 0.0,
        most_nodes=asked["max_num_nodes"],
        whole_nodes=asked.get("num_whole_nodes", 0),
        most_cpus=asked.get("max_num_cpus", 0),
        most_gpus=asked.get("max_num_gpus", 0),
        most_memory_bytes=round(asked.get("max_memory_gb", 0.0) * 2**30),
    )
    memory_bytes = None if memory_gib is None else round(memory_gib * 2**30)
    transport = chosen_transport(load_settings().values)
    shape = shape_of_config(transport, stored, cpus=cpus, memory_bytes=memory_bytes)
    per_allocation = int(stored.get("nodes") or 1)
    answer = recommend(
        work, shape, walltime, per_allocation, reserve_seconds=buffer_seconds(buffer, walltime)
    )
    rows = [
        {"resource": bound.resource, "nodes": bound.nodes, "reason": bound.reason} for bound in answer.bounds
    ]
    session.output(style, quiet=quiet).rows("bounds", _BOUND_COLUMNS, rows)
    note(
        f"{counted(work.num_jobs, 'ready job')}: {counted(answer.nodes, 'node')} in "
        f"{counted(answer.allocations, 'allocation')} of {per_allocation}, "
        f"{counted(answer.rounds, 'round')}: {answer.why_rounds}."
    )


@slurm.command(
    "probe",
    epilog=examples(
        "lading slurm probe",
        "lading slurm probe --from-node day --format json",
    ),
)
@click.option("--from-node", metavar="CONFIG", help="Run one short job of that config that calls the server.")
@click.option("--wait-seconds", type=Amount(10), default=300.0, show_default=True, help="For that job.")
@workflow_option
@format_option
@click.pass_obj
def probe(
    session: Session, *, from_node: str | None, wait_seconds: float, workflow: str | None, style: str | None
) -> None:
    """Say whether Slurm can be used here, and whether nodes reach the server. The exit code is 1 if not."""
    from lading.schedulers.slurm.backend import SlurmBackend

    found = SlurmBackend().probe()
    answers = [{"question": "Slurm here", "answer": found.available, "reason": found.reason}]
    if found.available and from_node is not None:
        answers.append(_ask_from_node(session, from_node, workflow, wait_seconds))
    if style is None and session.settings.values.output_format == "table":
        for said in answers:
            click.echo(f"{said['question']}: {'yes' if said['answer'] else 'no'}, {said['reason']}")
    else:
        session.output(style).rows("answers", _ANSWER_COLUMNS, answers)
    if not all(said["answer"] for said in answers):
        if found.available:
            note(
                "Start the server on an address of the cluster's network: lading serve --host ADDRESS, or --advertise."
            )
        sys.exit(1)


def _ask_from_node(session: Session, config: str, workflow: str | None, seconds: float) -> dict[str, Any]:
    from lading.schedulers.slurm.reaching import call_from_node

    with session.client() as client:
        key = chosen_workflow(client, workflow)
        stored = _plain(_chosen_config(client, key, config))
        url = client.target.url
        folder = client.workflow_config(key).get("output_directory")
    place = Path(folder or Path.cwd())
    place.mkdir(parents=True, exist_ok=True)
    is_reached, said = call_from_node(stored, f"{url}/ping", place, seconds)
    return {"question": "From a node", "answer": is_reached, "reason": f"{url}: {said}"}


slurm.add_command(run_node, "run-jobs")


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given; `set_up` is given line by line."""
    fields = {name: value for name, value in given.items() if value is not None and value != ()}
    if "set_up" in fields:
        fields["set_up"] = list(fields["set_up"])
    return fields


def _plain(document: Document) -> dict[str, Any]:
    return {
        name: value
        for name, value in document.items()
        if not name.startswith("_") and name != "paused_reason"
    }


def _chosen_config(client: Lading, workflow: str, given: str) -> Document:
    found = list(client.list_documents(workflow, _COLLECTION))
    matching = [item for item in found if given in {str(item["_key"]), str(item["_id"]), item.get("name")}]
    if re.fullmatch(r"\d+", given):
        # Configs may be named with digits; a key is meant first.
        matching = [item for item in matching if str(item["_key"]) == given] or matching
    if len(matching) == 1:
        return matching[0]
    names = (
        ", ".join(f"{item['_key']} ({item.get('name') or 'unnamed'})" for item in matching or found) or "none"
    )
    if matching:
        raise BadInput(f"More than one config is named {given!r}; give a key, one of: {names}.")
    raise NotFound(f"Workflow {workflow} has no Slurm config {given!r}; it has: {names}.")
