"""Which jobs a claim takes: in the order of torc's sort methods, priority first, greedily.

Jobs that ask for the same belong to one request class, so a claim walks classes, not jobs: the first
class in the order gives as many jobs as fit, then the next one sees what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lading.toolkit.errors import BadInput


class SortMethod(StrEnum):
    GPUS_RUNTIME_MEMORY = "gpus_runtime_memory"
    GPUS_MEMORY_RUNTIME = "gpus_memory_runtime"
    NONE = "none"


def parse_sort_method(text: str) -> SortMethod:
    """Read a sort method. Raises BadInput that names the accepted ones."""
    try:
        return SortMethod(text)
    except ValueError:
        accepted = ", ".join(method.value for method in SortMethod)
        raise BadInput(f"sort_method: {text!r} is not known; accepted: {accepted}.") from None


@dataclass(frozen=True, slots=True)
class RequestClass:
    """What equal jobs ask for, and how many of them may be claimed."""

    id: int
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int
    runtime_seconds: float
    scheduler_config_id: str
    priority: int
    count: int


@dataclass(frozen=True, slots=True)
class Whole:
    """What a node has when nothing runs on it, and how many further ones of its allocation are so."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int
    others: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node has left. Nodes and time limit a job but are not used up by it."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0
    num_nodes: int = 1
    time_limit_seconds: float | None = None
    scheduler_config_id: str = ""
    job_num_cpus: int | None = None
    """The most that one job may ask for, where more is offered than the node has: a runner of very
    short jobs claims some ahead and runs them one after the other. None: `num_cpus`."""
    job_memory_bytes: int | None = None
    whole: Whole | None = None
    """Set by our own runners: a job of several nodes takes them whole. None: torc's rule, by which
    `num_nodes` only limits."""

    @property
    def is_used_up(self) -> bool:
        others = 0 if self.whole is None else self.whole.others
        return (self.num_cpus <= 0 or self.memory_bytes <= 0) and others < 2

    @property
    def whole_nodes(self) -> int:
        """Return how many nodes nothing runs on; with torc's rule, how many there are."""
        if self.whole is None:
            return self.num_nodes
        left = (self.num_cpus, self.memory_bytes, self.num_gpus)
        is_idle = left == (self.whole.num_cpus, self.whole.memory_bytes, self.whole.num_gpus)
        return self.whole.others + is_idle

    def fitting(self, request: RequestClass) -> int:
        """Return how many jobs of a class fit into what is left."""
        if request.num_nodes > 1 and self.whole is not None:
            return self.whole_nodes // request.num_nodes
        bounds = [self.num_cpus // request.num_cpus] if request.num_cpus > 0 else []
        if request.memory_bytes > 0:
            bounds.append(self.memory_bytes // request.memory_bytes)
        if request.num_gpus > 0:
            bounds.append(self.num_gpus // request.num_gpus)
        return max(0, min(bounds, default=request.count))

    def without(self, request: RequestClass, number: int) -> Offer:
        """Return what is left after that many jobs of a class."""
        if request.num_nodes > 1 and self.whole is not None and number > 0:
            others = self.whole.others - number * request.num_nodes
            if others >= 0:
                return replace(self, whole=replace(self.whole, others=others))
            # The runner's own node comes last, for single-node jobs can have no other.
            whole = replace(self.whole, others=0)
            return replace(self, num_cpus=0, memory_bytes=0, num_gpus=0, whole=whole)
        return replace(
            self,
            num_cpus=self.num_cpus - number * request.num_cpus,
            memory_bytes=self.memory_bytes - number * request.memory_bytes,
            num_gpus=self.num_gpus - number * request.num_gpus,
        )


def refusals(request: RequestClass, offer: Offer) -> list[str]:
    """Say, as sentences, why a node with that offer may not run jobs of a class; none if it may."""
    if request.num_nodes > 1 and (whole := offer.whole) is not None:
        nodes = offer.whole_nodes
        if request.num_nodes > nodes:
            return [f"asks for {request.num_nodes} whole nodes, {nodes} of the allocation are free"]
        entire = replace(
            offer,
            num_cpus=whole.num_cpus,
            memory_bytes=whole.memory_bytes,
            num_gpus=whole.num_gpus,
            num_nodes=nodes,
            whole=None,
        )
        return refusals(request, entire)
    reasons = []
    cpus = offer.num_cpus if offer.job_num_cpus is None else min(offer.num_cpus, offer.job_num_cpus)
    memory = offer.memory_bytes
    if offer.job_memory_bytes is not None:
        memory = min(memory, offer.job_memory_bytes)
    if request.num_cpus > cpus:
        reasons.append(f"asks for {request.num_cpus} CPUs, {cpus} are free")
    if request.memory_bytes > memory:
        reasons.append(f"asks for {request.memory_bytes} bytes of memory, {memory} are free")
    if request.num_gpus > offer.num_gpus:
        reasons.append(f"asks for {request.num_gpus} GPUs, {offer.num_gpus} are free")
    if request.num_nodes > offer.num_nodes:
        reasons.append(f"asks for {request.num_nodes} nodes, the allocation has {offer.num_nodes}")
    limit = offer.time_limit_seconds
    if limit is not None and request.runtime_seconds > limit:
        reasons.append(f"may run {request.runtime_seconds:.0f} s, {limit:.0f} s are left")
    if request.scheduler_config_id not in ("", offer.scheduler_config_id):
        reasons.append(f"belongs to {request.scheduler_config_id}")
    return reasons


def groups_in_order(classes: Iterable[RequestClass], method: SortMethod) -> list[list[RequestClass]]:
    """Return classes in claim order; those that tie are one group, whose jobs come in storage order."""

    def rank(request: RequestClass) -> tuple[float, ...]:
        gpus, runtime, memory = -request.num_gpus, -request.runtime_seconds, -request.memory_bytes
        match method:
            case SortMethod.GPUS_RUNTIME_MEMORY:
                return (-request.priority, gpus, runtime, memory)
            case SortMethod.GPUS_MEMORY_RUNTIME:
                return (-request.priority, gpus, memory, runtime)
            case SortMethod.NONE:
                return (-request.priority,)

    groups: list[list[RequestClass]] = []
    last: tuple[float, ...] | None = None
    for request in sorted(classes, key=rank):
        if rank(request) != last:
            groups.append([])
            last = rank(request)
        groups[-1].append(request)
    return groups


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job in storage order, with its class."""

    id: int
    request: RequestClass


def pick(candidates: Sequence[Candidate], offer: Offer, limit: int) -> tuple[list[Candidate], Offer]:
    """Walk candidates once: take what still fits, pass over what does not, stop when nothing can."""
    taken: list[Candidate] = []
    for candidate in candidates:
        if len(taken) >= limit or offer.is_used_up:
            break
        if offer.fitting(candidate.request) > 0:
            taken.append(candidate)
            offer = offer.without(candidate.request, 1)
    return taken, offer
