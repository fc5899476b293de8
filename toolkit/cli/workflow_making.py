"""`lading workflows` for making workflows and changing what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lading.toolkit.cli.context import (
    Amount,
    Session,
    chosen_workflow,
    format_option,
    output_option,
    printing,
)
from lading.toolkit.cli.output import Column, examples, json_text
from lading.toolkit.cli.specification import document_of, read_workflow, user_name
from lading.toolkit.domain.spec import SCHEDULER_COLLECTIONS
from lading.toolkit.domain.values import parse_duration, parse_memory
from lading.toolkit.errors import BadInput

_WORKFLOW = click.argument("workflow", required=False, envvar="LADING_WORKFLOW")
_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


def _per_job_options(command: Any) -> Any:
    for option in (
        click.option("-r", "--runtime-per-job", default="P0DT1M", show_default=True, help="Run-time limit."),
        click.option("-m", "--memory-per-job", default="1m", show_default=True, help="Memory of each job."),
        click.option("-c", "--cpus-per-job", type=click.IntRange(min=1), default=1, show_default=True),
    ):
        command = option(command)
    return command


@click.command(epilog=examples("lading workflows create --name night", "lading workflows create --key w1"))
@click.option("-n", "--name", default="", help="Name of the workflow.")
@click.option("-d", "--description", default="", help="What it is for.")
@click.option("-k", "--key", help="Its key. [default: the server chooses one]")
@printing
@click.pass_obj
def create(
    session: Session, *, name: str, description: str, key: str | None, style: str | None, quiet: bool
) -> None:
    """Store an empty workflow; add jobs with `lading jobs add`."""
    document = {"name": name, "description": description, "user": _user(session)}
    with session.client() as client:
        stored = client.create_empty_workflow({**document, **({"_key": key} if key else {})})
    session.output(style, quiet=quiet).done(f"Workflow {stored['_key']} is stored.", stored)


@click.command("create-from-file", epilog=examples("lading workflows create-from-file diamond.yaml"))
@_FILE
@click.option("-n", "--name", help="Name of the workflow. [default: from the file]")
@printing
@click.pass_obj
def create_from_file(
    session: Session, *, file: Path, name: str | None, style: str | None, quiet: bool
) -> None:
    """Store a workflow file without starting it."""
    directory = Path.cwd()
    settings = session.settings.values
    specification = read_workflow(file, None, (), directory=directory)
    document = document_of(
        specification, settings, name=name, directory=directory, output=settings.output.absolute()
    )
    _store(session, document, len(specification.jobs), style, quiet=quiet)


@click.command(
    "create-from-commands-file",
    epilog=examples("lading workflows create-from-commands-file jobs.txt --cpus-per-job 4"),
)
@_FILE
@_per_job_options
@click.option("-n", "--name", help="Name of the workflow. [default: from the file]")
@click.option("-d", "--description", default="", help="What it is for.")
@click.option("-k", "--key", help="Its key. [default: the server chooses one]")
@printing
@click.pass_obj
def create_from_commands_file(
    session: Session,
    *,
    file: Path,
    cpus_per_job: int,
    memory_per_job: str,
    runtime_per_job: str,
    name: str | None,
    description: str,
    key: str | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Store a workflow with one job for each line of a file, without starting it."""
    directory = Path.cwd()
    settings = session.settings.values
    requirements = _requirements(cpus_per_job, memory_per_job, runtime_per_job)
    specification = read_workflow(None, file, (), directory=directory)
    document = document_of(
        specification, settings, name=name, directory=directory, output=settings.output.absolute()
    )
    document["resource_requirements"] = [requirements]
    for job in document["jobs"]:
        job["resource_requirements"] = requirements["name"]
    document["description"] = description
    if key:
        document["key"] = key
    _store(session, document, len(specification.jobs), style, quiet=quiet)


@click.command(
    "add-jobs-from-commands-file",
    epilog=examples("lading workflows add-jobs-from-commands-file 12 more.txt --memory-per-job 2g"),
)
@click.argument("workflow")
@_FILE
@_per_job_options
@printing
@click.pass_obj
def add_jobs_from_commands_file(
    session: Session,
    *,
    workflow: str,
    file: Path,
    cpus_per_job: int,
    memory_per_job: str,
    runtime_per_job: str,
    style: str | None,
    quiet: bool,
) -> None:
    """Add one job for each line of a file to a workflow; a restart runs them."""
    requirements = _requirements(cpus_per_job, memory_per_job, runtime_per_job)
    jobs = read_workflow(None, file, (), directory=Path.cwd()).to_document()["jobs"]
    with session.client() as client:
        requirements["name"] = f"{file.stem}-{len(list(client.list_documents(workflow, _REQUIREMENTS))) + 1}"
        stored = client.add_document(workflow, _REQUIREMENTS, requirements)
        added = client.add_jobs(
            workflow,
            ({**job, "resource_requirements": stored["_id"]} for job in jobs),
        )
    answer = {"_key": workflow, "num_jobs": len(added)}
    session.output(style, quiet=quiet).done(f"{len(added)} jobs are added to workflow {workflow}.", answer)


_REQUIREMENTS = "resource_requirements"


@click.command(
    epilog=examples(
        "lading workflows modify 12 --name night --description 'all tiles'",
        "lading workflows modify 12 --archive true",
    )
)
@click.argument("workflow")
@click.option("-n", "--name", help="New name.")
@click.option("-d", "--description", help="New description.")
@click.option("-a", "--archive", type=bool, help="Archived workflows are hidden, and cannot be started.")
@printing
@click.pass_obj
def modify(
    session: Session,
    *,
    workflow: str,
    name: str | None,
    description: str | None,
    archive: bool | None,
    style: str | None,
    quiet: bool,
) -> None:
    """Change a workflow's name or description, archive it, or take it out of the archive."""
    given = {"name": name, "description": description, "is_archived": archive}
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise BadInput("Give at least one of --name, --description and --archive.")
    with session.client() as client:
        stored = client.modify_workflow(workflow, changes)
    session.output(style, quiet=quiet).done(f"Workflow {workflow} is changed.", stored)


@click.command("show-config", epilog=examples("lading workflows show-config 12 --format json"))
@_WORKFLOW
@output_option
@printing
@click.pass_obj
def show_config(
    session: Session, *, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """Show how a workflow is run."""
    with session.reader(folder) as client:
        config = client.workflow_config(chosen_workflow(client, workflow))
        session.output(style, quiet=quiet).document(config)


@click.command(
    "set-config",
    epilog=examples(
        "lading workflows set-config 12 --wait-for-new-jobs 600",
        "lading workflows set-config 12 --monitor process --monitor-type periodic",
        "lading workflows set-config 12 --completion-script 'bash tidy.sh'",
    ),
)
@click.argument("workflow")
@click.option("-e", "--expiration-buffer", type=Amount(min=0), help="Seconds before the end.")
@click.option("--wait-for-healthy-db", type=Amount(min=0), help="Tolerated outage, minutes.")
@click.option("-i", "--ignore-workflow-completion", type=bool, help="Runners stay when all jobs are done.")
@click.option("-w", "--wait-for-new-jobs", type=Amount(min=0), help="Seconds an idle runner waits.")
@click.option("--startup-script", help="Run before a start or restart; '' removes it.")
@click.option("--completion-script", help="Run once by a runner at the end; '' removes it.")
@click.option("--worker-startup-script", help="Run by every runner first; '' removes it.")
@click.option(
    "--monitor",
    multiple=True,
    type=click.Choice(["cpu", "memory", "disk", "network", "process", "none"]),
    help="What runners measure; may be repeated.",
)
@click.option("--monitor-type", type=click.Choice(["aggregation", "periodic"]), help="Sums, or every sample.")
@click.option("--monitor-interval", type=Amount(min=1), help="Seconds between two samples.")
@printing
@click.pass_obj
def set_config(session: Session, /, *, workflow: str, style: str | None, quiet: bool, **given: Any) -> None:
    """Change how a workflow is run; runners that are at work already keep what they began with."""
    changes = {
        field: None if value == "" else value
        for option, field in _CONFIG_FIELDS.items()
        if (value := given[option]) is not None
    }
    with session.client() as client:
        config = client.workflow_config(workflow)
        measured = _measured(config.get("compute_node_resource_stats") or {}, given)
        if measured:
            changes["compute_node_resource_stats"] = measured
        if not changes:
            raise BadInput("Give at least one option; see: lading workflows set-config --help")
        stored = client.change_workflow_config(workflow, {**changes, "_rev": config["_rev"]})
    session.output(style, quiet=quiet).done(f"The config of workflow {workflow} is changed.", stored)


_CONFIG_FIELDS = {
    "expiration_buffer": "compute_node_expiration_buffer_seconds",
    "wait_for_healthy_db": "compute_node_wait_for_healthy_database_minutes",
    "ignore_workflow_completion": "compute_node_ignore_workflow_completion",
    "wait_for_new_jobs": "compute_node_wait_for_new_jobs_seconds",
    "startup_script": "workflow_startup_script",
    "completion_script": "workflow_completion_script",
    "worker_startup_script": "worker_startup_script",
}


def _measured(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the monitoring part of the config, or nothing where no option concerns it."""
    changes: dict[str, Any] = {}
    if given["monitor"]:
        chosen = set(given["monitor"])
        if "none" in chosen and len(chosen) > 1:
            raise BadInput("--monitor none excludes the others.")
        changes = {name: name in chosen for name in ("cpu", "memory", "disk", "network", "process")}
    if given["monitor_type"]:
        changes["monitor_type"] = given["monitor_type"]
    if given["monitor_interval"]:
        changes["interval"] = given["monitor_interval"]
    return {**stored, **changes} if changes else {}


@click.command(epilog=examples("lading workflows example > example.json"))
@click.pass_obj
def example(session: Session) -> None:
    """Print a small workflow as a specification (JSON)."""
    with session.client() as client:
        session.output("json").document(client.specification_example())


@click.command(epilog=examples("lading workflows template > workflow.json"))
@click.pass_obj
def template(session: Session) -> None:
    """Print an empty specification with every field of the config (JSON)."""
    with session.client() as client:
        session.output("json").document(client.specification_template())


@click.command("export-spec", epilog=examples("lading workflows export-spec 12 > again.json"))
@_WORKFLOW
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write it there.")
@output_option
@format_option
@click.pass_obj
def export_spec(
    session: Session, *, workflow: str | None, path: Path | None, folder: Path | None, style: str | None
) -> None:
    """Print a workflow as a specification that can be submitted again (JSON)."""
    if style not in (None, "json"):
        raise BadInput("A specification is printed as JSON.")
    with session.reader(folder) as client:
        document = client.workflow_specification(chosen_workflow(client, workflow))
    if path is None:
        session.output("json").document(document)
    else:
        path.write_text(json_text(document, indent=2) + "\n", encoding="utf-8")


@click.command("list-scheduler-configs", epilog=examples("lading workflows list-scheduler-configs 12"))
@_WORKFLOW
@output_option
@printing
@click.pass_obj
def list_scheduler_configs(
    session: Session, *, workflow: str | None, folder: Path | None, style: str | None, quiet: bool
) -> None:
    """List the scheduler configs of a workflow, of all kinds."""
    columns = [
        Column("id", "_id"),
        Column("name", "name"),
        Column("max allocations", "max_allocations", right=True),
        Column("paused", "paused_reason"),
    ]
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        rows = (
            document
            for collection in SCHEDULER_COLLECTIONS
            for document in client.list_documents(key, collection)
        )
        session.output(style, quiet=quiet).rows("scheduler_configs", columns, rows)


def _store(
    session: Session, document: dict[str, Any], num_jobs: int, style: str | None, *, quiet: bool
) -> None:
    with session.client() as client:
        stored = client.create_workflow(document)
    answer = {"_key": stored["_key"], "name": document["name"], "num_jobs": num_jobs}
    message = f"Workflow {stored['_key']} ({document['name']}) with {num_jobs} jobs is stored."
    session.output(style, quiet=quiet).done(message, answer)


def _requirements(cpus: int, memory: str, runtime: str) -> dict[str, Any]:
    # Checked here, so that nothing is stored when one of them is wrong.
    parse_memory(memory)
    parse_duration(runtime)
    return {"name": "default", "num_cpus": cpus, "memory": memory, "runtime": runtime}


def _user(session: Session) -> str:
    return session.settings.values.user or user_name()
