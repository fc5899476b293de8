"""How Slurm is asked: the one interface through which the backend does it, for there are several ways."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lading.schedulers.slurm.listing import Job, Partition
from lading.schedulers.slurm.script import Script


@dataclass(frozen=True, slots=True)
class Site:
    """What the cluster's configuration says."""

    cluster: str
    minimum_age_seconds: float
    """How long the controller remembers a job that ended."""
    largest_array: int
    version: str
    has_accounting: bool


@dataclass(frozen=True, slots=True)
class NodeSize:
    """What a node of the cluster has."""

    num_cpus: int
    memory_bytes: int


class Transport(Protocol):
    """Blocking calls, without pacing (`Queue` sees to that); from any thread.

    Jobs are named as people see them, `19` or `19_3`. Raises TransientError for weather, another
    BackendError for a refusal.
    """

    def description(self) -> str:
        """Say what it is, for people."""
        ...

    def site(self) -> Site:
        """Return what the cluster is like."""
        ...

    def partitions(self) -> Sequence[Partition]:
        """Return all partitions."""
        ...

    def node_sizes(self, partition: str) -> Sequence[NodeSize]:
        """Return the nodes of a partition, or of several with commas; of all for an empty text."""
        ...

    def jobs(self) -> Sequence[Job]:
        """Return all jobs of this user that the controller knows, ended ones too, each task by itself."""
        ...

    def records(self, numbers: Collection[str]) -> Sequence[Job]:
        """Return what the accounting knows of the jobs and arrays of these numbers."""
        ...

    def records_named(self, name: str) -> Sequence[Job]:
        """Return what the accounting knows of this user's jobs of that name."""
        ...

    def test(self, script: Script, config: Mapping[str, Any]) -> None:
        """Raise what Slurm would say of this script, submitting nothing."""
        ...

    def submit(self, script: Script, config: Mapping[str, Any], *, held: Sequence[int] = ()) -> str:
        """Submit a script; return the job's number.

        The descriptors `held` stay open as long as anything could still submit it. A TransientError may
        have submitted it all the same; any other error has not.
        """
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs and tasks; those that have ended, or never were, are no error."""
        ...

    def take_back(self, jobs: Sequence[str]) -> None:
        """Cancel those that wait; those that run, or have ended, stay as they are."""
        ...
