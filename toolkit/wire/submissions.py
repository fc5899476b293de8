"""Our own documents about allocations: `sync` of a submitter, and what people ask for."""

from __future__ import annotations

from typing import Any, Literal

from lading.toolkit.domain.demand import Shape
from lading.toolkit.wire.extensions import Cause, Ended, Message


class AllocationReport(Message):
    """What a backend says of one allocation."""

    allocation: str
    """Key of the row."""
    state: Literal["pending", "active", "suspended", "ended"]
    external_id: str = ""
    reason: str = ""
    proof_of_death: bool = False
    """No process of it can be alive (design: proof of death)."""
    cause: Cause | None = None
    earlier_causes: list[Cause | None] = []
    """What ended each copy before this one, by its restart count, as far as the backend knows."""
    end_seconds: float | None = None
    cannot_start: bool = False
    """It waits, and by its batch system's reason it will until it or a limit is changed."""
    is_observed: bool = True
    """False: the backend could not say, and `state` is only what the row holds."""
    ended: list[Ended] = []
    """What its dead nodes had written down and perhaps could not send any more. Too much for one request
    comes in several, the last with the proof of death; what has ended already is ignored."""


class LaunchReport(Message):
    tag: str
    kind: Literal["begun", "submitted", "failed", "retry", "withdrawn", "divided"]
    """begun: the call is about to be made; submitted: external ids follow; failed: permanently
    refused, the config is paused; retry: transient or no capacity, tried again after a backoff;
    withdrawn: nobody needs it any more, and the backend has made nothing of it; divided: nor has it of
    this, for all of which there is no room: the server makes two of it."""
    external_ids: list[str] = []
    """One per row, in the order of the launch's `allocations`."""
    error: str = ""
    retry_seconds: float = 0.0


class ShapeWanted(Message):
    """A config whose shape planning needs."""

    config_row: str
    rev: int
    backend: str
    config: dict[str, Any]


class ShapeReport(Message):
    """What one allocation of a config offers, as its backend says."""

    config_row: str
    rev: int
    """Of the config that the backend was asked about."""
    shape: Shape | None = None
    """None when the backend cannot know."""
    is_failure: bool = False
    """The backend was asked in vain; it is asked again."""


class SubmitterSyncRequest(Message):
    """`POST /submitter/sync`: renew the lease, report, receive what is to be done. Level-triggered."""

    holder: str
    """Random per submitter process."""
    backends: list[str] = []
    site: str = ""
    allocations: list[AllocationReport] = []
    launches: list[LaunchReport] = []
    shape_backends: list[str] = []
    """Of `backends`: those that can tell shapes."""
    take_back_backends: list[str] = []
    """Of `backends`: those that can take out of the queue what has not started, and only that."""
    shapes: list[ShapeReport] = []
    shapes_asked: list[str] = []
    """Rows of configs that backends have been asked about already."""
    wait: float = 0.0
    leave: bool = False


class AllocationRequest(Message):
    """`POST /workflows/{workflow}/allocations`: a person asks for allocations of a config now."""

    scheduler_config_id: str
    """Its `_id`."""
    count: int = 1
    max_parallel_jobs: int | None = None
    start_one_worker_per_node: bool = False


class AllocationRequestResponse(Message, omit_defaults=False):
    tag: str
    """Of the launch: what the batch system will know it by."""
    allocations: list[str]
    """Keys of the rows."""


class Launch(Message):
    tag: str
    backend: str
    workflow: str
    config_id: str
    config: dict[str, Any]
    count: int
    state: Literal["stored", "submitting"]
    allocations: list[str]
    """Keys of the rows, in the order of the backend's answer."""
    parameters: dict[str, Any] = {}
    """max_parallel_jobs, start_one_worker_per_node and the like."""
    working_directory: str | None = None
    output_directory: str | None = None
    not_before_seconds: float = 0.0
    withdraw: bool = False
    """Nobody needs it any more: the backend is not to be called for it, only asked whether it was."""


class OpenAllocation(Message):
    allocation: str
    workflow: str
    backend: str
    tag: str
    state: str
    external_id: str = ""
    config: dict[str, Any] = {}
    cancel: bool = False
    """Asked for by a person, or the workflow is over."""
    take_back: bool = False
    """It is to leave the queue, unless it has started."""
    suspect: bool = False
    """Its node is silent: ask the backend now."""


class SubmitterSyncResponse(Message):
    granted: bool
    """False: another submitter holds the lease; ask again later and do nothing."""
    lease_seconds: float
    holder: str = ""
    launches: list[Launch] = []
    allocations: list[OpenAllocation] = []
    shapes_wanted: list[ShapeWanted] = []


class NodeTokenResponse(Message):
    """`POST /workflows/{workflow}/scheduled_compute_nodes/{key}/node_token`."""

    token: str
    server_id: str


class ConfigPlanning(Message, omit_defaults=False):
    """How planning sees one config."""

    scheduler_config_id: str
    name: str
    demand: int
    """Ready jobs that its allocations could run."""
    running: int
    """Active allocations."""
    pending: int
    """Allocations that have not started."""
    wanted: int
    """Open allocations that are enough."""
    why: str
    """What is open, and why no more comes."""
    retry_at: str | None = None
    """ISO 8601: when an allocation is asked for again, after some that were of no use."""


class Planning(Message, omit_defaults=False):
    """`GET /workflows/{workflow}/planning`."""

    configs: list[ConfigPlanning]
