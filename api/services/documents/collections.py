"""What the collections are: table, members of a document, and how a row reads as a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson

from lading.api.services.job_documents import revision
from lading.api.storage import tables
from lading.api.storage.keys import key_of
from lading.toolkit.domain.values import INTEGER_MAX
from lading.toolkit.errors import NotFound


class Form(Enum):
    """How a member is held in its column."""

    PLAIN = auto()
    NUMBER = auto()
    """A column of fractions; whole numbers are shown without one."""
    BOOLEAN = auto()
    JSON = auto()


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a document and its column."""

    name: str
    form: Form = Form.PLAIN
    is_read_only: bool = False
    """Ours, shown when it says something, set by nobody's document."""

    def decode(self, value: Any) -> Any:
        """Return a column's value as the document shows it."""
        if value is None or self.form is Form.PLAIN:
            return value
        if self.form is Form.BOOLEAN:
            return bool(value)
        if self.form is Form.JSON:
            return orjson.loads(value)
        return int(value) if float(value).is_integer() and abs(value) < INTEGER_MAX else value

    def encode(self, value: Any) -> Any:
        """Return a document's value as the column holds it."""
        return orjson.dumps(value).decode() if self.form is Form.JSON and value is not None else value


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection of a workflow's documents."""

    name: str
    """Base name, the first part of every `_id`."""
    singular: str
    """For error texts."""
    model: type[tables.DocumentRow]
    members: tuple[Member, ...]
    kind: str | None = None
    """Value of the `kind` column where collections share a table."""
    body: str | None = None
    """Column with the members that have none of their own."""
    edges: tuple[str, ...] = ()
    """Names of stored edges that lead to documents of this collection."""
    has_creation_time: bool = False

    @property
    def table(self) -> str:
        """Name the table."""
        return self.model.table_name()

    def member(self, name: str) -> Member | None:
        """Return the member of that name that has a column."""
        return next((member for member in self.members if member.name == name), None)

    def holds_text(self, name: str) -> bool:
        """Whether the column of that name is one of texts."""
        return self.model.holds_text(name)

    def document(self, row: Any, workflow: str) -> dict[str, Any]:
        """Return a row as the document that clients see; what is absent is left out."""
        document: dict[str, Any] = {}
        for member in self.members:
            value = member.decode(row[member.name])
            if value is not None and (value or not member.is_read_only):
                document[member.name] = value
        if self.body is not None:
            document.update(orjson.loads(row[self.body]))
        return identified(document, self.name, workflow, row)


def identified(document: dict[str, Any], collection: str, workflow: str, row: Any) -> dict[str, Any]:
    """Add `_key`, `_id` and `_rev` to a document of a workflow."""
    key = key_of(row)
    document["_key"] = key
    document["_id"] = f"{collection}__{workflow}/{key}"
    document["_rev"] = revision(row["rev"])
    return document


def plain_key(text: str, collection: str, workflow: str, singular: str) -> str:
    """Return the key in a path's value: a bare key, or a whole `_id` of this collection and workflow."""
    prefix, slash, key = text.rpartition("/")
    if slash and prefix != f"{collection}__{workflow}":
        raise NotFound(f"no such {singular}: {text}")
    return key


def _members(*plain: str, **formed: Form) -> tuple[Member, ...]:
    return (*(Member(name) for name in plain), *(Member(name, form) for name, form in formed.items()))


def _shown(*names: str, form: Form = Form.PLAIN) -> tuple[Member, ...]:
    return tuple(Member(name, form, is_read_only=True) for name in names)


FILES = Collection(
    "files", "file", tables.File,
    _members("name", "path", st_mtime=Form.NUMBER), edges=("needs", "produces"),
)  # fmt: skip
USER_DATA = Collection(
    "user_data", "user data", tables.UserData,
    _members("name", is_ephemeral=Form.BOOLEAN, data=Form.JSON), edges=("consumes", "stores"),
)  # fmt: skip
RESOURCE_REQUIREMENTS = Collection(
    "resource_requirements", "resource requirements", tables.ResourceRequirements,
    _members("name", "num_cpus", "num_gpus", "num_nodes", "memory", "runtime"),
)  # fmt: skip
RESULTS = Collection(
    "results", "result", tables.Result,
    _members("job_key", "run_id", "return_code", "completion_time", "status", exec_time_minutes=Form.NUMBER),
)  # fmt: skip
COMPUTE_NODES = Collection(
    "compute_nodes", "compute node", tables.ComputeNode,
    _members(
        "hostname", "pid", "start_time", duration_seconds=Form.NUMBER, is_active=Form.BOOLEAN,
        resources=Form.JSON, scheduler=Form.JSON,
    )
    + _shown("state", "reason", "last_seen_ms", "lease_until_ms", "started_ms", "node_index")
    + _shown("draining", form=Form.BOOLEAN),
)  # fmt: skip
COMPUTE_NODE_STATS = Collection(
    "compute_node_stats", "compute node statistics", tables.ComputeNodeStats,
    _members("hostname", "timestamp", stats=Form.JSON),
)  # fmt: skip
JOB_PROCESS_STATS = Collection(
    "job_process_stats", "job process statistics", tables.JobProcessStats,
    _members(
        "job_key", "run_id", "num_samples", "timestamp", avg_cpu_percent=Form.NUMBER,
        max_cpu_percent=Form.NUMBER, avg_rss=Form.NUMBER, max_rss=Form.NUMBER,
    ),
)  # fmt: skip
SCHEDULED_COMPUTE_NODES = Collection(
    "scheduled_compute_nodes", "scheduled compute node", tables.ScheduledComputeNode,
    _members("scheduler_id", "scheduler_config_id", "status")
    + _shown("reason", "cause", "created_ms", "ended_ms", "end_ms")
    + _shown("cancel_requested", form=Form.BOOLEAN),
    has_creation_time=True,
)  # fmt: skip
EVENTS = Collection("events", "event", tables.Event, _members("timestamp"), body="body")


def _schedulers(kind: str, singular: str) -> Collection:
    members = _members("name") + _shown("paused_reason")
    return Collection(f"{kind}_schedulers", singular, tables.SchedulerConfig, members, kind=kind, body="body")


LOCAL_SCHEDULERS = _schedulers("local", "local scheduler")
SLURM_SCHEDULERS = _schedulers("slurm", "Slurm scheduler")
AWS_SCHEDULERS = _schedulers("aws", "AWS scheduler")
SCHEDULERS: Mapping[str, Collection] = {
    collection.name: collection for collection in (LOCAL_SCHEDULERS, AWS_SCHEDULERS, SLURM_SCHEDULERS)
}
JOBS = Collection("jobs", "job", tables.Job, ())
"""For keys and lists; the document is `job_documents.job_document`."""

DOCUMENT_NAMES = ("events", "scheduled_compute_nodes")
VERTEX_NAMES = (
    "aws_schedulers", "compute_nodes", "compute_node_stats", "files", "job_process_stats", "jobs",
    "local_schedulers", "resource_requirements", "results", "slurm_schedulers", "user_data",
)  # fmt: skip
