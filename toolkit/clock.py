"""The clocks, in one place, so that a test can pass another.

Durations are measured on a clock that also runs while the machine is suspended: a runner that was
asleep for its whole lease must know it. Wall-clock time is for people and for documents only.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def boottime(self) -> float:
        """Seconds on CLOCK_BOOTTIME: never goes back, counts suspended time."""
        ...

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC: never goes back, stands still while suspended."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        ...


class SystemClock:
    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def to_milliseconds(wall: float) -> int:
    """Return a wall-clock time as the integer milliseconds that documents carry."""
    return int(wall * 1000)


def iso_utc(wall: float) -> str:
    """Return `2024-05-02T10:11:12.500Z` for a wall-clock time in seconds."""
    stamp = datetime.fromtimestamp(wall, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03d}Z"
