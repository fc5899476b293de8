"""The submitter's decisions, without I/O: what the server wants, against what backends say.

One rule carries the promise "a tag is launched at most once", whoever is killed when: a backend is
called only after the server has stored that the call may be made (`begun`, answered). From then on,
until the outcome is stored, every process that meets the launch asks `find` before it calls again.

`handle(event)` is the only door. What is to be reported is kept until a sync that carried it was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from lading.toolkit.submitter.limits import Breaker, TokenBucket, backoff
from lading.toolkit.submitter.messages import (
    BackendFailed,
    CallFailed,
    Canceled,
    Event,
    FailureKind,
    Find,
    Forget,
    Found,
    Instruction,
    Note,
    Observed,
    Prepare,
    Prepared,
    PrepareFailed,
    ShapeTold,
    Submit,
    Submitted,
    SyncAnswered,
    Ticked,
)
from lading.toolkit.submitter.progress import Phase, Progress, in_order, is_newest
from lading.toolkit.submitter.shapes import ConfigShapes
from lading.toolkit.submitter.watch import AllocationWatch
from lading.toolkit.wire.submissions import Launch, LaunchReport, SubmitterSyncRequest

_REPEAT_SECONDS: Final = 5.0
"""Before a report that the server acknowledged without effect is made again."""
_CAPACITY_FIRST_SECONDS: Final = 5.0
_CAPACITY_LONGEST_SECONDS: Final = 300.0


@dataclass(slots=True)
class SubmitterState:
    """All that one submitter process knows."""

    holder: str
    observe_intervals: Mapping[str, float]
    """Usable backend -> seconds between two looks at its allocations."""
    draw: Callable[[], float]
    """Random in [0, 1): jitter."""
    per_minute: float = 60.0
    site: str = ""
    shape_backends: Sequence[str] = ()
    take_back_backends: Sequence[str] = ()
    lease_until: float = float("-inf")
    lease_seconds: float = 0.0
    _progress: dict[str, Progress] = field(default_factory=dict)
    _reports: dict[str, LaunchReport] = field(default_factory=dict)
    _calling: set[str] = field(default_factory=set)
    _breakers: dict[str, Breaker] = field(init=False)
    _bucket: TokenBucket = field(init=False)
    _watch: AllocationWatch = field(init=False)
    _shapes: ConfigShapes = field(init=False)
    _kept_tags: frozenset[str] = frozenset()
    _unserved: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._breakers = {kind: Breaker() for kind in self.observe_intervals}
        self._bucket = TokenBucket(self.per_minute)
        self._watch = AllocationWatch(self.observe_intervals)
        self._shapes = ConfigShapes(self.shape_backends)

    # ---- what the loop asks ----

    @property
    def has_reports(self) -> bool:
        return bool(self._reports) or self._watch.has_reports or self._shapes.has_reports

    def request(self, wait: float = 0.0, *, leave: bool = False) -> SubmitterSyncRequest:
        """Return the next sync: everything unacknowledged; it waits only when there is nothing."""
        return SubmitterSyncRequest(
            holder=self.holder,
            backends=sorted(self.observe_intervals),
            site=self.site,
            launches=list(self._reports.values()),
            allocations=self._watch.reports(),
            shape_backends=self._shapes.kinds,
            take_back_backends=sorted(self.take_back_backends),
            shapes=self._shapes.reports(),
            shapes_asked=self._shapes.asked(),
            wait=0.0 if self.has_reports or leave else wait,
            leave=leave,
        )

    def due(self, now: float) -> float | None:
        """Return when a tick will bring something about; None when only an event can."""
        if now >= self.lease_until:
            return None
        times: list[float] = []
        for kind, breaker in self._breakers.items():
            watch, ready = self._watch.due(kind), breaker.ready_at()
            if watch is not None and ready is not None:
                times.append(max(watch, ready))
        for progress in self._progress.values():
            if progress.phase in {Phase.NEW, Phase.SETTLED}:
                times.append(progress.not_before)
            elif progress.phase is Phase.READY and progress.launch.backend not in self._calling:
                ready = self._breakers[progress.launch.backend].ready_at()
                if ready is not None:
                    times.append(max(progress.not_before, ready, self._bucket.ready_at(now)))
        earliest = min(times, default=float("inf"))
        return None if earliest == float("inf") else earliest

    def handle(self, event: Event) -> list[Instruction]:
        """Take in an event; return what is to be done now."""
        notes: list[Instruction] = []
        match event:
            case SyncAnswered():
                notes += self._sync_answered(event)
            case Ticked():
                pass
            case Prepared():
                self._prepared(event)
            case PrepareFailed():
                notes += self._prepare_failed(event)
            case Found() | Submitted():
                notes += self._call_answered(event)
            case CallFailed():
                notes += self._call_failed(event)
            case Observed():
                notes += self._succeed(event.backend)
                if self._watch.observed(event):
                    self._room_may_have_come(event.backend, event.now)
            case Canceled():
                notes += self._succeed(event.backend)
                self._watch.canceled(event.backend)
            case ShapeTold():
                self._shapes.told(event)
                if event.error:
                    notes.append(Note(f"the size of allocations is not known: {event.error}", {}))
            case BackendFailed():
                self._watch.failed(event)
                notes.append(Note(f"{event.call} failed: {event.error}", {"backend": event.backend}))
                notes += self._fail(event.backend, event.now)
            case _:
                assert_never(event)
        return notes + self._advance(event.now)

    # ---- sync ----

    def _sync_answered(self, event: SyncAnswered) -> list[Instruction]:
        response = event.response
        if not response.granted:
            self._lose_lease()
            return []
        if event.now >= self.lease_until:
            # It may have been another's in between, who may have called: ask before calling.
            for progress in self._progress.values():
                progress.maybe_called = True
        self.lease_seconds = response.lease_seconds
        self.lease_until = event.sent_at + response.lease_seconds
        for report in event.request.launches:
            if self._reports.get(report.tag) is report:
                del self._reports[report.tag]
        self._watch.synced(event.request.allocations, response.allocations)
        asks = self._shapes.synced(event.request.shapes, response.shapes_wanted, event.now)
        begun = {report.tag for report in event.request.launches if report.kind == "begun"}
        listed = {launch.tag: launch for launch in response.launches}
        notes: list[Instruction] = [*asks]
        for launch in response.launches:
            notes += self._listed(launch, event.now, was_begun=launch.tag in begun)
        for tag in [tag for tag in self._progress if tag not in listed]:
            # Its outcome is stored, or it was withdrawn. A call that runs must still be waited for.
            if self._progress[tag].phase not in {Phase.CALLING, Phase.PREPARING}:
                del self._progress[tag]
        kept = frozenset(listed) | frozenset(row.tag for row in response.allocations)
        kept |= frozenset(self._progress)
        if kept != self._kept_tags:
            self._kept_tags = kept
            notes.append(Forget(kept))
        return notes

    def _listed(self, launch: Launch, now: float, *, was_begun: bool) -> list[Instruction]:
        """Take in one launch that the server wants."""
        if launch.backend not in self._breakers:
            if launch.backend in self._unserved:
                return []
            self._unserved.add(launch.backend)
            return [Note("a launch asks for a backend that cannot be used here", {"backend": launch.backend})]
        progress = self._progress.get(launch.tag)
        if progress is None:
            # A launch that is to wait has been tried: by whom and how far is not known here.
            tried = launch.state == "submitting" or launch.not_before_seconds > 0.0
            progress = self._progress[launch.tag] = Progress(launch, maybe_called=tried)
            progress.not_before = now + launch.not_before_seconds
            return []
        progress.launch = launch
        if launch.withdraw and progress.phase is Phase.READY:
            # It may wait for room for hours; to give it up needs none.
            progress.not_before = min(progress.not_before, now)
        if progress.phase is Phase.BEGINNING and was_begun:
            if launch.state == "submitting":
                progress.phase = Phase.READY
            else:
                progress.phase, progress.not_before = Phase.NEW, now + _REPEAT_SECONDS
        elif progress.phase is Phase.READY and launch.state == "stored":
            # Set back after a retry: the server must know again before the backend is called again.
            progress.phase = Phase.NEW
        elif progress.phase is Phase.SETTLED and launch.tag not in self._reports:
            # Acknowledged, and listed again: said again after a pause.
            progress.not_before = min(progress.not_before, now + _REPEAT_SECONDS)
        return []

    def _lose_lease(self) -> None:
        """Another submitter acts now: whatever was not called is its business."""
        self.lease_until = float("-inf")
        self._reports.clear()
        self._watch.clear()
        self._shapes.clear()
        for tag, progress in list(self._progress.items()):
            if progress.phase in {Phase.CALLING, Phase.PREPARING}:
                progress.is_disowned = True
            else:
                del self._progress[tag]

    # ---- outcomes ----

    def _prepared(self, event: Prepared) -> None:
        progress = self._owned(event.tag)
        if progress is None:
            return
        if progress.launch.state == "submitting":
            progress.phase = Phase.READY
        else:
            progress.phase = Phase.BEGINNING
            self._reports[event.tag] = LaunchReport(tag=event.tag, kind="begun")

    def _prepare_failed(self, event: PrepareFailed) -> list[Instruction]:
        progress = self._owned(event.tag)
        if progress is None:
            return []
        progress.phase = Phase.NEW
        progress.failures += 1
        progress.not_before = event.now + backoff(progress.failures, self.draw())
        return [Note(f"the node files cannot be written: {event.error}", {"tag": event.tag})]

    def _call_answered(self, event: Found | Submitted) -> list[Instruction]:
        progress = self._end_call(event.tag)
        if progress is None:
            return []
        notes = self._succeed(progress.launch.backend)
        external_ids = in_order(event.allocations, progress.launch.count)
        if external_ids is not None:
            self._settle(progress, LaunchReport(tag=event.tag, kind="submitted", external_ids=external_ids))
            facts = {"tag": event.tag, "backend": progress.launch.backend, "ids": " ".join(external_ids)}
            text = "launched" if isinstance(event, Submitted) else "found what an earlier call launched"
            return [*notes, Note(text, facts, is_warning=False)]
        if isinstance(event, Found) and progress.launch.withdraw and not event.allocations:
            self._settle(progress, LaunchReport(tag=event.tag, kind="withdrawn"))
            return [*notes, Note("withdrawn: no job needs it any more", {"tag": event.tag}, is_warning=False)]
        if isinstance(event, Found) and progress.is_too_many and not event.allocations:
            return [*notes, *self._divide(progress)]
        if isinstance(event, Found):
            # Nothing, or a part: the same call with the same tag brings about the rest and no more.
            progress.phase, progress.maybe_called = Phase.READY, False
            return notes
        text = f"the backend answered {len(event.allocations)} of {progress.launch.count} allocations"
        return notes + self._retry(progress, event.now, text, FailureKind.TRANSIENT)

    def _call_failed(self, event: CallFailed) -> list[Instruction]:
        progress = self._end_call(event.tag)
        if progress is None:
            return []
        backend = progress.launch.backend
        if event.kind is FailureKind.TRANSIENT:
            notes = self._fail(backend, event.now)
        else:
            notes = self._succeed(backend)
        if event.kind is FailureKind.PERMANENT:
            self._settle(progress, LaunchReport(tag=event.tag, kind="failed", error=event.error))
            return [*notes, Note(f"refused: {event.error}", {"tag": event.tag, "backend": backend})]
        # Only the newest is divided, so that few ask in vain; the server lists the oldest first, and so do we.
        is_too_many = event.fewer_may_fit and progress.launch.count > 1
        progress.is_too_many = is_too_many and is_newest(progress, self._progress.values())
        return notes + self._retry(progress, event.now, event.error, event.kind)

    def _divide(self, progress: Progress) -> list[Instruction]:
        """Give a launch back of which nothing was made and for all of which there is no room."""
        tag = progress.launch.tag
        self._settle(progress, LaunchReport(tag=tag, kind="divided", error=progress.error))
        return [Note("divided: there is no room for all of it", {"tag": tag}, is_warning=False)]

    def _retry(self, progress: Progress, now: float, error: str, kind: FailureKind) -> list[Instruction]:
        progress.phase = Phase.READY
        progress.failures += 1
        progress.awaits_room, progress.error = kind is FailureKind.CAPACITY, error
        # Whatever the error says, a part may have been launched: the next step is to ask.
        progress.maybe_called = True
        if progress.awaits_room:
            first, longest = _CAPACITY_FIRST_SECONDS, _CAPACITY_LONGEST_SECONDS
            seconds = backoff(progress.failures, self.draw(), first=first, longest=longest)
        else:
            seconds = backoff(progress.failures, self.draw())
        progress.not_before = now + seconds
        tag = progress.launch.tag
        self._reports[tag] = LaunchReport(tag=tag, kind="retry", error=error, retry_seconds=seconds)
        return [Note(f"tried again in {seconds:.0f} s: {error}", {"tag": tag})]

    def _settle(self, progress: Progress, outcome: LaunchReport) -> None:
        progress.phase, progress.outcome = Phase.SETTLED, outcome
        progress.not_before = float("inf")
        self._reports[outcome.tag] = outcome

    def _owned(self, tag: str) -> Progress | None:
        progress = self._progress.get(tag)
        if progress is not None and progress.is_disowned:
            del self._progress[tag]
            return None
        return progress

    def _end_call(self, tag: str) -> Progress | None:
        """Note that a find or submit is over; None when its outcome is not ours to report."""
        progress = self._progress.get(tag)
        if progress is not None:
            self._calling.discard(progress.launch.backend)
        return self._owned(tag)

    def _room_may_have_come(self, backend: str, now: float) -> None:
        for progress in self._progress.values():
            if progress.launch.backend == backend and progress.awaits_room:
                progress.not_before = now

    # ---- breakers ----

    def _succeed(self, backend: str) -> list[Instruction]:
        if self._breakers[backend].succeed():
            return [Note("the backend answers again", {"backend": backend}, is_warning=False)]
        return []

    def _fail(self, backend: str, now: float) -> list[Instruction]:
        seconds = self._breakers[backend].fail(now, self.draw())
        if seconds is None:
            return []
        count = self._breakers[backend].failures
        return [Note(f"{count} errors in a row: not called for {seconds:.0f} s", {"backend": backend})]

    # ---- what is to be done now ----

    def _advance(self, now: float) -> list[Instruction]:
        if now >= self.lease_until:
            return []
        instructions: list[Instruction] = []
        for progress in self._progress.values():
            if progress.is_disowned or now < progress.not_before:
                continue
            match progress.phase:
                case Phase.NEW:
                    progress.phase = Phase.PREPARING
                    is_fresh = progress.launch.state == "stored" and not progress.maybe_called
                    instructions.append(Prepare(progress.launch, is_fresh))
                case Phase.READY:
                    instructions += self._call(progress, now)
                case Phase.SETTLED:
                    self._say_again(progress)
                case Phase.PREPARING | Phase.BEGINNING | Phase.CALLING:
                    pass
        for backend, breaker in self._breakers.items():
            ready = breaker.ready_at()
            if ready is None or now < ready:
                continue
            work = self._watch.work(backend, now)
            if work:
                breaker.begin()
            instructions += work
        return instructions

    def _say_again(self, progress: Progress) -> None:
        """Repeat an outcome; a refused launch that the server stored anew starts again."""
        outcome = progress.outcome
        if outcome is not None and outcome.kind == "failed" and progress.launch.state == "stored":
            progress.phase, progress.maybe_called, progress.outcome = Phase.NEW, True, None
        elif outcome is not None:
            progress.not_before = float("inf")
            self._reports[outcome.tag] = outcome

    def _call(self, progress: Progress, now: float) -> Sequence[Instruction]:
        """Call the backend if it may be called now: one launch at a time."""
        launch = progress.launch
        ready = self._breakers[launch.backend].ready_at()
        if launch.backend in self._calling or ready is None or now < ready:
            return []
        if launch.withdraw and not progress.maybe_called:
            self._settle(progress, LaunchReport(tag=launch.tag, kind="withdrawn"))
            return []
        if self._bucket.ready_at(now) > now:
            return []
        self._breakers[launch.backend].begin()
        self._calling.add(launch.backend)
        progress.phase, progress.awaits_room = Phase.CALLING, False
        if progress.maybe_called:
            return [Find(launch)]
        self._bucket.take(now)
        return [Submit(launch)]
