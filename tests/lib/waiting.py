"""Await conditions outside of our own process: a file, a row behind HTTP, the end of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float, what: str, *, pause: float = 0.02) -> T:
    """Return the condition's first true value; fail with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)  # between two looks, not instead of one
    return value
