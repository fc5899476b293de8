"""`lading submit-workflow`: a workflow for a server that runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lading.toolkit.cli.context import Session, format_option
from lading.toolkit.cli.output import examples, note
from lading.toolkit.cli.specification import document_of, read_workflow
from lading.toolkit.cli.waiting import wait_and_report
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.starting import start_here
from lading.toolkit.client.target import Target


@click.command(
    "submit-workflow",
    epilog=examples(
        "lading submit-workflow diamond.yaml",
        "lading submit-workflow diamond.yaml --wait",
        "lading submit-workflow diamond.yaml --name night --format json",
        "lading submit-workflow big.json --idempotency-key night-2024-05-02",
    ),
)
@click.argument("spec", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--wait", is_flag=True, help="Show progress until the end; the exit code is that of `lading run`."
)
@click.option("--name", help="Name of the workflow. [default: from the file]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the output of the jobs. [default: ./output]",
)
@click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="Repeat a submission whose answer was lost with the same text: it stays one workflow.",
)
@click.option(
    "--no-start", is_flag=True, help="Store the workflow; start it later with `lading workflows start`."
)
@format_option
@click.pass_context
def submit_workflow(
    ctx: click.Context,
    *,
    spec: Path,
    wait: bool,
    name: str | None,
    output: Path | None,
    idempotency_key: str | None,
    no_start: bool,
    style: str | None,
) -> None:
    """Send a workflow file to a server, and start it.

    The file is checked completely before anything is sent, and is stored whole or not at all.
    """
    if wait and no_start:
        raise click.UsageError("--wait and --no-start exclude each other.")
    session: Session = ctx.obj
    directory = Path.cwd()
    specification = read_workflow(spec, None, (), directory=directory)
    folder = (output or session.settings.values.output).absolute()
    document = document_of(
        specification, session.settings.values, name=name, directory=directory, output=folder
    )
    target = session.target()
    submitted = asyncio.run(_submit(target, document, directory, idempotency_key, start=not no_start))
    key = submitted.workflow
    if wait:
        note(f"Workflow {key} ({document['name']}) is started.")
        ctx.exit(wait_and_report(target, key, str(document["name"]), style or "table"))
    answer = {
        "_key": key,
        "name": document["name"],
        "run_id": submitted.run_id,
        "num_jobs": len(specification.jobs),
    }
    done = "stored" if no_start else "started"
    session.output(style).done(f"Workflow {key} ({document['name']}) is {done}.", answer)
    for reason in submitted.reasons:
        note(f"Waiting: {reason}")


@dataclass(frozen=True, slots=True)
class _Submitted:
    workflow: str
    run_id: int = 0
    reasons: Sequence[str] = ()


async def _submit(
    target: Target, document: Mapping[str, Any], directory: Path, key: str | None, *, start: bool
) -> _Submitted:
    async with AsyncLading(target) as client:
        workflow = str((await client.create_workflow(document, idempotency_key=key))["_key"])
        if not start:
            return _Submitted(workflow)
        run_id = int((await client.workflow_status(workflow))["run_id"])
        if key is None or run_id == 0:
            # A repeated submission whose first try came through is not started again: it would be a new run.
            run_id = await start_here(client, workflow, directory)
        return _Submitted(workflow, run_id, (await client.progress(workflow)).reasons)
