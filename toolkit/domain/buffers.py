"""How long before the end of an allocation its runner stops."""

from __future__ import annotations

from typing import Final

DEFAULT_BUFFER_SECONDS: Final = 120.0
_LARGEST_SHARE: Final = 0.25


def buffer_seconds(asked: float, whole: float) -> float:
    """Return the buffer of an allocation of `whole` seconds: what is asked for, at most a quarter.

    Else an allocation that is no longer than the buffer would never take a job.
    """
    return min(asked, max(0.0, whole) * _LARGEST_SHARE)
