"""How many allocations to ask for, and why no more: ready work against open allocations.

Pure arithmetic. The caller passes what is stored, in the order in which configs are to be used, and
gets plans (what to launch) and reasons (sentences a person can act on).

The estimate is a lower bound: it assumes perfect packing, so it never asks for an allocation that could
not be filled. Open allocations count whole, whether they are pending, active or busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Final

from lading.toolkit.domain.values import format_duration, format_memory

_ROUNDING: Final = 1e-9
"""Sums of thirds are a little over a whole number."""


@dataclass(frozen=True, slots=True)
class WorkClass:
    """Jobs with equal requests. CPUs, memory and GPUs are per node."""

    count: int
    """Jobs that could be claimed now."""
    num_cpus: int = 1
    memory_bytes: int = 0
    num_gpus: int = 0
    num_nodes: int = 1
    runtime_seconds: float = 0.0
    scheduler_config_id: str | None = None
    """The only config whose nodes may run them; None for any."""
    running: int = 0
    """Jobs of the class that hold resources of the open allocations now."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one allocation offers: `num_nodes` equal nodes."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0
    num_nodes: int = 1
    time_limit_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse with ValueError what no allocation offers: it may come from outside."""
        if min(self.num_cpus, self.num_nodes, self.memory_bytes) < 1 or self.num_gpus < 0:
            raise ValueError(
                f"an allocation offers at least 1 CPU, 1 byte and 1 node, not {self.num_cpus} CPUs, "
                f"{self.memory_bytes} bytes, {self.num_gpus} GPUs and {self.num_nodes} nodes"
            )
        if self.time_limit_seconds is not None and not self.time_limit_seconds > 0:
            raise ValueError(f"a time limit is more than 0 s, not {self.time_limit_seconds} s")


class Sizing(StrEnum):
    """How much planning knows of what an allocation of a config offers."""

    SETTLED = "settled"
    """All that anybody will say: the shape, or that there is none."""
    AWAITED = "awaited"
    """The backend is being asked: nothing is launched for a moment."""
    UNKNOWN = "unknown"
    """The backend has not said for too long: one allocation at a time, a sure lower bound."""


@dataclass(frozen=True, slots=True)
class ConfigView:
    """A scheduler config, as planning sees it.

    An empty `id` stands for nodes that people started by hand: they take work and are never launched.
    """

    id: str
    kind: str
    shape: Shape | None = None
    """None while nobody knows what a node of it offers."""
    max_allocations: int | None = None
    """None: no automatic sizing."""
    min_allocations: int = 0
    paused: str = ""
    """Why nothing is launched from it."""
    sizing: Sizing = Sizing.SETTLED


@dataclass(frozen=True, slots=True)
class OpenCount:
    """Open allocations of a config, those of launches that are only written included."""

    total: int = 0
    active: int = 0


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    config_id: str
    count: int


def plan(
    demand: Sequence[WorkClass],
    configs: Sequence[ConfigView],
    open_allocations: Mapping[str, OpenCount],
) -> list[LaunchPlan]:
    """Return what to launch so that all ready work runs at once, within each config's maximum."""
    if not any(work.count for work in demand):
        return []
    tables = _assign(demand, configs, open_allocations)
    plans = []
    for table in tables:
        config = table.config
        if config.max_allocations is None or config.paused or not config.id or not table.is_wanted:
            continue
        wanted = min(max(table.needed(), config.min_allocations), config.max_allocations)
        if config.sizing is Sizing.AWAITED:
            continue
        if config.sizing is Sizing.UNKNOWN:
            wanted = min(wanted, max(1, config.min_allocations))
        count = wanted - table.open.total
        if count > 0:
            plans.append(LaunchPlan(config.id, count))
    return plans


def explain(
    demand: Sequence[WorkClass],
    configs: Sequence[ConfigView],
    open_allocations: Mapping[str, OpenCount],
) -> list[str]:
    """Say why ready jobs wait, one sentence for each reason; empty when nothing holds them up."""
    reasons: dict[str, int] = {}
    for work in demand:
        if work.count:
            reason = _why_waiting(work, configs, open_allocations)
            if reason:
                reasons[reason] = reasons.get(reason, 0) + work.count
    return [f"{_jobs(count)} {reason}" for reason, count in reasons.items()]


def per_allocation(work: WorkClass, shape: Shape) -> int:
    """Return how many jobs of a class one allocation runs at once; 0 when not even one fits."""
    if shape.time_limit_seconds is not None and work.runtime_seconds > shape.time_limit_seconds:
        return 0
    asked = (work.num_cpus, work.memory_bytes, work.num_gpus)
    offered = (shape.num_cpus, shape.memory_bytes, shape.num_gpus)
    counts = [have // want for want, have in zip(asked, offered, strict=True) if want > 0]
    # A job that asks for nothing still is one process; one per CPU is the sensible bound.
    fitting = min(counts, default=max(1, shape.num_cpus))
    return fitting * (shape.num_nodes // max(1, work.num_nodes))


@dataclass(slots=True)
class _Table:
    """The work that was given to one config."""

    config: ConfigView
    open: OpenCount
    work: list[tuple[WorkClass, int]] = field(default_factory=list)
    is_wanted: bool = False

    def fits(self, work: WorkClass) -> int:
        """Return how many of the class run at once in an allocation; one when its shape is unknown."""
        return 1 if self.config.shape is None else per_allocation(work, self.config.shape)

    def load(self) -> float:
        """Return the allocations that the work fills when classes do not share one: an upper estimate."""
        return sum(count / self.fits(work) for work, count in self.work)

    def room(self, work: WorkClass, allocations: int) -> int:
        """Return how many more of a class run at once when that many allocations are open."""
        return max(0, int((allocations - self.load()) * self.fits(work) + _ROUNDING))

    def needed(self) -> int:
        """Return the fewest allocations that could run the work at once."""
        if not self.work:
            return 0
        bounds = [ceil(count / self.fits(work) - _ROUNDING) for work, count in self.work]
        shape = self.config.shape
        if shape is None:
            return sum(bounds)
        shares = [
            (shape.num_cpus, sum(count * work.num_nodes * work.num_cpus for work, count in self.work)),
            (
                shape.memory_bytes,
                sum(count * work.num_nodes * work.memory_bytes for work, count in self.work),
            ),
            (shape.num_gpus, sum(count * work.num_nodes * work.num_gpus for work, count in self.work)),
        ]
        bounds += [
            ceil(asked / (offered * shape.num_nodes)) for offered, asked in shares if asked and offered
        ]
        return max(bounds)

    def take(self, work: WorkClass, count: int) -> None:
        if count > 0:
            self.work.append((work, count))


def _assign(
    demand: Sequence[WorkClass],
    configs: Sequence[ConfigView],
    open_allocations: Mapping[str, OpenCount],
) -> list[_Table]:
    """Give each class to configs: first the room of what is open, then what may still be launched."""
    tables = [_Table(config, open_allocations.get(config.id, OpenCount())) for config in configs]
    # Work that only one config may run is placed first; the rest fills what is left.
    for work in sorted(demand, key=lambda work: work.scheduler_config_id is None):
        usable = [table for table in tables if _may_run(table.config, work) and table.fits(work)]
        left = work.count + work.running
        for table in usable:
            table.is_wanted = True
            taken = min(left, table.room(work, table.open.total))
            table.take(work, taken)
            left -= taken
        for table in usable:
            config = table.config
            if config.max_allocations is None or config.paused or not config.id:
                continue
            # Classes may share an allocation, so the last config takes what its maximum seems to forbid.
            is_last = table is usable[-1] or work.scheduler_config_id is not None
            taken = left if is_last else min(left, table.room(work, config.max_allocations))
            table.take(work, taken)
            left -= taken
    return tables


def _may_run(config: ConfigView, work: WorkClass) -> bool:
    return work.scheduler_config_id is None or work.scheduler_config_id == config.id


def _why_waiting(
    work: WorkClass, configs: Sequence[ConfigView], open_allocations: Mapping[str, OpenCount]
) -> str:
    wanted = work.scheduler_config_id
    allowed = [config for config in configs if _may_run(config, work)]
    if not allowed:
        if wanted is not None:
            return f"ready for {wanted}, which does not exist: give the jobs a scheduler that does."
        return "ready and the workflow has no scheduler config: add one, or run `lading node run`."
    fitting = [config for config in allowed if config.shape is None or per_allocation(work, config.shape) > 0]
    if not fitting:
        return _too_large(work, allowed)
    counts = [open_allocations.get(config.id, OpenCount()) for config in fitting]
    if any(count.active for count in counts):
        return ""
    pending = sum(count.total for count in counts)
    if pending:
        names = _names([c for c, count in zip(fitting, counts, strict=True) if count.total])
        return f"ready, waiting for {_allocations(pending)} of {names} to start."
    launchable = [config for config in fitting if config.id]
    automatic = [config for config in launchable if config.max_allocations is not None]
    paused = [config for config in (automatic or launchable) if config.paused]
    if paused and len(paused) == len(automatic or launchable):
        why = "; ".join(f"{config.id} is paused: {config.paused}" for config in paused)
        return f"ready and no allocation will come: {why}"
    if automatic:
        if all(config.max_allocations == 0 for config in automatic):
            return f"ready and no allocation will come: {_names(automatic)} has max_allocations 0."
        awaited = [config for config in automatic if config.sizing is Sizing.AWAITED]
        if awaited:
            return f"ready; the batch system is asked what an allocation of {_names(awaited)} offers."
        return ""
    return (
        f"ready and no allocation will come: {_names(launchable) or 'the workflow'} has no"
        " max_allocations; run `lading node run`, or set max_allocations."
    )


def _too_large(work: WorkClass, configs: Sequence[ConfigView]) -> str:
    """Name the first request that no config can satisfy, with the most that one offers."""
    shapes = [(config.shape, config.id or "a node") for config in configs if config.shape is not None]
    largest = [
        (work.num_cpus, f"{work.num_cpus} CPUs", [(s.num_cpus, f"{s.num_cpus}", n) for s, n in shapes]),
        (
            work.memory_bytes,
            f"{format_memory(work.memory_bytes)} of memory",
            [(s.memory_bytes, format_memory(s.memory_bytes), n) for s, n in shapes],
        ),
        (work.num_gpus, f"{work.num_gpus} GPUs", [(s.num_gpus, f"{s.num_gpus}", n) for s, n in shapes]),
        (work.num_nodes, f"{work.num_nodes} nodes", [(s.num_nodes, f"{s.num_nodes}", n) for s, n in shapes]),
    ]
    for asked, text, offers in largest:
        most, most_text, name = max(offers)
        if asked > most:
            return (
                f"ready and too large: each asks for {text}, the largest config ({name}) offers {most_text}."
            )
    limits = [(s.time_limit_seconds, n) for s, n in shapes if s.time_limit_seconds is not None]
    longest = max(limits, default=None)
    if longest is not None and len(limits) == len(shapes) and work.runtime_seconds > longest[0]:
        return (
            f"ready and too long: each asks for {format_duration(work.runtime_seconds)}, the longest"
            f" allocation ({longest[1]}) lasts {format_duration(longest[0])}."
        )
    return (
        "ready and fit no config: no single one offers all of the CPUs, memory, GPUs, nodes and time asked."
    )


def _names(configs: Sequence[ConfigView]) -> str:
    return ", ".join(config.id for config in configs if config.id)


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"


def _allocations(count: int) -> str:
    return "1 allocation" if count == 1 else f"{count} allocations"
