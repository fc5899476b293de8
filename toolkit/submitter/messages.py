"""What happens to a submitter (events) and what it has to do (instructions). Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lading.toolkit.backends import Allocation, Observation
from lading.toolkit.wire.submissions import (
    Launch,
    ShapeReport,
    ShapeWanted,
    SubmitterSyncRequest,
    SubmitterSyncResponse,
)


class FailureKind(StrEnum):
    TRANSIENT = "transient"
    """Also everything unexpected: the call may have been carried out."""
    CAPACITY = "capacity"
    PERMANENT = "permanent"


# ---- events ----


@dataclass(frozen=True, slots=True)
class SyncAnswered:
    now: float
    sent_at: float
    """When the request left: the lease counts from here, so we never think it longer than the server."""
    request: SubmitterSyncRequest
    response: SubmitterSyncResponse


@dataclass(frozen=True, slots=True)
class Ticked:
    now: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """The node files of a launch are written."""

    now: float
    tag: str


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    now: float
    tag: str
    error: str


@dataclass(frozen=True, slots=True)
class Found:
    now: float
    tag: str
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Submitted:
    now: float
    tag: str
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A `find` or `submit` raised."""

    now: float
    tag: str
    kind: FailureKind
    error: str
    fewer_may_fit: bool = False
    """Of CAPACITY: see CapacityError."""


@dataclass(frozen=True, slots=True)
class Observed:
    now: float
    backend: str
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Canceled:
    now: float
    backend: str


@dataclass(frozen=True, slots=True)
class BackendFailed:
    """An `observe` or `cancel` raised."""

    now: float
    backend: str
    call: str
    error: str


@dataclass(frozen=True, slots=True)
class ShapeTold:
    """A backend said what an allocation of a config offers, or could not."""

    now: float
    report: ShapeReport
    error: str = ""


Event = (
    SyncAnswered
    | ShapeTold
    | Ticked
    | Prepared
    | PrepareFailed
    | Found
    | Submitted
    | CallFailed
    | Observed
    | Canceled
    | BackendFailed
)


# ---- instructions ----


@dataclass(frozen=True, slots=True)
class Prepare:
    """Write the node files; answer Prepared or PrepareFailed."""

    launch: Launch
    is_fresh: bool
    """No process can have read the files that lie there: write new ones."""


@dataclass(frozen=True, slots=True)
class Find:
    """Ask what an earlier submit brought about; answer Found or CallFailed."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class Submit:
    """Call the backend; answer Submitted or CallFailed."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class Observe:
    backend: str
    external_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    backend: str
    external_ids: tuple[str, ...]
    only_waiting: bool = False
    """Take them out of the queue; one that has started meanwhile goes on."""


@dataclass(frozen=True, slots=True)
class AskShape:
    """Ask what an allocation of the config offers; answer ShapeTold."""

    wanted: ShapeWanted


@dataclass(frozen=True, slots=True)
class Forget:
    """Node files of all other tags may go."""

    kept_tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should read in the log."""

    text: str
    facts: Mapping[str, str]
    is_warning: bool = True


Instruction = Prepare | Find | Submit | Observe | Cancel | AskShape | Forget | Note
