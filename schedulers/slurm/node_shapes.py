"""What a node of a config offers: as the config says, else as the smallest node of its partition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lading.schedulers.slurm.sizing import NodeShape
from lading.schedulers.slurm.transport import Transport
from lading.toolkit.errors import BadInput

_UNITS: Final = {"K": 2**10, "": 2**20, "M": 2**20, "G": 2**30, "T": 2**40}
_GPU: Final = re.compile(r"\bgpu(?::[^:,()]+)?:(\d+)")


def shape_of_config(
    transport: Transport,
    config: Mapping[str, Any],
    *,
    cpus: int | None = None,
    memory_bytes: int | None = None,
) -> NodeShape:
    """Return the shape; Slurm is asked only for what neither caller nor config says."""
    stated = _stated_cpus(config)
    cpus = cpus or stated
    memory_bytes = memory_bytes or memory_of(config.get("mem"))
    if not cpus or not memory_bytes:
        smallest = _smallest(transport, config)
        cpus = cpus or smallest.num_cpus
        memory_bytes = memory_bytes or smallest.memory_bytes
    return NodeShape(cpus, memory_bytes, gpus_of(config))


def memory_of(text: str | None) -> int | None:
    """Return the bytes of sbatch's `--mem`; None for nothing and for 0, which is all of a node."""
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)B?\s*", str(text or ""), re.IGNORECASE)
    if match is None:
        return None
    return int(match.group(1)) * _UNITS[match.group(2).upper()] or None


def gpus_of(config: Mapping[str, Any]) -> int:
    """Return the GPUs of a node by `gpus`, else by `gres`."""
    if config.get("gpus"):
        return int(config["gpus"])
    return sum(int(number) for number in _GPU.findall(str(config.get("gres") or "")))


def _stated_cpus(config: Mapping[str, Any]) -> int | None:
    if config.get("exclusive") or not (config.get("cpus") or config.get("ntasks_per_node")):
        return None
    return int(config.get("cpus") or 1) * int(config.get("ntasks_per_node") or 1)


def _smallest(transport: Transport, config: Mapping[str, Any]) -> NodeShape:
    sizes = transport.node_sizes(str(config.get("partition") or ""))
    if not sizes:
        raise BadInput("cpus: Slurm lists no node of this config's partition; give --cpus and --memory-gib.")
    # By the smallest: a recommendation for larger nodes would be too few on the others.
    return NodeShape(min(size.num_cpus for size in sizes), min(size.memory_bytes for size in sizes))
