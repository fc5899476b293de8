"""The open allocations: when to look at them, what to cancel, what is worth a report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from lading.toolkit.backends import Observation, ObservedState
from lading.toolkit.submitter.messages import BackendFailed, Cancel, Instruction, Observe, Observed
from lading.toolkit.wire.submissions import AllocationReport, OpenAllocation

_CANCEL_AGAIN_SECONDS: Final = 5.0
_REPORTED: Final[Mapping[ObservedState, Literal["pending", "active", "suspended", "ended"]]] = {
    ObservedState.PENDING: "pending",
    ObservedState.ACTIVE: "active",
    ObservedState.SUSPENDED: "suspended",
    ObservedState.ENDED: "ended",
}


class AllocationWatch:
    """What the server lists as open, and what backends said of it."""

    def __init__(self, intervals: Mapping[str, float]) -> None:
        self._intervals = intervals
        self._rows: dict[str, OpenAllocation] = {}
        self._observe_at: dict[str, float] = {}
        self._cancel_at: dict[str, float] = {}
        self._observing: set[str] = set()
        self._canceling: set[str] = set()
        self._last_said: dict[str, tuple[str, str, Sequence[str | None]]] = {}
        self._reports: dict[str, AllocationReport] = {}

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def reports(self) -> list[AllocationReport]:
        """Return all that no answered sync has carried yet."""
        return list(self._reports.values())

    def clear(self) -> None:
        """Forget everything but the calls that run: the lease is lost."""
        self._rows.clear()
        self._reports.clear()
        self._last_said.clear()
        self._cancel_at.clear()

    def synced(self, reported: Sequence[AllocationReport], rows: Sequence[OpenAllocation]) -> None:
        """Take in an answer: what was reported is acknowledged, the rows are the whole truth."""
        for report in reported:
            if self._reports.get(report.allocation) is report:
                del self._reports[report.allocation]
        self._rows = {row.allocation: row for row in rows if row.backend in self._intervals}
        for memory in (self._last_said, self._reports, self._cancel_at):
            for key in [key for key in memory if key not in self._rows]:
                del memory[key]

    def due(self, backend: str) -> float | None:
        """Return when there is something to do for a backend."""
        times = []
        if self._launched(backend) and backend not in self._observing:
            times.append(self._observe_at.get(backend, 0.0))
        if backend not in self._canceling:
            times += [self._cancel_at.get(row.allocation, 0.0) for row in self._to_end(backend)]
        return min(times, default=None)

    def work(self, backend: str, now: float) -> list[Instruction]:
        """Return the look and the cancellation that are due: at most one call of each at a time."""
        instructions: list[Instruction] = []
        instructions += self._end(backend, now)
        rows = self._launched(backend)
        if rows and backend not in self._observing and now >= self._observe_at.get(backend, 0.0):
            self._observing.add(backend)
            instructions.append(Observe(backend, tuple(row.external_id for row in rows)))
        return instructions

    def _end(self, backend: str, now: float) -> list[Instruction]:
        """Return one call: for those that are to end whatever they do, else for those that only wait."""
        if backend in self._canceling:
            return []
        due = [row for row in self._to_end(backend) if now >= self._cancel_at.get(row.allocation, 0.0)]
        doomed = [row for row in due if row.cancel]
        chosen = doomed or due
        if not chosen:
            return []
        self._canceling.add(backend)
        for row in chosen:
            self._cancel_at[row.allocation] = now + max(_CANCEL_AGAIN_SECONDS, self._intervals[backend])
        ids = tuple(row.external_id for row in chosen)
        return [Cancel(backend, ids, only_waiting=not doomed)]

    def observed(self, event: Observed) -> bool:
        """Take in what a backend said; True when an allocation has ended, so that there may be room."""
        self._observing.discard(event.backend)
        self._observe_at[event.backend] = event.now + self._intervals[event.backend]
        by_id = {observation.external_id: observation for observation in event.observations}
        has_ended = False
        for row in self._launched(event.backend):
            observation = by_id.get(row.external_id)
            report = None if observation is None else _report(row, observation)
            if report is None:
                continue
            said = (report.state, report.reason, report.earlier_causes)
            # An end is repeated as long as the server lists the row: nothing else would close it.
            if report.state == "ended" or self._last_said.get(row.allocation, (row.state, "", [])) != said:
                self._reports[row.allocation] = report
                self._last_said[row.allocation] = said
            has_ended = has_ended or report.state == "ended"
        return has_ended

    def canceled(self, backend: str) -> None:
        """Note that a cancellation was delivered; look soon at what became of it."""
        self._canceling.discard(backend)

    def failed(self, event: BackendFailed) -> None:
        """Note that a call raised; the next one comes at its usual time."""
        if event.call == "observe":
            self._observing.discard(event.backend)
            self._observe_at[event.backend] = event.now + self._intervals[event.backend]
        else:
            self._canceling.discard(event.backend)

    def _launched(self, backend: str) -> list[OpenAllocation]:
        return [row for row in self._rows.values() if row.backend == backend and row.external_id]

    def _to_end(self, backend: str) -> list[OpenAllocation]:
        return [row for row in self._launched(backend) if row.cancel or row.take_back]


def _report(row: OpenAllocation, observation: Observation) -> AllocationReport | None:
    """Return what to tell the server; None when the backend told nothing."""
    state = _REPORTED.get(observation.state)
    if state is None:
        # Not a state of an allocation: the row keeps its own, and people see why.
        if not observation.reason:
            return None
        kept: Literal["active", "pending"] = "active" if row.state == "active" else "pending"
        return AllocationReport(
            allocation=row.allocation,
            state=kept,
            external_id=row.external_id,
            reason=observation.reason,
            is_observed=False,
        )
    return AllocationReport(
        allocation=row.allocation,
        state=state,
        external_id=row.external_id,
        reason=observation.reason,
        proof_of_death=observation.proof_of_death,
        cause=None if observation.cause is None else observation.cause.value,
        earlier_causes=[None if cause is None else cause.value for cause in observation.earlier_causes],
        end_seconds=observation.end_seconds,
        cannot_start=observation.cannot_start,
    )
