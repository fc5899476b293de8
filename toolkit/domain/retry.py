"""Whether a job runs again after an attempt has ended, and whose budget that costs.

Budgets are kept apart by cause: what machines do to a job never uses up the retries that its author
granted for the job's own failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lading.toolkit.domain.states import USER_CAUSES, Cause, JobStatus

BUDGETS: Final = MappingProxyType(
    {
        Cause.NODE_LOST: 3,
        Cause.INFRASTRUCTURE: 3,
        Cause.PREEMPTED: 20,
        Cause.SPOT_INTERRUPTION: 20,
        Cause.ALLOCATION_ENDED: 20,
    }
)
"""How often a job is given back after an attempt that ended for that cause, within one run."""


@dataclass(frozen=True, slots=True)
class Again:
    """The job is ready for its next attempt."""

    message: str


@dataclass(frozen=True, slots=True)
class Over:
    """The job is over: this is its status and what its result says."""

    status: JobStatus
    return_code: int
    message: str = ""


def decide(
    cause: Cause,
    return_code: int,
    reported: JobStatus,
    earlier: Mapping[Cause, int],
    retries: int,
) -> Again | Over:
    """Judge an attempt that has ended.

    `earlier` counts the attempts of this run that ended before, by cause; `retries` is the author's.
    """
    if cause is Cause.CANCELED:
        return Over(JobStatus.CANCELED, return_code)
    if cause in USER_CAUSES:
        failures = sum(earlier.get(own, 0) for own in USER_CAUSES)
        if return_code != 0 and failures < retries:
            return Again(f"attempt failed ({cause.value}); {retries - failures - 1} retries left")
        return Over(reported, return_code)
    budget = BUDGETS[cause]
    if earlier.get(cause, 0) < budget:
        return Again(f"attempt ended: {cause.value}")
    return Over(
        JobStatus.TERMINATED,
        return_code if return_code != 0 else -9,
        f"given up after {budget + 1} attempts that ended with {cause.value}",
    )
