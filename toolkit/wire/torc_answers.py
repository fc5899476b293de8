"""Answers of the torc API that are no documents: for its description only, answers are never trimmed."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from lading.toolkit.wire.fields import Object
from lading.toolkit.wire.torc import Edge, Job, ScheduleParameters

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """The envelope of every list."""

    items: list[Item]
    skip: int
    max_limit: int
    count: int
    total_count: int
    has_more: bool


class Message(BaseModel):
    message: str


class Version(BaseModel):
    version: str
    lading: str


class StoredJobs(BaseModel):
    items: list[Job]


class JobKeys(BaseModel):
    items: list[str]


class CollectionNames(BaseModel):
    names: list[str]


class LatestEventTimestamp(BaseModel):
    timestamp: int | None


class MissingUserData(BaseModel):
    user_data: list[str]


class RequiredExistingFiles(BaseModel):
    files: list[str]


class WorkflowCompleteness(BaseModel):
    is_canceled: bool
    is_complete: bool
    needs_to_run_completion_script: bool


class ClaimedJobs(BaseModel):
    jobs: list[Job]
    reason: str = ""
    """Why there are none."""


class SchedulerRequests(BaseModel):
    schedulers: list[ScheduleParameters]


class ReinitializedJobs(BaseModel):
    reinitialized_jobs: list[str]


class Graph(BaseModel):
    graph: str


class JoinedRow(BaseModel):
    """A document beside one of its neighbours."""

    from_: Object = Field(alias="from")
    to: Object
    edge: Edge


class ReadyJobRequirements(BaseModel):
    num_jobs: int
    num_cpus: int
    num_gpus: int
    memory_gb: float
    max_num_nodes: int
    max_runtime: str
    num_whole_nodes: int = 0
    """Nodes that jobs of several nodes have for themselves, all together."""
    max_num_cpus: int = 0
    """Of one job; these three are there when `scheduler_config_id` is given."""
    max_num_gpus: int = 0
    max_memory_gb: float = 0.0
