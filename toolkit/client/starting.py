"""Start a workflow from the place where its files are: look at them, then start it in one call."""

from __future__ import annotations

from pathlib import Path

from lading.toolkit.client.api import AsyncLading
from lading.toolkit.wire.extensions import StartRequest


async def start_here(
    client: AsyncLading, workflow: str, directory: Path, *, ignore_missing_data: bool = False
) -> int:
    """Start a workflow whose relative paths begin at `directory`, and return the number of the run."""
    request = await look_at_files(client, workflow, directory)
    request.ignore_missing_data = ignore_missing_data
    return await client.start_workflow(workflow, request)


async def look_at_files(client: AsyncLading, workflow: str, directory: Path) -> StartRequest:
    """Say which files of a workflow exist, when they were changed, and which ones are missing."""
    required = set(await client.required_existing_files(workflow))
    request = StartRequest(missing_files=[], file_times={})
    async for file in client.list_files(workflow):
        key, path = str(file["_key"]), str(file["path"])
        try:
            request.file_times[key] = (directory / path).stat().st_mtime
        except OSError:
            if key in required:
                request.missing_files.append(path)
    return request
