"""When and why a runner leaves, and what keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from lading.toolkit.runner.policy import LEAVE_PATIENCE_SECONDS, Mode, Policy


@dataclass(slots=True)
class Departure:
    reason: str = ""
    is_final: bool = True
    """Nobody ended this runner, so its batch system will not start the allocation again."""
    is_urgent: bool = False
    since: float | None = None
    """When it began to leave; None: it stays."""
    idle_since: float | None = None

    @property
    def has_begun(self) -> bool:
        return self.since is not None

    def stay(self) -> None:
        """Forget idleness and leave: there is work, or may be."""
        self.idle_since = self.since = None

    def begins(self, now: float, mode: Mode, policy: Policy, *, is_over: bool) -> bool:
        """Tell whether a runner without work begins to leave now."""
        self.idle_since = now if self.idle_since is None else self.idle_since
        if self.has_begun:
            return False
        if mode is Mode.WORKING:
            if is_over and not policy.ignore_completion:
                self.reason = "the workflow is over"
            elif now - self.idle_since >= policy.idle_limit:
                self.reason = f"nothing to do for {policy.idle_limit:g} s"
            else:
                return False
        self.since = now
        return True

    def next_moment(self, policy: Policy) -> float:
        """Return when idleness alone makes it leave; infinity when it is not idle or leaves already."""
        if self.idle_since is None or self.has_begun:
            return float("inf")
        return self.idle_since + policy.idle_limit

    def has_waited_enough(self, now: float) -> bool:
        since = now if self.since is None else self.since
        return self.is_urgent or now - since > LEAVE_PATIENCE_SECONDS


@dataclass(slots=True)
class ScriptOffer:
    """The workflow's completion script, which one of its nodes runs before it leaves."""

    due: int | None = None
    """The run whose script nobody has claimed yet, as the last answer says."""
    asked: int | None = None
    """The run whose script we have tried to claim since it was offered."""
    runs: bool = False

    def told(self, due: int | None) -> None:
        self.due = due
        if due is None:
            # Somebody has it. If that node dies the script is offered again, and then we ask again.
            self.asked = None

    def take(self) -> bool:
        """Tell whether it is to be claimed now: once each time it is offered."""
        if self.due is None or self.due == self.asked or self.runs:
            return False
        self.asked, self.runs = self.due, True
        return True
