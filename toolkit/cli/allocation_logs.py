"""Print what an allocation itself wrote: the job of its batch system, not the jobs of the workflow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lading.toolkit.backends import load_backend
from lading.toolkit.cli.output import note
from lading.toolkit.cli.printed_file import POLL_SECONDS, PrintedFile
from lading.toolkit.client.api import Document
from lading.toolkit.client.sync import Lading
from lading.toolkit.domain.states import AllocationState
from lading.toolkit.errors import NotFound

_ASK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class AllocationLogRequest:
    workflow: str
    allocation: str
    follow: bool
    only_stderr: bool
    tail: int | None


def print_allocation_logs(client: Lading, request: AllocationLogRequest) -> None:
    """Print the output of one allocation, with `follow` until it ends."""
    document = client.get_allocation(request.workflow, request.allocation)
    if request.follow and not document.get("scheduler_id"):
        note(f"Allocation {request.allocation} is not submitted yet; waiting.")
        while not document.get("scheduler_id") and not _is_over(document):
            time.sleep(POLL_SECONDS)
            document = client.get_allocation(request.workflow, request.allocation)
    # A job that waits in a queue has written nothing yet.
    must_exist = not request.follow or _is_over(document)
    files = [PrintedFile(path) for path in _paths(client, request, document)]
    for file in files:
        if len(files) > 1:
            note(f"==> {file.path} <==")
        file.open(must_exist=must_exist)
        if request.tail is not None:
            file.print_tail(request.tail)
        file.print_new()
    if request.follow:
        _follow(client, request, files)
    for file in files:
        file.close()


def _follow(client: Lading, request: AllocationLogRequest, files: list[PrintedFile]) -> None:
    asked = 0.0
    while True:
        is_over = False
        if time.monotonic() - asked >= _ASK_SECONDS:
            # Asked before the last look: what was written until the end is printed too.
            is_over = _is_over(client.get_allocation(request.workflow, request.allocation))
            asked = time.monotonic()
        for file in files:
            file.open(must_exist=False)
        news = [file.print_new() for file in files]
        if is_over:
            return
        if not any(news):
            time.sleep(POLL_SECONDS)


def _paths(client: Lading, request: AllocationLogRequest, document: Document) -> list[Path]:
    identity = str(document.get("scheduler_id") or "")
    if not identity:
        reason = document.get("reason") or document["status"]
        raise NotFound(
            f"Allocation {request.allocation} was never given by a scheduler ({reason}), so it wrote nothing."
        )
    kind = str(document["scheduler_config_id"]).partition("_schedulers")[0]
    config = client.workflow_config(request.workflow)
    working = Path(config.get("working_directory") or Path.cwd())
    output = Path(config.get("output_directory") or working / "output")
    paths = list(load_backend(kind).log_files(identity, output))
    if not paths:
        raise NotFound(
            f"Allocation {request.allocation} ({identity}) is not of Lading's own; its output is unknown."
        )
    # One file holds both streams, unless a backend keeps them apart.
    return paths[-1:] if request.only_stderr else paths


def _is_over(document: Document) -> bool:
    return document.get("status") == AllocationState.COMPLETE
