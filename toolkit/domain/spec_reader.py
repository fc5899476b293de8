"""From a tree to a checked specification: all that is wrong with it, or all that is in it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from lading.toolkit.domain.spec import (
    AwsScheduler,
    FileSpecification,
    JobSpecification,
    LocalScheduler,
    ResourceRequirements,
    ResourceStatistics,
    ScheduleComputeNodes,
    Schedulers,
    SlurmScheduler,
    Specification,
    UserDataSpecification,
    WorkflowConfig,
)
from lading.toolkit.domain.spec_checks import check_document
from lading.toolkit.domain.spec_fields import FileReference, read_fields
from lading.toolkit.domain.spec_report import Report
from lading.toolkit.domain.spec_rules import SPECIFICATION
from lading.toolkit.domain.tree import Node


def read_specification(
    root: Node,
    *,
    exists: Callable[[str], bool] | None = None,
    null_is_absent: bool = False,
    may_have_no_jobs: bool = False,
) -> Specification:
    """Return what a tree says, or raise BadInput with every violation and its place.

    `exists` tells whether a path is there; without it (on a server) input files are not looked for.
    `null_is_absent` is for files that people write: a field without a value counts as left out.
    """
    report = Report(root, null_is_absent=null_is_absent)
    draft = read_fields(root, (), report, SPECIFICATION)
    for file in draft.get("files", ()):
        if "path" in file:
            file.setdefault("name", file["path"])
    for configs in draft.get("schedulers", {}).values():
        for config in configs:
            config.setdefault("name", "default")
    if isinstance(root.value, dict):
        check_document(draft, report, exists=exists, may_have_no_jobs=may_have_no_jobs)
    report.finish()
    return _build(draft)


def _build(draft: dict[str, Any]) -> Specification:
    """Make the objects of a draft in which nothing is wrong."""
    files = tuple(FileSpecification(**file) for file in draft.pop("files", ()))
    path_of = {file.name: file.path for file in files}
    config = draft.pop("config", {})
    if "compute_node_resource_stats" in config:
        config["compute_node_resource_stats"] = ResourceStatistics(**config["compute_node_resource_stats"])
    schedulers = draft.pop("schedulers", {})
    return Specification(
        jobs=tuple(_job(job, path_of) for job in draft.pop("jobs", ())),
        files=files,
        user_data=tuple(UserDataSpecification(**item) for item in draft.pop("user_data", ())),
        resource_requirements=tuple(
            ResourceRequirements(**item) for item in draft.pop("resource_requirements", ())
        ),
        schedulers=Schedulers(
            aws_schedulers=tuple(AwsScheduler(**item) for item in schedulers.get("aws_schedulers", ())),
            local_schedulers=tuple(LocalScheduler(**item) for item in schedulers.get("local_schedulers", ())),
            slurm_schedulers=tuple(
                SlurmScheduler(**{**item, "set_up": tuple(item.get("set_up") or ())})
                for item in schedulers.get("slurm_schedulers", ())
            ),
        ),
        config=WorkflowConfig(**config),
        **draft,
    )


def _job(draft: dict[str, Any], path_of: dict[str, str]) -> JobSpecification:
    arguments = []
    for field in ("input_files", "output_files"):
        references = draft.get(field, ())
        arguments += [
            shlex.quote(f"{reference.argument}={path_of[reference.name]}")
            for reference in references
            if isinstance(reference, FileReference)
        ]
        draft[field] = tuple(
            dict.fromkeys(item.name if isinstance(item, FileReference) else item for item in references)
        )
    for field in ("input_user_data", "output_user_data", "blocked_by"):
        draft[field] = tuple(draft.get(field, ()))
    if arguments:
        draft["command"] = " ".join([draft["command"], *arguments])
    if draft.get("schedule_compute_nodes") is not None:
        draft["schedule_compute_nodes"] = ScheduleComputeNodes(**draft["schedule_compute_nodes"])
    if draft.get("scheduler") == "":
        del draft["scheduler"]
    return JobSpecification(**draft)
