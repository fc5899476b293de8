"""Start and restart a workflow from the place where its files are: look at them, then make one call."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from lading.toolkit.client.api import AsyncLading, Document
from lading.toolkit.errors import BadInput
from lading.toolkit.wire.extensions import RestartRequest, RestartResponse, StartRequest

_SHOWN_LINES: Final = 5


async def start_here(
    client: AsyncLading,
    workflow: str,
    directory: Path,
    *,
    ignore_missing_data: bool = False,
    auto_tune: bool = False,
) -> int:
    """Start a workflow whose relative paths begin at `directory`, and return the number of the run."""
    await run_startup_script(client, workflow, directory)
    request = await look_at_files(client, workflow, directory)
    request.ignore_missing_data = ignore_missing_data
    request.auto_tune = auto_tune
    return await client.start_workflow(workflow, request)


async def restart_here(
    client: AsyncLading, workflow: str, directory: Path, request: RestartRequest
) -> RestartResponse:
    """Run again what changed below `directory`, or only say what that would be."""
    if not request.dry_run:
        await run_startup_script(client, workflow, directory)
    request.file_times, request.missing_files = {}, []
    async for key, _, seen in _seen_files(client, workflow, directory):
        if seen is None:
            request.missing_files.append(key)
        else:
            request.file_times[key] = seen
    return await client.restart_workflow(workflow, request)


async def directory_of(client: AsyncLading, workflow: str) -> Path:
    """Return the folder where a workflow's relative paths begin. Raises BadInput if it is not here."""
    config = await client.workflow_config(workflow)
    directory = Path(config.get("working_directory") or Path.cwd())
    if not directory.is_dir():
        raise BadInput(
            f"The working directory of workflow {workflow}, {directory}, is not here; "
            "start it on a machine that has its files."
        )
    return directory


async def look_at_files(client: AsyncLading, workflow: str, directory: Path) -> StartRequest:
    """Say which files of a workflow exist, when they were changed, and which ones are missing."""
    required = set(await client.required_existing_files(workflow))
    request = StartRequest(missing_files=[], file_times={})
    async for key, path, seen in _seen_files(client, workflow, directory):
        if seen is not None:
            request.file_times[key] = seen
        elif key in required:
            request.missing_files.append(path)
    return request


async def run_startup_script(client: AsyncLading, workflow: str, directory: Path) -> None:
    """Run the workflow's start-up script, if it has one, before anything of the workflow is changed.

    Raises BadInput when it does not succeed. How it ended is recorded as an event either way.
    """
    script = (await client.workflow_config(workflow)).get("workflow_startup_script")
    if not script:
        return
    code, text = await _run(str(script), workflow, directory)
    outcome = "succeeded" if code == 0 else f"ended with {code}"
    event: Document = {
        "category": "workflow",
        "type": "startup_script",
        "return_code": code,
        "message": f"The start-up script {outcome}.",
    }
    await client.add_document(workflow, "events", event)
    if code != 0:
        last = "\n".join(text.splitlines()[-_SHOWN_LINES:])
        raise BadInput(
            f"The workflow's start-up script {script!r} {outcome}, so nothing was started."
            + (f" Its last lines:\n{last}" if last else "")
        )


async def _run(script: str, workflow: str, directory: Path) -> tuple[int, str]:
    try:
        words = shlex.split(script)
    except ValueError as error:
        raise BadInput(f"workflow_startup_script: {script!r} cannot be split: {error}.") from None
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=directory,
            env=_environment(os.environ, workflow),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise BadInput(f"workflow_startup_script: {script!r} cannot be started: {error.strerror}.") from None
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return process.returncode or 0, output.decode("utf-8", "replace")


def _environment(base: Mapping[str, str], workflow: str) -> dict[str, Any]:
    # Like a job, a script gets no token of ours.
    kept = {name: value for name, value in base.items() if not _is_secret(name)}
    return {**kept, "TORC_WORKFLOW_KEY": workflow, "LADING_WORKFLOW": workflow}


def _is_secret(name: str) -> bool:
    return name.startswith("LADING_") and "TOKEN" in name


async def _seen_files(
    client: AsyncLading, workflow: str, directory: Path
) -> AsyncIterator[tuple[str, str, float | None]]:
    """Yield (key, path, modification time) of each file; the time is None where it does not exist."""
    async for file in client.list_files(workflow):
        key, path = str(file["_key"]), str(file["path"])
        try:
            yield key, path, (directory / path).stat().st_mtime
        except OSError:
            yield key, path, None
