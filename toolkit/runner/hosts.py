"""The nodes of a Slurm allocation: their names, and what makes srun and mpirun of a job keep to its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_STRIPPED_PREFIXES: Final = (
    "SLURM_STEP",
    "PMI",
    "SBATCH_",
    "SLURM_CPU_BIND",
    "SLURM_SRUN_",
    "SLURM_MEM_PER_",
)
_STRIPPED: Final = frozenset({
    "SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE", "SLURM_TRES_PER_TASK",
    "SLURM_DISTRIBUTION", "SLURM_HOSTFILE", "SLURM_EXCLUSIVE", "SLURM_EXACT", "SLURM_PROCID", "SLURM_LOCALID",
    "SLURM_GTIDS", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_TASK_PID",
})  # fmt: skip
# Slurm's numbers of the batch script and of salloc's shell, which are no step of several tasks.
_NO_STEPS: Final = frozenset({"4294967290", "4294967291"})


def hosts_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the nodes that this runner hands out, its own first; none outside of Slurm.

    A runner that was started as one task of a step has its own node only: the others have their runners.
    """
    own = environment.get("SLURMD_NODENAME")
    if "SLURM_JOB_ID" not in environment or not own:
        return ()
    if environment.get("SLURM_STEP_ID", "4294967291") not in _NO_STEPS:
        return (own,)
    return (own, *(name for name in allocation_of(environment) if name != own))


def allocation_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return all nodes of the allocation that we are in, in Slurm's order."""
    return tuple(expand(environment.get("SLURM_JOB_NODELIST", "")))


def expand(text: str) -> list[str]:
    """Expand a host list of Slurm, such as `n[01-03,7],login`."""
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", text):
        found = [""]
        for literal, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            found = [head + tail for head in found for tail in (_numbers(ranges) if ranges else [literal])]
        names += found
    return names


def _numbers(ranges: str) -> list[str]:
    numbers: list[str] = []
    for item in ranges.split(","):
        first, dash, last = item.partition("-")
        if dash:
            numbers += [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        else:
            numbers.append(first)
    return numbers


def is_of_the_step(name: str) -> bool:
    """Tell whether a variable describes the runner's own step or task, and would mislead a job's srun."""
    return name.startswith(_STRIPPED_PREFIXES) or name in _STRIPPED


def step_environment(hosts: Sequence[str], slots: int, hostfile: Path | None) -> dict[str, str]:
    """Return what makes srun and mpirun start on these nodes at once, beside the steps of other jobs.

    `slots`: tasks on each node. `hostfile` names the nodes where they are not all of the allocation.
    """
    names = ",".join(hosts)
    number = str(len(hosts))
    per_node = f"{slots}(x{number})" if len(hosts) > 1 else str(slots)
    environment = {
        "LADING_NUM_NODES": number,
        "LADING_NODE_LIST": names,
        # Without these a step waits until those that run have given their CPUs and memory back.
        "SLURM_OVERLAP": "1",
        "SLURM_MEM_PER_NODE": "0",
        "SLURM_NODELIST": names,
        "SLURM_JOB_NODELIST": names,
        "SLURM_NNODES": number,
        "SLURM_JOB_NUM_NODES": number,
        "SLURM_NTASKS": number,
        "SLURM_NPROCS": number,
        "SLURM_TASKS_PER_NODE": per_node,
        "SLURM_JOB_CPUS_PER_NODE": per_node,
        "SLURM_CPUS_ON_NODE": str(slots),
    }
    if hostfile is not None:
        # srun inside an allocation reads no node list from its environment, but this.
        environment["SLURM_HOSTFILE"] = str(hostfile)
    return environment


def write_hostfile(path: Path, hosts: Sequence[str], slots: int) -> None:
    """Write each node once for each of its slots, in turns: mpirun counts lines, srun takes the first."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("".join(f"{host}\n" for host in hosts) * slots)
