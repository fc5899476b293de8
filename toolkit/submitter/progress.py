"""How far this process has brought one launch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from lading.toolkit.backends import Allocation
from lading.toolkit.wire.submissions import Launch, LaunchReport


class Phase(Enum):
    """The steps of a launch, in their order."""

    NEW = auto()
    PREPARING = auto()
    BEGINNING = auto()
    """`begun` is to be reported, or is on its way."""
    READY = auto()
    """The server knows that the backend may have been called: so it may be."""
    CALLING = auto()
    SETTLED = auto()
    """`submitted` or `failed` is reported until the server stops listing the launch."""


@dataclass(slots=True)
class Progress:
    """A launch that the server wants, and what was done for it."""

    launch: Launch
    maybe_called: bool
    """Some process may have called `submit`: ask first."""
    phase: Phase = Phase.NEW
    not_before: float = 0.0
    failures: int = 0
    error: str = ""
    """Of the last one."""
    awaits_room: bool = False
    is_too_many: bool = False
    """There was no room for all of it; a part may fit."""
    outcome: LaunchReport | None = None
    is_disowned: bool = False
    """The lease was lost during a call: its outcome is for the next holder to find."""


def is_newest(progress: Progress, listed: Iterable[Progress]) -> bool:
    """Tell whether no other of the launches, the oldest first, is a later one of the same config."""
    config = (progress.launch.workflow, progress.launch.config_id)
    *_, newest = (one for one in listed if (one.launch.workflow, one.launch.config_id) == config)
    return newest is progress


def in_order(allocations: Sequence[Allocation], count: int) -> list[str] | None:
    """Return the external ids in the order of the rows; None unless there is one for each row."""
    by_index = {allocation.index: allocation.external_id for allocation in allocations}
    if sorted(by_index) != list(range(count)):
        return None
    return [by_index[index] for index in range(count)]
