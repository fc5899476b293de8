"""The moment before a batch system stops all processes of the node, and the one after it lets them go on.

Slurm's `scontrol suspend` sends TSTP, STOP two seconds later, CONT at the end. Between the first two the
runner says that it is about to sleep: once the server has answered, the node's lease stands still, so that
no job of a stopped process is given to others. What did not arrive in time is safe too: the guardian ends
the jobs as soon as it wakes behind the lease's end, and late reports are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LONGEST_WARNING_SECONDS: Final = 10.0
"""A warning after which nothing stopped us for so long was none."""


@dataclass(slots=True)
class Suspension:
    warned_at: float | None = None
    is_granted: bool = False
    """The server has answered: until it hears of us again, our lease stands still."""

    @property
    def is_near(self) -> bool:
        return self.warned_at is not None

    @property
    def ends_at(self) -> float:
        """Return when the warning is over by itself; infinity when there is none."""
        return float("inf") if self.warned_at is None else self.warned_at + _LONGEST_WARNING_SECONDS

    def warn(self, now: float) -> None:
        self.warned_at = now if self.warned_at is None else self.warned_at

    def end(self, now: float) -> tuple[float, bool]:
        """Return (seconds that no process ran, whether the lease stood still); there is no warning any more."""
        slept = 0.0 if self.warned_at is None else now - self.warned_at
        granted = self.is_granted
        self.warned_at, self.is_granted = None, False
        return slept, granted
