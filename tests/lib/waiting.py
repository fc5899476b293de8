"""Await conditions outside of our own process: a file, a row behind HTTP, the end of a process."""

from __future__ import annotations

import asyncio
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


async def until_true(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Do the same while the loop goes on, for what happens in this process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)  # between two looks, not instead of one
