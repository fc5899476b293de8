"""Kindness to batch systems: how often to call, when to stop calling, how long to wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_FAILURES_UNTIL_OPEN: Final = 5
_FIRST_OPEN_SECONDS: Final = 10.0
_LONGEST_OPEN_SECONDS: Final = 300.0


def backoff(failures: int, draw: float, *, first: float = 1.0, longest: float = 60.0) -> float:
    """Return the seconds before the next try, at least `first`; `draw` is random in [0, 1)."""
    ceiling = min(longest, first * 2.0 ** min(failures - 1, 30))
    return max(first, ceiling * (0.5 + 0.5 * draw))


@dataclass(slots=True)
class Breaker:
    """Opens after five errors in a row; then lets one call through at a time until one succeeds."""

    failures: int = 0
    open_until: float | None = None
    is_trying: bool = False

    def ready_at(self) -> float | None:
        """Return when a call may be made; None while the one trial is on its way."""
        if self.open_until is None:
            return 0.0
        return None if self.is_trying else self.open_until

    def begin(self) -> None:
        """Note that a call is made."""
        self.is_trying = self.open_until is not None

    def succeed(self) -> bool:
        """Note an answer, also one that refuses; True when this closed the breaker."""
        was_open = self.open_until is not None
        self.failures, self.open_until, self.is_trying = 0, None, False
        return was_open

    def fail(self, now: float, draw: float) -> float | None:
        """Note an error; return for how many seconds the breaker is open, None while it is closed."""
        self.failures += 1
        self.is_trying = False
        if self.failures < _FAILURES_UNTIL_OPEN:
            return None
        seconds = backoff(
            self.failures - _FAILURES_UNTIL_OPEN + 1,
            draw,
            first=_FIRST_OPEN_SECONDS,
            longest=_LONGEST_OPEN_SECONDS,
        )
        self.open_until = now + seconds
        return seconds


@dataclass(slots=True)
class TokenBucket:
    """So many calls a minute, in bursts up to a minute's worth."""

    per_minute: float
    tokens: float = field(init=False)
    updated: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.per_minute

    def ready_at(self, now: float) -> float:
        """Return when one call may be made."""
        self._refill(now)
        return now if self.tokens >= 1.0 else now + (1.0 - self.tokens) * 60.0 / self.per_minute

    def take(self, now: float) -> None:
        """Use up one call."""
        self._refill(now)
        self.tokens -= 1.0

    def _refill(self, now: float) -> None:
        gained = max(0.0, now - self.updated) * self.per_minute / 60.0
        # The tolerance keeps a wait for exactly one token from ending a rounding error too early.
        self.tokens = min(self.per_minute, self.tokens + gained + 1e-9)
        self.updated = now
