"""How many allocations to ask for, and which to take back: ready work against open allocations. Pure.

The estimate is a lower bound: it assumes perfect packing, so it never asks for an allocation that could
not be filled. Jobs with a stated run time are counted by how many fit one after the other before an
allocation ends; all others have an allocation's room for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from lading.toolkit.domain.demand import (
    ConfigView,
    OpenCount,
    Shape,
    Sizing,
    WorkClass,
    at_once,
    may_run,
    per_allocation,
    rounds,
)

_ROUNDING: Final = 1e-9
"""Sums of thirds are a little over a whole number."""
_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """What planning wants of one config."""

    config_id: str
    demand: int = 0
    """Ready jobs that its allocations could run."""
    wanted: int = 0
    """Open allocations that are enough."""
    launch: int = 0
    surplus: int = 0
    """Of those that wait: more than are needed, and not fewer than the minimum without them."""


def plan(
    demand: Sequence[WorkClass],
    configs: Sequence[ConfigView],
    open_allocations: Mapping[str, OpenCount],
) -> list[ConfigPlan]:
    """Return for each config how many allocations do all ready work, within its minimum and maximum."""
    return [_plan_of(table) for table in _assign(demand, configs, open_allocations)]


def _plan_of(table: _Table) -> ConfigPlan:
    config, opened = table.config, table.open
    present = opened.active + opened.waiting
    # Once there, the minimum stays, also between two stages of a workflow.
    least = config.min_allocations if table.demand or present else 0
    wanted = max(opened.active + table.needed(), least)
    if config.max_allocations is not None:
        wanted = min(wanted, config.max_allocations)
    if config.sizing is not Sizing.SETTLED:
        # Nobody knows yet how many are too many: none is taken back, and at most the first one comes.
        wanted = min(wanted, max(1, least, present))
    launch = 0
    if table.demand and config.is_launchable and config.sizing is not Sizing.AWAITED:
        launch = max(0, min(wanted - present, (config.max_allocations or 0) - opened.total))
    surplus = 0
    if config.sizing is Sizing.SETTLED:
        surplus = max(0, min(opened.returnable, present - wanted))
    return ConfigPlan(config.id, table.demand, wanted, launch, surplus)


@dataclass(slots=True)
class _Table:
    """The work that was given to one config."""

    config: ConfigView
    open: OpenCount
    demand: int = 0
    used: float = 0.0
    """Share of its active allocations that is given away."""
    work: list[tuple[WorkClass, int]] = field(default_factory=list)
    """What is to be done by those that wait, and by new ones."""

    def fits(self, work: WorkClass) -> int:
        """Return how many of the class one allocation does."""
        return per_allocation(work, self.config)

    def take_running(self, work: WorkClass, count: int) -> int:
        """Note jobs that run in active allocations; return how many of them found room there."""
        shape = self.config.shape
        slots = self.open.active * (1 if shape is None else at_once(work, shape))
        taken = min(count, int((1.0 - self.used) * slots + _ROUNDING))
        if taken > 0:
            self.used += taken / slots
        return max(0, taken)

    def take_active(self, work: WorkClass, count: int) -> int:
        """Give jobs to what active allocations have left; return how many found room."""
        capacity = self._active_capacity(work)
        taken = min(count, int((1.0 - self.used) * capacity + _ROUNDING))
        if taken > 0:
            self.used += taken / capacity
        return max(0, taken)

    def _active_capacity(self, work: WorkClass) -> int:
        shape = self.config.shape
        if shape is None:
            return self.open.active
        ending = self.open.seconds_left[: self.open.active]
        turns = sum(rounds(work, seconds) for seconds in ending)
        turns += (self.open.active - len(ending)) * rounds(work, self.config.seconds)
        return at_once(work, shape) * turns

    def room(self, work: WorkClass, allocations: int) -> int:
        """Return how many more of a class so many allocations do."""
        load = sum(count / self.fits(other) for other, count in self.work)
        return max(0, int((allocations - load) * self.fits(work) + _ROUNDING))

    def take(self, work: WorkClass, count: int) -> None:
        if count > 0:
            self.work.append((work, count))

    def needed(self) -> int:
        """Return the fewest allocations that could do the work that active ones have no room for."""
        if not self.work:
            return 0
        bounds = [ceil(count / self.fits(work) - _ROUNDING) for work, count in self.work]
        shape = self.config.shape
        if shape is None:
            return sum(bounds)
        for offered, asked in (
            (shape.num_cpus, [work.num_cpus for work, _ in self.work]),
            (shape.memory_bytes, [work.memory_bytes for work, _ in self.work]),
            (shape.num_gpus, [work.num_gpus for work, _ in self.work]),
        ):
            if offered:
                bounds.append(ceil(self._share(shape, offered, asked) - _ROUNDING))
        return max(bounds)

    def _share(self, shape: Shape, offered: int, asked: Sequence[int]) -> float:
        """Return how many allocations one resource is used up of, if nothing is wasted."""
        total = 0.0
        for (work, count), amount in zip(self.work, asked, strict=True):
            # A job of several nodes takes them whole, whatever it asks for on each.
            per_job = work.num_nodes * offered if work.num_nodes > 1 else amount
            total += count * per_job / rounds(work, self.config.seconds)
        return total / (offered * shape.num_nodes)


def _assign(
    demand: Sequence[WorkClass],
    configs: Sequence[ConfigView],
    open_allocations: Mapping[str, OpenCount],
) -> list[_Table]:
    """Give each class to configs: first the room of what is open, then what may still be launched."""
    tables = [_Table(config, open_allocations.get(config.id, OpenCount())) for config in configs]
    # Work that only one config may run is placed first; the rest fills what is left.
    ordered = sorted(demand, key=lambda work: work.scheduler_config_id is None)
    for work in ordered:
        running = work.running
        for table in tables:
            if may_run(table.config, work):
                running -= table.take_running(work, running)
    for work in ordered:
        usable = [table for table in tables if may_run(table.config, work) and table.fits(work)]
        left = work.count
        for table in usable:
            table.demand += work.count
            left -= table.take_active(work, left)
        for table in usable:
            taken = min(left, table.room(work, table.open.waiting))
            table.take(work, taken)
            left -= taken
        launchable = [table for table in usable if table.config.is_launchable]
        for table in launchable:
            # Classes may share an allocation, so the last config takes what its maximum seems to forbid.
            room = table.room(work, (table.config.max_allocations or 0) - table.open.active)
            taken = left if table is launchable[-1] else min(left, room)
            table.take(work, taken)
            left -= taken
    return tables


def pause_seconds(setbacks: int) -> float:
    """Return how long to wait after so many allocations in a row that were of no use."""
    return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(setbacks - 1, 30))
