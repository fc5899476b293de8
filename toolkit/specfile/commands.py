"""Specifications from plain command lines: one command, or a file with one job a line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from lading.toolkit.domain.spec import JobSpecification, ResourceRequirements, Specification
from lading.toolkit.domain.spec_fields import INVALID, command
from lading.toolkit.domain.spec_report import Report
from lading.toolkit.domain.tree import Node, clip
from lading.toolkit.errors import BadInput, Violation
from lading.toolkit.specfile.faults import located

_QUOTED: Final = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_SHELL_WORD: Final = re.compile(r"[|&;<>()]+|`|\$(?:[A-Za-z_][A-Za-z0-9_]*|[{(])")


def from_commands(
    lines: Iterable[str],
    *,
    name: str,
    source: str = "commands",
    requirements: ResourceRequirements | None = None,
) -> Specification:
    """Return a workflow with one job for each line that is neither blank nor a `#` comment.

    The jobs are named `job1`, `job2` … in the order of the lines; `source` names the file in errors.
    """
    jobs: list[JobSpecification] = []
    violations: list[Violation] = []
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        job_name = f"job{len(jobs) + 1}"
        jobs.append(_job(job_name, stripped, requirements))
        violations += _faults(stripped, number)
    if not jobs:
        message = "There are no commands: every line is blank or a comment; at least one is needed."
        violations.append(Violation("", message, accepted="one command a line"))
    if violations:
        raise located(violations, source)
    return _specification(name, jobs, requirements)


def from_command(
    argv: Sequence[str], *, name: str | None = None, requirements: ResourceRequirements | None = None
) -> Specification:
    """Return a workflow of one job that runs a program with exactly these arguments."""
    if not argv or not argv[0].strip():
        raise BadInput.of([Violation("", "There is no command; give a program and its arguments.")])
    line = shlex.join(argv)
    violations = _faults(line, None)
    if violations:
        raise BadInput.of(violations)
    job_name = argv[0].rstrip("/").rpartition("/")[2] or argv[0]
    is_name = job_name.isprintable() and bool(job_name.strip())
    job_name = job_name if is_name else "job1"
    return _specification(name or job_name, [_job(job_name, line, requirements)], requirements)


def shell_word(line: str) -> str | None:
    """Return the first part that a shell would act on and that is a plain argument here, or None."""
    match = _SHELL_WORD.search(_QUOTED.sub("Q", line))
    return None if match is None else match[0]


def _job(name: str, line: str, requirements: ResourceRequirements | None) -> JobSpecification:
    return JobSpecification(
        name=name, command=line, resource_requirements=None if requirements is None else requirements.name
    )


def _specification(
    name: str, jobs: list[JobSpecification], requirements: ResourceRequirements | None
) -> Specification:
    return Specification(
        name=name,
        jobs=tuple(jobs),
        resource_requirements=() if requirements is None else (requirements,),
    )


def _faults(line: str, number: int | None) -> list[Violation]:
    try:
        root = Node.from_plain(line)
    except BadInput as error:
        return [Violation("", error.violations[0].message, line=number)]
    root.line = number
    report = Report(root, null_is_absent=False)
    if command(root, (), report) is INVALID or number is None:
        return report.violations
    word = shell_word(line)
    if word is None:
        return []
    # Without a shell, `echo a > b` prints "a > b": silently not what the line says.
    message = (
        f"The line has {word!r}, which only a shell understands, and commands run without one; "
        f"write it as one argument of a shell, or quote {word!r} to pass it on."
    )
    suggestion = f"bash -c {shlex.quote(clip(line))}"
    return [Violation("", message, line, suggestion=suggestion, line=number)]
