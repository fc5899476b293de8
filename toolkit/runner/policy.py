"""How a runner behaves: its modes, its patience, and what the configs say about both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lading.toolkit.runner.ending import GRACE_SECONDS

ONE_SIGNAL_SECONDS: Final = 1.0
"""Signals this close are one: a batch system signals guardian, runner and jobs alike."""
LEAVE_PATIENCE_SECONDS: Final = 120.0
OFFLINE_PATIENCE_SECONDS: Final = 600.0
GUARDIAN_RETRY_SECONDS: Final = 5.0
_BATCH_SYSTEM_GRACE_SECONDS: Final = 10.0
"""Slurm follows its TERM with KILL after KillWait, 30 s unless the site chose less: by then all has been told."""
_IDLE_SECONDS: Final = 60.0
_SHORTEST_IDLE_SECONDS: Final = 10.0

EXIT_LEFT: Final = 0
EXIT_FAILED: Final = 1
"""Fenced, without guardian, or not prepared."""
EXIT_UNREACHABLE: Final = 3


class Mode(StrEnum):
    PREPARING = "preparing"
    """The start-up script runs: the lease is renewed, nothing is claimed."""
    WORKING = "working"
    DRAINING = "draining"
    """Claims no more; leaves when its jobs have ended."""
    STOPPING = "stopping"
    """Ends its jobs, reports, leaves."""
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configs of the workflow and of its scheduler say about runners, and where this one is."""

    wait_for_new_jobs_seconds: float = 0.0
    idle_seconds: float | None = None
    """Without work a runner stays so long; None: a minute."""
    ignore_completion: bool = False
    memory_limit: str = "warn"
    """`off`, `warn` or `kill`."""
    on_suspend: str = "wait"
    """`wait` or `requeue`."""
    signal_grace_seconds: float = GRACE_SECONDS
    """Between TERM and KILL of the jobs when the runner itself is told by a signal to stop."""

    @property
    def idle_limit(self) -> float:
        idle = _IDLE_SECONDS if self.idle_seconds is None else self.idle_seconds
        # Never so short that the first claim could not come in time.
        return max(self.wait_for_new_jobs_seconds, idle, _SHORTEST_IDLE_SECONDS)


def policy_of(
    config: Mapping[str, Any], idle_seconds: float | None, environment: Mapping[str, str]
) -> Policy:
    """Read the workflow's config; `idle_seconds` is the scheduler config's."""
    in_slurm = "SLURM_JOB_ID" in environment
    return Policy(
        wait_for_new_jobs_seconds=float(config.get("compute_node_wait_for_new_jobs_seconds") or 0),
        idle_seconds=idle_seconds,
        ignore_completion=bool(config.get("compute_node_ignore_workflow_completion")),
        memory_limit=str(config.get("memory_limit_policy") or "warn"),
        on_suspend=str(config.get("on_suspend") or "wait"),
        signal_grace_seconds=_BATCH_SYSTEM_GRACE_SECONDS if in_slurm else GRACE_SECONDS,
    )
