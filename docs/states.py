"""Write docs/states.md from the tables in the code: `make docs`. A test checks that it was done."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from lading.toolkit.domain import states

PAGE = Path(__file__).with_suffix(".md")
GROUPS = {
    "CLAIMABLE": states.CLAIMABLE,
    "ACTIVE": states.ACTIVE,
    "JOB_COMPLETE": states.JOB_COMPLETE,
    "WORKFLOW_COMPLETE": states.WORKFLOW_COMPLETE,
}
MACHINES = (
    ("Attempts", "One execution of a job within a run.", states.AttemptState),
    ("Causes", "Why an attempt ended.", states.Cause),
    ("Compute nodes", "One running job runner.", states.NodeState),
    ("Allocations", "What a backend got: a `scheduled_compute_nodes` document.", states.AllocationState),
    ("Launches", "One call to a backend; stored before the call is made.", states.LaunchState),
)


def page() -> str:
    """Return the whole page."""
    return "\n".join([*_head(), *_jobs(), *_others()]) + "\n"


def _head() -> Iterator[str]:
    yield "# States"
    yield ""
    yield "Made by `make docs` from `toolkit/domain/states.py`, where alone states are named and may change;"
    yield "the guards in the database's statements come from the same tables."


def _jobs() -> Iterator[str]:
    meanings = _meanings(states.JobStatus)
    yield from ("", "## Jobs", "", "| status | meaning | belongs to |", "| --- | --- | --- |")
    for status in states.JobStatus:
        groups = ", ".join(f"`{name}`" for name, members in GROUPS.items() if status in members)
        yield f"| `{status.value}` | {meanings.get(status.name, '')} | {groups} |"
    yield from ("", "| event | allowed in | leads to |", "| --- | --- | --- |")
    for event, (sources, target) in states.JOB_TRANSITIONS.items():
        yield f"| `{event.value}` | {_listed(sources)} | `{target.value}` |"
    yield from (
        "",
        "The usual way of a job (events that are allowed from almost everywhere are left out):",
        "",
    )
    yield from ("```mermaid", "stateDiagram-v2", f"    [*] --> {states.JobStatus.UNINITIALIZED.value}")
    arrows = sorted(_arrows())
    for (source, target), events in groupby(arrows, key=lambda arrow: arrow[:2]):
        yield f"    {source} --> {target}: {', '.join(arrow[2] for arrow in events)}"
    for status in sorted(states.JOB_COMPLETE):
        yield f"    {status.value} --> [*]"
    yield "```"


def _arrows() -> Iterator[tuple[str, str, str]]:
    crowded = len(states.JobStatus) // 2
    for event, (sources, target) in states.JOB_TRANSITIONS.items():
        # A diagram of every arrow hides the few that matter; the table above has them all.
        usual = sources if len(sources) <= crowded else sources & _usual_sources(event)
        for source in usual - {target}:
            yield source.value, target.value, event.value


def _usual_sources(event: states.JobEvent) -> frozenset[states.JobStatus]:
    match event:
        case states.JobEvent.INITIALIZE_READY | states.JobEvent.INITIALIZE_BLOCKED:
            return frozenset({states.JobStatus.UNINITIALIZED})
        case states.JobEvent.COMPLETE | states.JobEvent.TERMINATE:
            return frozenset({states.JobStatus.SUBMITTED})
        case states.JobEvent.CANCEL:
            return frozenset({states.JobStatus.BLOCKED})
        case _:
            return frozenset()


def _others() -> Iterator[str]:
    for title, text, enumeration in MACHINES:
        meanings = _meanings(enumeration)
        yield from ("", f"## {title}", "", text, "")
        for member in enumeration:
            meaning = meanings.get(member.name)
            yield f"- `{member.value}`" + (f": {meaning}" if meaning else "")


def _meanings(enumeration: type[StrEnum]) -> dict[str, str]:
    """Read the text that stands below a member: Python itself throws it away."""
    (definition,) = ast.parse(inspect.getsource(enumeration)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for above, below in zip(definition.body, definition.body[1:], strict=False):
        match above, below:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def _listed(statuses: Iterable[states.JobStatus]) -> str:
    members = [status for status in states.JobStatus if status in set(statuses)]
    if len(members) == len(states.JobStatus):
        return "any"
    missing = [status for status in states.JobStatus if status not in members]
    if len(missing) < len(members):
        return "any but " + ", ".join(f"`{status.value}`" for status in missing)
    return ", ".join(f"`{status.value}`" for status in members)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
