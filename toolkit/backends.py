"""What a scheduler backend is: the Protocol, its requests and observations, how it is found.

A backend turns a scheduler config into allocations. A site adds its own (PBS, LSF) by shipping a
class under the entry-point group `lading.schedulers`; the name of the entry point is the `kind` that
configs of `<kind>_schedulers` use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lading.toolkit.domain.demand import Shape
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import BadInput

ENTRY_POINT_GROUP = "lading.schedulers"


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One call that asks for `len(node_files)` equal allocations."""

    tag: str
    """Names this launch for ever: the same tag never yields a second set of allocations."""
    config: Mapping[str, Any]
    """The scheduler document."""
    node_files: Sequence[Path]
    """One 0600 file per allocation row: where the server is, and the right to register there."""
    output_directory: Path
    working_directory: Path
    state_directory: Path
    """0700 folder for the backend's own records of this launch."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a backend made of one row."""

    external_id: str
    index: int
    """Which row of the launch, from 0."""


class ObservedState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """The backend did not say; never a proof of an end."""


@dataclass(frozen=True, slots=True)
class Observation:
    external_id: str
    state: ObservedState
    reason: str = ""
    proof_of_death: bool = False
    cause: Cause | None = None
    earlier_causes: Sequence[Cause | None] = ()
    """Of an allocation that its batch system started again: what ended each copy before this one, the first
    one's first; None where that is not known or is nothing to be put right."""
    end_seconds: float | None = None
    """Until the batch system ends it."""
    cannot_start: bool = False
    """It is pending, and will be until somebody changes it or a limit."""


@dataclass(frozen=True, slots=True)
class Availability:
    available: bool
    reason: str = ""
    """Why not, or what was found."""
    is_weather: bool = False
    """It does not answer now and may do so in a moment: nobody gives it up for that."""


@runtime_checkable
class Backend(Protocol):
    """Blocking calls: the submitter makes them in a thread. Errors are `BackendError`s."""

    kind: str

    def probe(self) -> Availability:
        """Say whether this backend can be used here, and why not."""
        ...

    def submit(self, request: LaunchRequest) -> Sequence[Allocation]:
        """Ask for the allocations. Idempotent by tag: a repeated call returns the first one's."""
        ...

    def observe(self, external_ids: Sequence[str]) -> Sequence[Observation]:
        """Return the state of all in one call to the batch system."""
        ...

    def cancel(self, external_ids: Sequence[str]) -> None:
        """End them; ids that have ended already are no error."""
        ...

    def find(self, request: LaunchRequest) -> Sequence[Allocation]:
        """Return what an earlier `submit` with this tag brought about, or nothing."""
        ...

    def render(self, request: LaunchRequest) -> str:
        """Return the script or user data that would be submitted, for people to read."""
        ...

    def log_files(self, external_id: str, output_directory: Path) -> Sequence[Path]:
        """Return where the output of an allocation itself is, its standard error second if apart."""
        ...


@runtime_checkable
class TellsShape(Protocol):
    """A backend that also knows what an allocation offers, so that planning can count with it."""

    def shape(self, config: Mapping[str, Any]) -> Shape | None:
        """Return what one allocation of the config offers; None when nobody can know."""
        ...


@runtime_checkable
class TakesBack(Protocol):
    """A backend with a queue, out of which it takes what has not started and nothing else."""

    def take_back(self, external_ids: Sequence[str]) -> None:
        """End those of them that wait; one that has started meanwhile goes on."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """A program that lives on from job to job of a batch system: each job asks for the next."""

    name: str
    """Of all its jobs; while one of them runs the next one waits."""
    config: Mapping[str, Any]
    """The scheduler document that says how they are asked for."""
    command: Sequence[str]
    working_directory: Path
    log: Path


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """One job of a service that waits or runs."""

    number: str
    is_waiting: bool
    reason: str = ""
    """Why it waits."""


@runtime_checkable
class KeepsServices(Protocol):
    """A backend in whose jobs a service can live."""

    def check_service(self, service: Service) -> None:
        """Raise a BackendError for what the batch system would never start."""
        ...

    def submit_service(self, service: Service) -> str:
        """Ask for one more job of the service, which waits for those before it; return its number."""
        ...

    def service_jobs(self, name: str) -> Sequence[ServiceJob]:
        """Return the jobs of that name which wait or run."""
        ...

    def cancel_service(self, name: str, *, only_waiting: bool = False) -> None:
        """End the jobs of that name; that there are none is no error."""
        ...

    def own_address(self) -> str:
        """Return the address of this machine by which the others of the batch system reach it."""
        ...


def installed_kinds() -> list[str]:
    """Name the backends that are installed."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))


def load_backend(kind: str) -> Backend:
    """Make the backend of that kind. Raises BadInput when none is installed."""
    for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
        backend = point.load()()
        if not isinstance(backend, Backend):
            raise BadInput(f"The entry point {kind!r} of {ENTRY_POINT_GROUP} is not a scheduler backend.")
        return backend
    known = ", ".join(installed_kinds()) or "none"
    raise BadInput(f"No scheduler backend {kind!r} is installed; installed: {known}.")
