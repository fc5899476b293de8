"""`lading run` inside an allocation of Slurm: what was granted is used, and nothing is submitted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from lading.toolkit.cli.output import note
from lading.toolkit.domain.buffers import DEFAULT_BUFFER_SECONDS, buffer_seconds
from lading.toolkit.errors import LadingError
from lading.toolkit.runner.hardware import END_TIME_VARIABLE, Node, node_of, observe

_ASK_SECONDS: Final = 60.0
_AHEAD_SECONDS: Final = 10.0
"""Before the runner: one that left because of the time would be started again at once."""


def is_inside(environment: Mapping[str, str]) -> bool:
    """Tell a shell of salloc, a batch script or a step; a job of ours has its own share of a node."""
    return "SLURM_JOB_ID" in environment and "LADING_ALLOCATION" not in environment


def go_to_first_node(environment: Mapping[str, str]) -> None:
    """Start this very command again on the allocation's first node, if salloc left us on a login node.

    The new one takes this process's place, so that signals and the exit code are its own.
    """
    if "SLURMD_NODENAME" in environment:
        return
    # `8(x2),4`: of the first node. All of it in one step; the jobs' own steps may overlap it.
    cpus = environment.get("SLURM_JOB_CPUS_PER_NODE", "").partition(",")[0].partition("(")[0]
    options = ["--nodes=1", "--ntasks=1", "--overlap", "--mem=0", "--unbuffered", "--disable-status"]
    options += [f"--cpus-per-task={cpus}"] if cpus.isdigit() else []
    # Sizes of salloc that contradict the above would count for srun too; those of memory are all that
    # tells the runner how much it may hand out.
    kept = {name: value for name, value in environment.items() if name not in _SIZES}
    note(f"Running on the first node of Slurm job {environment['SLURM_JOB_ID']}.")
    try:
        os.execvpe("srun", ["srun", *options, *sys.orig_argv], kept)  # noqa: S606 - found as the site has it
    except OSError as error:
        raise LadingError(
            f"This is an allocation of Slurm, and srun cannot be started here: {error.strerror}."
        ) from error


_SIZES: Final = frozenset(
    {"SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_CPUS_PER_TASK",
     "SLURM_TRES_PER_TASK"}
)  # fmt: skip


def granted_node(environment: Mapping[str, str]) -> Node:
    """Return what this node gives to the allocation; say it when there are others, which stay idle."""
    nodes = environment.get("SLURM_JOB_NUM_NODES", "1")
    if nodes != "1":
        note(
            f"Warning: the allocation has {nodes} nodes, and `lading run` uses only this one "
            f"({environment.get('SLURMD_NODENAME')}). For all of them: `lading serve` and a Slurm config."
        )
    return node_of(observe(), environment)


def learn_end(environment: Mapping[str, str]) -> float | None:
    """Return when the allocation ends, in seconds since the epoch; runners started from here know it too.

    Newer versions of Slurm say it in a variable, older ones are asked once.
    """
    told = environment.get(END_TIME_VARIABLE, "")
    if not told.isdigit():
        told = _ask_end(environment["SLURM_JOB_ID"])
        if not told:
            return None
        os.environ[END_TIME_VARIABLE] = told
    return float(told)


def limits_of(environment: Mapping[str, str], cpus: int | None, memory: int | None) -> tuple[int, int]:
    """Return the CPUs and bytes to use here: what was given on the command line, at most what was granted."""
    granted = granted_node(environment)
    return (
        granted.num_cpus if cpus is None else min(cpus, granted.num_cpus),
        granted.memory_bytes if memory is None else min(memory, granted.memory_bytes),
    )


def stop_at(end: float | None, document: Mapping[str, Any]) -> float | None:
    """Return when a run has to begin to stop so that all is told before the allocation ends."""
    if end is None:
        return None
    buffer = document.get("config", {}).get("compute_node_expiration_buffer_seconds")
    seconds = DEFAULT_BUFFER_SECONDS if buffer is None else float(buffer)
    now = time.time()
    return max(now, end - buffer_seconds(seconds, end - now) - _AHEAD_SECONDS)


def use_only_this_node(document: dict[str, Any]) -> None:
    """Let a workflow that names other schedulers run here: its jobs are bound to no config any more."""
    schedulers = document.get("schedulers", {})
    gone = [name for name in ("slurm_schedulers", "aws_schedulers") if schedulers.pop(name, None)]
    for job in document.get("jobs", ()):
        job.pop("schedule_compute_nodes", None)
        if str(job.get("scheduler") or "").partition("/")[0] in gone:
            del job["scheduler"]
    if gone:
        note(f"Inside an allocation nothing is submitted: {' and '.join(gone)} of the file are not used.")


def _ask_end(job: str) -> str:
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%e"]
    told = os.environ | {"SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}
    try:
        outcome = subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False, env=told
        )
        return str(int(datetime.fromisoformat(outcome.stdout.strip()).timestamp()))
    except (OSError, subprocess.SubprocessError, ValueError):
        # No squeue on nodes, or no limit ("NONE"): Slurm's TERM still ends the run in order.
        return ""
