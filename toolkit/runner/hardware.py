"""What this node gives to jobs: CPUs, memory, GPUs, as its batch system and its kernel allow."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lading.toolkit.domain.buffers import buffer_seconds, memory_for_jobs

END_TIME_VARIABLE = "SLURM_JOB_END_TIME"
"""Seconds since the epoch; from Slurm, or from `lading run`, which asked."""
_MEBIBYTE = 1024 * 1024
_VENDOR_TOOL_SECONDS = 10.0
_UNLIMITED_ABOVE = 1 << 60


@dataclass(frozen=True, slots=True)
class Machine:
    """What was observed; `Node` is what follows from it."""

    num_cpus_present: int
    num_cpus_allowed: int
    """In the affinity mask."""
    memory_bytes: int
    cpu_quota: float | None = None
    """CPUs that the control group may use at a time."""
    memory_limit_bytes: int | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    num_cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]
    gpu_variable: str = "CUDA_VISIBLE_DEVICES"
    cpu_groups: tuple[tuple[int, ...], ...] = ()
    """What jobs are bound to; `num_cpus` counts the groups then."""


def observe() -> Machine:
    """Look at the machine we are on."""
    quota, limit = control_group_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return Machine(
        num_cpus_present=os.cpu_count() or 1,
        num_cpus_allowed=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpu_quota=quota,
        memory_limit_bytes=limit,
        gpus=nvidia_gpus(),
    )


def node_of(machine: Machine, environment: Mapping[str, str]) -> Node:
    """Return what jobs may use, by the rules of the batch system if we are inside one."""
    in_slurm = "SLURM_JOB_ID" in environment
    cpus = _slurm_cpus(machine, environment) if in_slurm else _plain_cpus(machine)
    memory = _slurm_memory(cpus, environment) if in_slurm else None
    if memory is None:
        memory = min(machine.memory_bytes, machine.memory_limit_bytes or machine.memory_bytes)
    gpus, variable = _gpus(machine, environment)
    return Node(cpus, memory_for_jobs(memory), gpus, variable)


def seconds_left(environment: Mapping[str, str], now: float, buffer: float) -> float | None:
    """Return how long the allocation around us gives us, less the buffer; None when nobody says."""
    end = _number(environment.get(END_TIME_VARIABLE))
    return None if end is None else max(0.0, end - now - buffer_seconds(buffer, end - now))


def _plain_cpus(machine: Machine) -> int:
    cpus = machine.num_cpus_allowed
    if machine.cpu_quota is not None:
        cpus = min(cpus, int(machine.cpu_quota))
    return max(1, cpus)


def _slurm_cpus(machine: Machine, environment: Mapping[str, str]) -> int:
    granted = _number(environment.get("SLURM_CPUS_ON_NODE"))
    if granted is None:
        return _plain_cpus(machine)
    # A mask as wide as the machine says that Slurm does not bind; a narrower one is what we really have.
    if machine.num_cpus_allowed < machine.num_cpus_present:
        granted = min(granted, machine.num_cpus_allowed)
    return max(1, granted)


def _slurm_memory(cpus: int, environment: Mapping[str, str]) -> int | None:
    per_node = _number(environment.get("SLURM_MEM_PER_NODE"))
    if per_node:  # 0 stands for all of the node
        return per_node * _MEBIBYTE
    per_cpu = _number(environment.get("SLURM_MEM_PER_CPU"))
    return per_cpu * cpus * _MEBIBYTE if per_cpu else None


def _gpus(machine: Machine, environment: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    for variable in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if variable in environment:
            entries = (entry.strip() for entry in environment[variable].split(","))
            # As the vendor's libraries read it: an entry that is none ends the list.
            return tuple(entry for entry in entries if entry and entry not in {"-1", "NoDevFiles"}), variable
    return machine.gpus, "CUDA_VISIBLE_DEVICES"


def nvidia_gpus() -> tuple[str, ...]:
    """Return the indexes that nvidia-smi lists; none when it is absent or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_VENDOR_TOOL_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in result.stdout.splitlines() if line.strip().isdigit())


def control_group_limits(root: Path, membership: Path) -> tuple[float | None, int | None]:
    """Return (CPUs, bytes) that our control groups allow, version 1 or 2; None where unlimited.

    Every ancestor counts: a limit on the container binds the group inside it.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None, None
    quotas: list[float] = []
    limits: list[int] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for mount in (root, root / "unified"):
                for folder in _ancestors(mount, path):
                    quotas += _quota_v2(folder)
                    limits += _limit(folder / "memory.max")
            continue
        names = controllers.split(",")
        if "cpu" in names:
            for folder in _ancestors(_mount_v1(root, controllers, "cpu"), path):
                quotas += _quota_v1(folder)
        if "memory" in names:
            for folder in _ancestors(_mount_v1(root, controllers, "memory"), path):
                limits += _limit(folder / "memory.limit_in_bytes")
    return min(quotas, default=None), min(limits, default=None)


def _mount_v1(root: Path, controllers: str, name: str) -> Path:
    joint = root / controllers
    return joint if joint.is_dir() else root / name


def _ancestors(mount: Path, path: str) -> list[Path]:
    folder = mount / path.lstrip("/")
    # Inside a container the path may be the host's, which is not mounted here: the root is ours then.
    return [one for one in (folder, *folder.parents) if one.is_relative_to(mount) and one.is_dir()]


def _quota_v2(folder: Path) -> list[float]:
    words = _read(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and int(words[1] or 0):
        return [int(words[0]) / int(words[1])]
    return []


def _quota_v1(folder: Path) -> list[float]:
    quota = _number(_read(folder / "cpu.cfs_quota_us"))
    period = _number(_read(folder / "cpu.cfs_period_us"))
    return [quota / period] if quota and period else []


def _limit(path: Path) -> list[int]:
    value = _number(_read(path))
    return [value] if value and value < _UNLIMITED_ABOVE else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
