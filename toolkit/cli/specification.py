"""From what a person names to the document that is posted: a file, a list of commands, one command."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lading.toolkit.domain.spec import ResourceRequirements, Specification
from lading.toolkit.domain.values import format_memory
from lading.toolkit.errors import BadInput, Violation
from lading.toolkit.settings import Settings
from lading.toolkit.specfile import from_command, from_commands, read_file

_LOCAL: Final = "local_schedulers"


def read_workflow(
    file: Path | None, commands: Path | None, command: Sequence[str], *, directory: Path
) -> Specification:
    """Read exactly one of the three; everything is checked before anything is stored."""
    given = [
        name for name, value in (("SPEC", file), ("--commands", commands), ("-- COMMAND", command)) if value
    ]
    if len(given) != 1:
        found = " and ".join(given) if given else "nothing"
        raise BadInput(f"Give one of SPEC, --commands FILE, or -- COMMAND…; given: {found}.")
    if file is not None:
        return read_file(file, directory=directory)
    if commands is not None:
        return from_commands(_lines(commands), name=commands.stem, source=str(commands))
    return from_command(command)


def document_of(
    specification: Specification, settings: Settings, *, name: str | None, directory: Path, output: Path
) -> dict[str, Any]:
    """Return the body to post, with owner and folders; every local config gets its one allocation."""
    document = specification.to_document()
    document["name"] = name or specification.name or "workflow"
    document["user"] = specification.user or settings.user or user_name()
    config = document.setdefault("config", {})
    config["working_directory"] = str(directory)
    config["output_directory"] = str(output)
    for scheduler in document.get("schedulers", {}).get(_LOCAL, ()):
        scheduler.setdefault("max_allocations", 1)
    return document


def add_local_scheduler(
    document: dict[str, Any], *, cpus: int | None, memory: int | None, max_parallel_jobs: int | None
) -> None:
    """Make sure that this machine is used, within the limits that were given on the command line."""
    schedulers = document.setdefault("schedulers", {}).setdefault(_LOCAL, [])
    if not schedulers:
        schedulers.append({"name": "local", "max_allocations": 1})
    for scheduler in schedulers:
        if cpus is not None:
            scheduler["num_cpus"] = cpus
        if memory is not None:
            scheduler["memory"] = format_memory(memory)
        if max_parallel_jobs is not None:
            scheduler["max_parallel_jobs"] = max_parallel_jobs


def refuse_too_large(
    specification: Specification, *, cpus: int | None, memory: int | None, all_here: bool = False
) -> None:
    """Refuse jobs that this machine, or the share of it that was given, can never run.

    `all_here`: also those of a workflow that names schedulers of other machines.
    """
    schedulers = specification.schedulers
    if not all_here and (schedulers.slurm_schedulers or schedulers.aws_schedulers):
        return
    most_cpus = cpus or len(os.sched_getaffinity(0))
    most_memory = memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    used = {job.resource_requirements for job in specification.jobs}
    violations = [
        violation
        for requirement in specification.resource_requirements
        if requirement.name in used
        for violation in _excess(requirement, most_cpus, most_memory)
    ]
    if violations:
        raise BadInput.of(violations)


def user_name() -> str:
    """Return the login name, or the user's number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _excess(requirement: ResourceRequirements, cpus: int, memory: int) -> list[Violation]:
    path = f"resource_requirements {requirement.name!r}"
    violations = []
    if requirement.num_cpus > cpus:
        text = (
            f"asks for {requirement.num_cpus} CPUs, and there are {cpus} here; no job with it could ever run."
        )
        violations.append(Violation(f"{path}: num_cpus", text, requirement.num_cpus, f"1 to {cpus}"))
    if requirement.memory_bytes > memory:
        text = f"asks for {requirement.memory}, and there is {memory >> 20}m here; no job with it could ever run."
        violations.append(Violation(f"{path}: memory", text, requirement.memory, f"up to {memory >> 20}m"))
    return violations


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: byte {error.start + 1} cannot be decoded.") from error
