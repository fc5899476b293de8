"""The runner's side of its lease: what was sent when, and until when jobs may run.

The server counts a lease from when a request *arrives*; the runner counts it from when it *sent* the
request that was answered, so its own count always ends first. Jobs are killed a margin before that.
"""

from __future__ import annotations

from dataclasses import dataclass

from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS

_MARGIN_SHARE = 0.2
_MARGIN_MIN_SECONDS = 1.0
_MARGIN_MAX_SECONDS = 15.0
_SUSPENSION_SECONDS = 5.0
_PAUSE_FIRST_SECONDS = 0.1
_PAUSE_LONGEST_SECONDS = 5.0


def margin(lease_seconds: float) -> float:
    """Return how long before the lease's end the jobs are killed: time for KILL to take effect."""
    return min(_MARGIN_MAX_SECONDS, max(_MARGIN_MIN_SECONDS, _MARGIN_SHARE * lease_seconds))


@dataclass(slots=True)
class Lease:
    seconds: float
    until: float
    """On CLOCK_BOOTTIME."""

    def renew(self, sent_at: float, seconds: float) -> None:
        self.seconds = seconds
        self.until = sent_at + seconds

    @property
    def kill_at(self) -> float:
        return self.until - margin(self.seconds)

    @property
    def wait_seconds(self) -> float:
        """How long a request may wait for work: several renewals fit into a lease."""
        return min(MAXIMUM_WAIT_SECONDS, self.seconds / 4)

    def pause_after(self, failures: int, jitter: float) -> float:
        """Return how long to wait before the next try after so many failures in a row."""
        longest = min(_PAUSE_LONGEST_SECONDS, self.seconds / 8)
        pause: float = min(longest, _PAUSE_FIRST_SECONDS * 2 ** min(failures - 1, 10))
        return pause * (0.5 + 0.5 * jitter)


@dataclass(slots=True)
class Punctuality:
    """Notices that this process did not run for a while: suspended, stopped, or starved."""

    expected_at: float = float("inf")
    asleep: float | None = None

    def is_late(self, now: float, asleep: float, lease_seconds: float) -> bool:
        """Tell whether the world may have moved on without us since the last event."""
        slept = self.asleep is not None and asleep - self.asleep > _SUSPENSION_SECONDS
        self.asleep = asleep
        return slept or now - self.expected_at > lease_seconds / 4
