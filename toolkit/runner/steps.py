"""The steps of a job of several nodes, which srun starts on them: none is left when its end is reported.

Standard library only, as all that the guardian may need.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lading.toolkit.runner.hosts import expand

if TYPE_CHECKING:
    from lading.toolkit.wire.extensions import Ended

_COMMAND_SECONDS: Final = 15.0
_CLEARING_SECONDS: Final = 360.0
"""Slurm lists the steps of a dead node until it gives the node up: by default after 300 s of silence."""
_PAUSE_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Cleared:
    """What has become of a job's nodes."""

    lost: tuple[str, ...] = ()
    """Slurm has taken them out of the allocation, which `--no-kill` lets live on."""
    stuck: tuple[str, ...] = ()
    """On them steps do not end, or may not have ended."""
    failure: str = ""


def clear_steps(hosts: Sequence[str], job: str, seconds: float = _CLEARING_SECONDS) -> Cleared:
    """End what still runs in steps on these nodes; return which of them nobody may have next.

    A killed srun leaves its tasks on other nodes alone. The nodes are one job's own, so every step is its.
    """
    give_up_at = time.monotonic() + seconds
    wanted = set(hosts)
    while True:
        try:
            steps = _steps(wanted, job)
            if not steps:
                # Asked last: a step that is gone because its node died must not be taken for one that ended.
                return Cleared(lost=_lost(hosts, job))
        except (OSError, subprocess.SubprocessError) as error:
            failure, stuck = f"Slurm was not reached: {error}", wanted
        else:
            failure = f"steps {', '.join(steps)} do not end"
            stuck = {node for nodes in steps.values() for node in nodes}
            # Slow when a step hangs, and silent about it: whether it helped is seen in the next list.
            with suppress(OSError, subprocess.SubprocessError):
                _call("scancel", "--signal=KILL", *steps)
        if time.monotonic() > give_up_at:
            return Cleared(stuck=tuple(host for host in hosts if host in stuck), failure=failure)
        time.sleep(_PAUSE_SECONDS)


def _steps(wanted: set[str], job: str) -> dict[str, set[str]]:
    """Return the steps on these nodes that srun has started, each with those of the nodes that it is on."""
    lines = _call("squeue", "--steps", "--noheader", f"--jobs={job}", "--format=%i %N").splitlines()
    listed = [line.strip().partition(" ") for line in lines]
    steps = {step: wanted.intersection(expand(nodes)) for step, _, nodes in listed if _is_numbered(step)}
    return {step: nodes for step, nodes in steps.items() if nodes}


def clear_attempts(
    hosts: Mapping[str, Sequence[str]], pids: Mapping[str, tuple[int, float]]
) -> dict[str, int]:
    """End the steps of attempts, by their nodes; return those whose steps may live, with their process ids."""
    job = os.environ.get("SLURM_JOB_ID", "")
    failed = {attempt for attempt, nodes in hosts.items() if clear_steps(nodes, job).failure}
    return {attempt: pids.get(attempt, (0, 0.0))[0] for attempt in failed}


def _lost(hosts: Sequence[str], job: str) -> tuple[str, ...]:
    state, _, nodes = _call("squeue", "--noheader", f"--jobs={job}", "--format=%T %N").strip().partition(" ")
    # Of an allocation that ends Slurm lists the nodes that are not yet clean: nothing is lost there.
    left = set(expand(nodes)) if state == "RUNNING" else set(hosts)
    return tuple(host for host in hosts if host not in left)


def note_cleared(ended: Ended, cleared: Cleared) -> None:
    """Put on record what clearing found: a job that failed with a node of its own did not fail by itself."""
    if cleared.lost and ended.cause in {"exit", "signal"} and ended.return_code != 0:
        ended.cause, ended.status = "node_lost", "terminated"
        names = ", ".join(cleared.lost)
        ended.message = f"Slurm lost {names}, which the job had. {ended.message}".strip()
    if cleared.failure:
        ended.message = f"{ended.message} It may have left processes: {cleared.failure}.".strip()


def _is_numbered(step: str) -> bool:
    """Tell a step that srun started from the batch script and Slurm's own."""
    return step.rpartition(".")[2].isdigit()


def _call(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True
    ).stdout
