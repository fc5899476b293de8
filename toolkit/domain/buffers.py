"""What an allocation has and jobs do not get: its last moments, and the memory of runner and guardian."""

from __future__ import annotations

from typing import Final

DEFAULT_BUFFER_SECONDS: Final = 120.0
_LARGEST_SHARE: Final = 0.25
RESERVED_BYTES: Final = 256 * 1024 * 1024
"""Kept for runner and guardian."""


def buffer_seconds(asked: float, whole: float) -> float:
    """Return the buffer of an allocation of `whole` seconds: what is asked for, at most a quarter.

    Else an allocation that is no longer than the buffer would never take a job.
    """
    return min(asked, max(0.0, whole) * _LARGEST_SHARE)


def memory_for_jobs(whole: int) -> int:
    """Return how many bytes of a node jobs get; a tiny one still has something to hand out."""
    return whole - min(RESERVED_BYTES, whole // 2)
