"""What ready jobs ask for, and what the allocations of a config offer them.

Values only; `planning` says how many allocations to ask for, `waiting` why no more come. Pure: the caller
passes what is stored, in the order in which configs are to be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lading.toolkit.domain.buffers import buffer_seconds
from lading.toolkit.domain.values import format_memory, format_walltime

UNSTATED_RUNTIME_SECONDS: Final = 60.0
"""The run time of jobs whose author named none; torc's default."""


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
    """The longest that one may run."""
    scheduler_config_id: str | None = None
    """The only config whose nodes may run them; None for any."""
    running: int = 0
    """Jobs of the class that hold resources of the open allocations now."""

    @property
    def is_time_stated(self) -> bool:
        """Tell whether planning may count with the run time: nobody means it who did not name it."""
        return self.runtime_seconds > 0 and self.runtime_seconds != UNSTATED_RUNTIME_SECONDS


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
    """A scheduler config, as planning sees it."""

    id: str
    kind: str
    shape: Shape | None = None
    """None while nobody knows what an allocation of it offers."""
    max_allocations: int | None = None
    """None: no automatic sizing."""
    min_allocations: int = 0
    paused: str = ""
    """Why nothing is launched from it."""
    sizing: Sizing = Sizing.SETTLED
    name: str = ""
    """As people call it."""
    buffer_seconds: float = 0.0
    """Before the end of an allocation, when its runner stops, as the workflow asks."""
    retry_at: str = ""
    """ISO 8601: nothing is launched before, because of `setback`."""
    setback: str = ""

    @property
    def label(self) -> str:
        return self.name or self.id

    @property
    def seconds(self) -> float | None:
        """Return how long jobs may run in a new allocation; None when nothing ends it."""
        if self.shape is None or self.shape.time_limit_seconds is None:
            return None
        return max(0.0, self.shape.time_limit_seconds - self.reserve_seconds)

    @property
    def reserve_seconds(self) -> float:
        """Return how long before the end of a new allocation its runner stops."""
        limit = None if self.shape is None else self.shape.time_limit_seconds
        return 0.0 if limit is None else buffer_seconds(self.buffer_seconds, limit)

    @property
    def is_launchable(self) -> bool:
        """Tell whether allocations of it may be asked for now, without a person's word."""
        return bool(self.max_allocations and not self.paused and not self.retry_at)


@dataclass(frozen=True, slots=True)
class OpenCount:
    """Open allocations of a config, those of launches that are only written included."""

    total: int = 0
    active: int = 0
    leaving: int = 0
    """Those that take no jobs any more: taken back, canceled or draining, and not gone yet. Not active."""
    returnable: int = 0
    """Of those that wait: came by themselves, and can be taken out of the queue."""
    seconds_left: tuple[float, ...] = ()
    """How long jobs may run in active ones that end; the others have no known end."""
    reasons: tuple[str, ...] = ()
    """Why those that wait do so, each once."""

    @property
    def waiting(self) -> int:
        """Return how many will start some time."""
        return max(0, self.total - self.active - self.leaving)


def at_once(work: WorkClass, shape: Shape) -> int:
    """Return how many jobs of a class one allocation runs at once, whatever its time; 0 when none fits."""
    asked = (work.num_cpus, work.memory_bytes, work.num_gpus)
    offered = (shape.num_cpus, shape.memory_bytes, shape.num_gpus)
    counts = [have // want for want, have in zip(asked, offered, strict=True) if want > 0]
    # A job that asks for nothing still is one process; one per CPU is the sensible bound.
    on_a_node = min(counts, default=max(1, shape.num_cpus))
    if work.num_nodes > 1:
        # It takes its nodes whole.
        return min(on_a_node, 1) * (shape.num_nodes // work.num_nodes)
    return on_a_node * shape.num_nodes


def rounds(work: WorkClass, seconds: float | None) -> int:
    """Return how many jobs of a class fit one after the other into so many seconds."""
    if seconds is None:
        return 1
    if work.runtime_seconds > seconds:
        return 0
    return int(seconds // work.runtime_seconds) if work.is_time_stated else 1


def per_allocation(work: WorkClass, config: ConfigView) -> int:
    """Return how many jobs of a class a new allocation does before it ends; 0 when not even one fits."""
    if config.shape is None:
        return 1
    return at_once(work, config.shape) * rounds(work, config.seconds)


def lacks(work: WorkClass, config: ConfigView) -> list[str]:
    """Name what a job of a class asks for beyond what an allocation of a config offers: both, by field."""
    shape = config.shape
    if shape is None:
        return []
    found = [
        f"{field} {show(asked)} asked, {show(offered)} offered"
        for field, asked, offered, show in (
            ("num_cpus", work.num_cpus, shape.num_cpus, str),
            ("memory", work.memory_bytes, shape.memory_bytes, format_memory),
            ("num_gpus", work.num_gpus, shape.num_gpus, str),
            ("num_nodes", work.num_nodes, shape.num_nodes, str),
        )
        if asked > offered
    ]
    seconds = config.seconds
    if seconds is not None and work.runtime_seconds > seconds:
        offered_text = format_walltime(int(seconds))
        if config.reserve_seconds:
            offered_text += f" (the wall time less {config.reserve_seconds:g} s for its end)"
        found.append(f"runtime {format_walltime(int(work.runtime_seconds))} asked, {offered_text} offered")
    return found


def may_run(config: ConfigView, work: WorkClass) -> bool:
    """Tell whether nodes of a config may run jobs of a class at all."""
    return work.scheduler_config_id is None or work.scheduler_config_id == config.id
