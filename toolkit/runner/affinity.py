"""Which CPUs a job is bound to: consecutive groups that never span two NUMA nodes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from lading.toolkit.errors import BadInput

_NODES: Final = Path("/sys/devices/system/node")
_OPTION: Final = "--cpu-affinity-cpus-per-job"


def numa_nodes(folder: Path = _NODES, allowed: Collection[int] | None = None) -> list[tuple[int, ...]]:
    """Return the CPUs of each NUMA node that this process may use; one node where none is described."""
    usable = set(os.sched_getaffinity(0) if allowed is None else allowed)
    numbered = []
    for path in folder.glob("node[0-9]*/cpulist"):
        try:
            cpus = parse_cpu_list(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            # Memory without CPUs, or a kernel that tells nothing: its CPUs are looked for below.
            continue
        numbered.append((int(re.sub(r"\D", "", path.parent.name)), cpus))
    nodes = [tuple(sorted(set(cpus) & usable)) for _, cpus in sorted(numbered)]
    rest = usable.difference(*nodes)
    return [node for node in [*nodes, tuple(sorted(rest))] if node]


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Read the kernel's `0-3,8,10-11`. Raises ValueError for anything else."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        cpus += range(int(first), int(last) + 1) if dash else [int(first)]
    return tuple(cpus)


def cpu_groups(
    size: int, nodes: Sequence[Sequence[int]], *, num_cpus: int | None = None
) -> tuple[tuple[int, ...], ...]:
    """Cut each NUMA node's CPUs into consecutive groups of `size`; what is left over stays idle.

    `num_cpus` is how many CPUs all groups together may have. Raises BadInput where no group fits.
    """
    groups = [
        tuple(node[start : start + size]) for node in nodes for start in range(0, len(node) - size + 1, size)
    ]
    if not groups:
        largest = max((len(node) for node in nodes), default=0)
        raise BadInput(
            f"{_OPTION}: {size} CPUs for each job were asked for, and the largest NUMA node that can be used "
            f"here has {largest}; accepted is 1 to {largest}."
        )
    most = len(groups) if num_cpus is None else num_cpus // size
    if most == 0:
        raise BadInput(
            f"{_OPTION}: {size} CPUs for each job were asked for, and only {num_cpus} CPUs can be used here; "
            f"accepted is 1 to {num_cpus}."
        )
    return tuple(groups[:most])
