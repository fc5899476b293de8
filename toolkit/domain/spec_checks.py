"""What only the whole document can tell: names, references, producers, circles, missing inputs.

The checks work on drafts: per element a dict of the fields that could be read. A field that was
refused already is absent, so that one mistake gives one violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from lading.toolkit.domain.graph import find_cycles
from lading.toolkit.domain.spec import SCHEDULER_COLLECTIONS
from lading.toolkit.domain.spec_fields import FileReference
from lading.toolkit.domain.spec_report import Report, Way, listing, nearest
from lading.toolkit.domain.tree import clip

Draft: TypeAlias = dict[str, Any]

_MOST_NAMED: Final = 10
_SECTIONS: Final = {"job": "jobs", "file": "files", "user data": "user_data"}


def check_document(
    draft: Draft, report: Report, *, exists: Callable[[str], bool] | None, may_have_no_jobs: bool
) -> None:
    """Note everything in a draft that contradicts something else in it."""
    _Checks(draft, report).run(exists, may_have_no_jobs=may_have_no_jobs)


class _Checks:
    def __init__(self, draft: Draft, report: Report) -> None:
        self.report = report
        self.draft = draft
        self.is_without_jobs = draft.get("jobs") == [] or ("jobs" not in draft and not self.is_given("jobs"))
        self.jobs: list[Draft] = draft.get("jobs", [])
        self.files: list[Draft] = draft.get("files", [])
        self.job_index = self.index(self.jobs, ("jobs",), "job")
        self.file_index = self.index(self.files, ("files",), "file")
        self.data_index = self.index(draft.get("user_data", []), ("user_data",), "user data")
        requirements = draft.get("resource_requirements", [])
        self.requirement_index = self.index(requirements, ("resource_requirements",), "resource requirements")
        self.schedulers: dict[str, int] = {}
        for collection in SCHEDULER_COLLECTIONS:
            configs = draft.get("schedulers", {}).get(collection, [])
            names = self.index(configs, ("schedulers", collection), "scheduler")
            self.schedulers |= {f"{collection}/{name}": index for name, index in names.items()}

    def is_unreadable(self, section: str) -> bool:
        """Tell whether a list of the document was refused as a whole: nothing is known of its names."""
        return section not in self.draft and self.is_given(section)

    def is_given(self, field: str) -> bool:
        """Tell whether the document has a field, though perhaps a wrong one."""
        value = self.report.root.value
        return isinstance(value, dict) and field in value and value[field].value is not None

    def index(self, drafts: list[Draft], way: Way, kind: str) -> dict[str, int]:
        """Return where each name is used first, and note names that are used again."""
        first: dict[str, int] = {}
        for position, draft in enumerate(drafts):
            name = draft.get("name")
            if name is None:
                continue
            if name in first:
                other = self.report.place((*way, first[name]))
                message = f"The name {clip(name)!r} is taken: {other} is a {kind} of this name too."
                if kind in ("user data", "resource requirements"):
                    message = f"The name {clip(name)!r} is taken: {other} has it too."
                self.report.add((*way, position, "name"), message, value=name, accepted="a name of its own")
            else:
                first[name] = position
        return first

    def run(self, exists: Callable[[str], bool] | None, *, may_have_no_jobs: bool) -> None:
        """Make all checks."""
        if self.is_without_jobs and not may_have_no_jobs:
            self.report.add(
                ("jobs",), "The workflow has no jobs; at least one is needed.", accepted="a list of jobs"
            )
        for position, job in enumerate(self.jobs):
            self.check_references(position, job)
        written = self.producers("output_files", "File")
        stored = self.producers("output_user_data", "User data")
        self.check_self_dependencies(written, stored)
        self.check_cycles(written, stored)
        self.check_paths(written)
        if exists is not None:
            self.check_inputs(written, exists)

    def check_references(self, position: int, job: Draft) -> None:
        """Note names in a job that nothing in the document has."""
        for field, known, kind in (
            ("input_files", self.file_index, "file"),
            ("output_files", self.file_index, "file"),
            ("input_user_data", self.data_index, "user data"),
            ("output_user_data", self.data_index, "user data"),
            ("blocked_by", self.job_index, "job"),
        ):
            for name in _names(job, field):
                if name not in known and not self.is_unreadable(_SECTIONS[kind]):
                    self.refuse(self.report.item(("jobs", position, field), name), name, known, kind)
        requirement = job.get("resource_requirements")
        if requirement is not None and requirement not in self.requirement_index:
            way: Way = ("jobs", position, "resource_requirements")
            if not self.is_unreadable("resource_requirements"):
                self.refuse(way, requirement, self.requirement_index, "resource requirements")
        scheduler = job.get("scheduler")
        if scheduler and scheduler not in self.schedulers:
            self.refuse_scheduler(("jobs", position, "scheduler"), scheduler)
        request = job.get("schedule_compute_nodes") or {}
        if request.get("scheduler_id") and request["scheduler_id"] not in self.schedulers:
            self.refuse_scheduler(
                ("jobs", position, "schedule_compute_nodes", "scheduler_id"), request["scheduler_id"]
            )

    def refuse(self, way: Way, name: str, known: Mapping[str, int], kind: str) -> None:
        plural = kind if kind in ("user data", "resource requirements") else f"{kind}s"
        accepted = listing(known, plural)
        verb = "are" if kind == "resource requirements" else "is"
        message = f"There {verb} no {kind} named {clip(name)!r}; accepted: {accepted}."
        self.report.add(way, message, value=name, accepted=accepted, suggestion=nearest(name, known))

    def refuse_scheduler(self, way: Way, name: str) -> None:
        accepted = listing(self.schedulers, "schedulers")
        suggestion = next((known for known in self.schedulers if known.partition("/")[2] == name), None)
        message = f"There is no scheduler {clip(name)!r} (COLLECTION/NAME); accepted: {accepted}."
        suggestion = suggestion or nearest(name, self.schedulers)
        self.report.add(way, message, value=name, accepted=accepted, suggestion=suggestion)

    def producers(self, field: str, kind: str) -> dict[str, int]:
        """Return which job produces each thing, and note things that two jobs produce."""
        producer: dict[str, int] = {}
        for position, job in enumerate(self.jobs):
            for name in _names(job, field):
                first = producer.setdefault(name, position)
                if first != position:
                    way = self.report.item(("jobs", position, field), name)
                    message = (
                        f"{kind} {clip(name)!r} has two producers, {self.job_name(first)} and "
                        f"{self.job_name(position)}; one thing is produced by one job."
                    )
                    self.report.add(way, message, value=name)
        return producer

    def check_self_dependencies(self, written: dict[str, int], stored: dict[str, int]) -> None:
        """Note jobs that would wait for themselves."""
        for position, job in enumerate(self.jobs):
            own = job.get("name")
            if own is not None and self.job_index.get(own) == position and own in job.get("blocked_by", ()):
                way = self.report.item(("jobs", position, "blocked_by"), own)
                self.report.add(way, f"Job {clip(own)!r} is blocked by itself.", value=own)
            for field, producer, kind in (
                ("input_files", written, "file"),
                ("input_user_data", stored, "user data"),
            ):
                for name in _names(job, field):
                    if producer.get(name) == position:
                        way = self.report.item(("jobs", position, field), name)
                        message = (
                            f"Job {self.job_name(position)} both needs and produces {kind} {clip(name)!r}, "
                            "so it would wait for itself; give the result another name."
                        )
                        self.report.add(way, message, value=name)

    def check_cycles(self, written: dict[str, int], stored: dict[str, int]) -> None:
        """Note circles of jobs that wait for each other."""
        for cycle in find_cycles(self.edges(written, stored)):
            jobs = [index for index, node in enumerate(cycle) if isinstance(node, int)]
            start = min(jobs, key=lambda index: _sort_key(cycle[index]))
            turned = cycle[start:] + cycle[:start]
            positions = [node for node in turned if isinstance(node, int)]
            names = [self.jobs[position].get("name") for position in positions[:_MOST_NAMED]]
            message = f"These jobs wait for each other in a cycle: {self.cycle_text(turned)}."
            self.report.add(("jobs", positions[0]), message, value=names)

    def edges(self, written: dict[str, int], stored: dict[str, int]) -> dict[Any, list[Any]]:
        """Return the graph of jobs (by position) and of things (by kind and name) between them.

        The things stay nodes of their own: 1 000 producers and 1 000 consumers of a file set are
        2 000 edges then, not a million.
        """
        edges: dict[Any, list[Any]] = {}
        for position, job in enumerate(self.jobs):
            for name in job.get("blocked_by", ()):
                blocker = self.job_index.get(name)
                if blocker is not None and blocker != position:
                    edges.setdefault(blocker, []).append(position)
            for field, producer, kind in (
                ("input_files", written, "file"),
                ("input_user_data", stored, "user data"),
            ):
                for name in _names(job, field):
                    if name in producer and producer[name] != position:
                        edges.setdefault((kind, name), []).append(position)
        for kind, producer in (("file", written), ("user data", stored)):
            for name, position in producer.items():
                if (kind, name) in edges:
                    edges.setdefault(position, []).append((kind, name))
        return edges

    def cycle_text(self, cycle: list[Any]) -> str:
        """Return a circle that starts with a job as text, with the reason of each edge."""
        parts = [self.job_name(cycle[0])]
        reason = "blocked_by"
        for node in [*cycle[1:], cycle[0]]:
            if isinstance(node, int):
                parts.append(f"{self.job_name(node)} ({reason})")
                reason = "blocked_by"
            else:
                reason = f"{node[0]} {clip(node[1])!r}"
        if len(parts) > _MOST_NAMED + 1:
            hidden = len(parts) - 1 - _MOST_NAMED
            parts = [*parts[:_MOST_NAMED], f"{hidden} more jobs", parts[-1]]
        return " → ".join(parts)

    def check_paths(self, written: dict[str, int]) -> None:
        """Note two names for one path if a job writes it: the edge between them would be missed."""
        first: dict[str, Draft] = {}
        for position, file in enumerate(self.files):
            if "path" not in file or "name" not in file:
                continue
            other = first.setdefault(_normal_path(file["path"]), file)
            if other["name"] != file["name"] and (file["name"] in written or other["name"] in written):
                message = (
                    f"Two files have one path, {clip(file['path'])!r}: {clip(other['name'])!r} and "
                    f"{clip(file['name'])!r}; a path that a job writes needs one name, or nothing waits for it."
                )
                self.report.add(("files", position, "path"), message, value=file["path"])

    def check_inputs(self, written: dict[str, int], exists: Callable[[str], bool]) -> None:
        """Note files that jobs need, that no job writes, and that are not there: once per file."""
        seen: set[str] = set()
        for position, job in enumerate(self.jobs):
            for name in _names(job, "input_files"):
                if name in seen or name in written or name not in self.file_index:
                    continue
                seen.add(name)
                path = self.files[self.file_index[name]].get("path")
                if path is not None and not exists(path):
                    way = self.report.item(("jobs", position, "input_files"), name)
                    message = f"File {clip(name)!r} does not exist at {clip(path)!r}, and no job produces it."
                    self.report.add(
                        way, message, value=path, accepted="a file that exists or that a job writes"
                    )

    def job_name(self, position: int) -> str:
        name = self.jobs[position].get("name")
        return f"jobs[{position}]" if name is None else repr(clip(name))


def _names(job: Draft, field: str) -> Iterator[str]:
    for item in job.get(field, ()):
        yield item.name if isinstance(item, FileReference) else item


def _sort_key(node: Any) -> int:
    return node if isinstance(node, int) else 0


def _normal_path(path: str) -> str:
    """Return a path without what does not change it: `./`, `//`, a slash at the end."""
    steps = [step for step in path.split("/") if step not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(steps)
