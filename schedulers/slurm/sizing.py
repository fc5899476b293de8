"""How many nodes the ready jobs need, with the reasons: arithmetic that a person can follow. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from lading.toolkit.errors import BadInput


@dataclass(frozen=True, slots=True)
class Work:
    """What the ready jobs ask for together."""

    num_jobs: int
    num_cpus: int
    num_gpus: int
    memory_bytes: int
    longest_seconds: float
    """The longest run time that one of them may have."""
    most_nodes: int = 1
    """The most nodes that one of them needs at once."""
    whole_nodes: int = 0
    """Nodes that jobs of several nodes have for themselves, all together."""
    most_cpus: int = 0
    """That one of them needs on each of its nodes; so, too, GPUs and memory."""
    most_gpus: int = 0
    most_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What a node of the config offers; 0 GPUs: none."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0


@dataclass(frozen=True, slots=True)
class Bound:
    """The nodes that one resource asks for, and why."""

    resource: str
    nodes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    nodes: int
    allocations: int
    rounds: int
    """How often in a row an allocation runs jobs of the longest kind."""
    why_rounds: str
    bounds: tuple[Bound, ...]


def recommend(
    work: Work,
    shape: NodeShape,
    walltime_seconds: float,
    nodes_per_allocation: int,
    *,
    reserve_seconds: float = 0.0,
) -> Recommendation:
    """Return the fewest nodes that do all the work within one wall time. Raises BadInput when none can.

    The reserve is the end of the wall time in which runners run nothing any more.
    """
    usable = walltime_seconds - reserve_seconds
    offered_time = f"{walltime_seconds:g} s of wall time"
    if reserve_seconds:
        offered_time += f" less {reserve_seconds:g} s for its end (compute_node_expiration_buffer_seconds)"
    if usable <= 0 or work.longest_seconds > usable:
        raise BadInput(
            f"walltime: {offered_time} is too short: a ready job may run {work.longest_seconds:g} s."
        )
    _check_fit(work, shape)
    # Rounded down: a round that does not fit whole is none.
    rounds = max(1, int(usable // max(work.longest_seconds, 1.0)))
    why_rounds = f"{offered_time}, and the longest job may take {work.longest_seconds:g} s"
    asked = (
        ("cpus", work.num_cpus, shape.num_cpus),
        ("memory", work.memory_bytes, shape.memory_bytes),
        ("gpus", work.num_gpus, shape.num_gpus),
    )
    bounds = []
    for resource, wanted, offered in asked:
        if not wanted:
            continue
        if not offered:
            raise BadInput(f"{resource}: ready jobs ask for {wanted}, a node of this config offers none.")
        nodes = ceil(wanted / (offered * rounds))
        bounds.append(Bound(resource, nodes, _reason(resource, wanted, offered, rounds)))
    if work.most_nodes > 1:
        nodes = ceil(work.whole_nodes / rounds)
        reason = f"{work.whole_nodes} whole nodes asked by jobs of several / {counted(rounds, 'round')}"
        if work.most_nodes > nodes:
            nodes, reason = work.most_nodes, f"one job needs {work.most_nodes} nodes at once"
        bounds.append(Bound("nodes", nodes, reason))
    if work.most_nodes > nodes_per_allocation:
        raise BadInput(
            f"nodes: a ready job needs {work.most_nodes} nodes at once, an allocation of this config has "
            f"{nodes_per_allocation}."
        )
    nodes = max((bound.nodes for bound in bounds), default=0)
    return Recommendation(nodes, ceil(nodes / nodes_per_allocation), rounds, why_rounds, tuple(bounds))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _reason(resource: str, wanted: int, offered: int, rounds: int) -> str:
    asked, on_a_node = f"{wanted}", f"{offered}"
    if resource == "memory":
        asked, on_a_node = (f"{size / 2**30:.3g} GiB" for size in (wanted, offered))
    return f"{asked} asked / ({on_a_node} on a node × {counted(rounds, 'round')})"


def _check_fit(work: Work, shape: NodeShape) -> None:
    """Refuse what no number of nodes can do: a job does not run on two halves of what it needs."""
    for field, asked, offered, unit in (
        ("num_cpus", work.most_cpus, shape.num_cpus, ""),
        ("num_gpus", work.most_gpus, shape.num_gpus, ""),
        ("memory", work.most_memory_bytes / 2**30, shape.memory_bytes / 2**30, " GiB"),
    ):
        if asked > offered:
            raise BadInput(
                f"{field}: a ready job asks for {asked:.3g}{unit}, and a node has {offered:.3g}{unit}: no number of "
                "nodes can run it. Change the job's requirements, or take a config with larger nodes."
            )
