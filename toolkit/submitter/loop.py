"""Performs what `state` decides: one sync always open, backends called in threads."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import structs

from lading.toolkit.backends import Backend, TakesBack, TellsShape
from lading.toolkit.clock import Clock, SystemClock
from lading.toolkit.errors import BadInput, CapacityError, LadingError, PermanentError
from lading.toolkit.submitter.connection import Connection
from lading.toolkit.submitter.limits import backoff
from lading.toolkit.submitter.messages import (
    AskShape,
    BackendFailed,
    CallFailed,
    Cancel,
    Canceled,
    Event,
    FailureKind,
    Find,
    Forget,
    Found,
    Instruction,
    Note,
    Observe,
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
from lading.toolkit.submitter.node_files import NodeFiles
from lading.toolkit.submitter.reachability import check_reachable
from lading.toolkit.submitter.salvage import Salvage, remove
from lading.toolkit.submitter.state import SubmitterState
from lading.toolkit.wire.submissions import ShapeReport, SubmitterSyncResponse

T = TypeVar("T")

logger = logging.getLogger("lading.submitter")

_LONGEST_WAIT_SECONDS: Final = 20.0
_UNKNOWN_LEASE_SECONDS: Final = 4.0
"""Before the first answer nobody knows the lease: wait no longer than a quarter of this."""
_NOT_GRANTED_SECONDS: Final = 2.0
_FIRST_PACE_SECONDS: Final = 0.05
_LONGEST_PACE_SECONDS: Final = 1.0
_SHORTEST_TICK_SECONDS: Final = 0.01
_LEAVE_SECONDS: Final = 10.0
_LEAVE_SYNC_SECONDS: Final = 5.0
_DEFAULT_OBSERVE_SECONDS: Final = 30.0


class Submitter:
    """One submitter process."""

    def __init__(
        self,
        connection: Connection,
        backends: Mapping[str, Backend],
        state_directory: Path,
        *,
        clock: Clock | None = None,
        per_minute: float = 60.0,
        site: str = "",
        holder: str | None = None,
        when_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._backends = backends
        self._files = NodeFiles(state_directory)
        self._salvage = Salvage(self._files.document_of)
        self._clock = clock or SystemClock()
        self._random = random.Random()
        self._when_connected = when_connected
        self._state = SubmitterState(
            holder=holder or secrets.token_hex(16),
            observe_intervals={kind: _interval(backend) for kind, backend in backends.items()},
            draw=self._random.random,
            per_minute=per_minute,
            site=site,
            shape_backends=[kind for kind, one in backends.items() if isinstance(one, TellsShape)],
            take_back_backends=[kind for kind, one in backends.items() if isinstance(one, TakesBack)],
        )
        # Two threads for each backend: a submission that takes its time must not delay a cancellation.
        self._submitters = {kind: ThreadPoolExecutor(1, f"submit-{kind}") for kind in backends}
        self._observers = {kind: ThreadPoolExecutor(1, f"observe-{kind}") for kind in backends}
        self._tasks: set[asyncio.Task[None]] = set()
        self._defect: BaseException | None = None
        self._changed = asyncio.Event()
        """There may be something to report, or the end has come: the sync loop looks again."""
        self._retimed = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Make `run` leave: no new call; those that run are awaited for 10 s and reported."""
        self._stopping.set()
        self._changed.set()
        self._retimed.set()

    async def run(self) -> bool:
        """Work until `stop`; False when a backend's call hangs in its thread even so."""
        self._start(self._tick())
        await self._sync_until_stopped()
        is_idle = await self._leave()
        for executor in (*self._submitters.values(), *self._observers.values()):
            executor.shutdown(wait=is_idle, cancel_futures=True)
        if self._defect is not None:
            raise self._defect
        return is_idle

    # ---- sync ----

    async def _sync_until_stopped(self) -> None:
        failures, pace, last_error, is_first = 0, _FIRST_PACE_SECONDS, "", True
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            try:
                answer = await self._exchange()
            except LadingError as error:
                failures += 1
                if str(error) != last_error:
                    logger.warning("the server cannot be asked: %s", error)
                last_error = str(error)
                await self._pause(backoff(failures, self._random.random(), first=0.2, longest=5.0))
                continue
            if failures:
                logger.info("the server answers again")
            failures, last_error = 0, ""
            if is_first:
                is_first = False
                self._when_connected()
            if answer is None:
                continue
            if not answer.granted:
                await self._pause(_NOT_GRANTED_SECONDS * (0.5 + self._random.random()))
            elif self._state.has_reports or self._clock.monotonic() - began > _LONGEST_PACE_SECONDS:
                pace = _FIRST_PACE_SECONDS
            else:
                # A server with open work may answer an idle call at once: do not ask in circles.
                await self._pause(pace, until_reports=True)
                pace = min(_LONGEST_PACE_SECONDS, pace * 2)

    async def _exchange(self) -> SubmitterSyncResponse | None:
        """Make one sync; None when a waiting one was given up because there is something to say."""
        lease = self._state.lease_seconds or _UNKNOWN_LEASE_SECONDS
        request = self._state.request(min(_LONGEST_WAIT_SECONDS, lease / 4))
        self._changed.clear()
        sent_at = self._clock.boottime()
        # In a thread: the output folders may lie on a file system that hangs.
        filled = await asyncio.to_thread(self._salvage.fill, request, sent_at)
        call = asyncio.create_task(self._connection.sync(filled.request))
        try:
            # Only a call that carries nothing may be given up: what it would have said is lost.
            while request.wait > 0 and not call.done() and not self._has_news():
                await self._first_of(call, self._changed)
                self._changed.clear()
            if request.wait > 0 and not call.done():
                return None
            response = await call
        finally:
            if not call.done():
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
        carried = structs.replace(request, allocations=filled.settled)
        self._feed(SyncAnswered(self._clock.boottime(), sent_at, carried, response))
        if done := self._salvage.acknowledge(response):
            await asyncio.to_thread(remove, done)
        return response

    def _has_news(self) -> bool:
        return self._state.has_reports or self._stopping.is_set()

    async def _first_of(self, call: asyncio.Task[SubmitterSyncResponse], event: asyncio.Event) -> None:
        waiter = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({call, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()

    async def _pause(self, seconds: float, *, until_reports: bool = False) -> None:
        """Wait; a stop ends it, and reports where the server is there to hear them."""
        deadline = self._clock.monotonic() + seconds
        while not self._stopping.is_set() and not (until_reports and self._state.has_reports):
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    async def _leave(self) -> bool:
        """Await the calls that run, report what they brought, hand the lease back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LEAVE_SECONDS)
        is_idle = not self._tasks
        try:
            await self._connection.sync(self._state.request(leave=True), answer_seconds=_LEAVE_SYNC_SECONDS)
        except LadingError as error:
            logger.warning("left without a word, the lease ends by itself: %s", error)
        for task in self._tasks:
            task.cancel()
        await self._connection.close()
        return is_idle

    # ---- time ----

    async def _tick(self) -> None:
        """Tell the state when something has become due."""
        while not self._stopping.is_set():
            now = self._clock.boottime()
            due = self._state.due(now)
            if due is not None and due <= now:
                self._feed(Ticked(now))
                due = self._state.due(now)
            self._retimed.clear()
            with suppress(TimeoutError):
                # Never at once: a rounding error in `due` must not make this loop spin.
                left = None if due is None else max(_SHORTEST_TICK_SECONDS, due - now)
                await asyncio.wait_for(self._retimed.wait(), left)

    # ---- instructions ----

    def _feed(self, event: Event) -> None:
        for instruction in self._state.handle(event):
            if self._stopping.is_set() and not isinstance(instruction, Note):
                continue
            self._perform(instruction)
        self._changed.set()
        self._retimed.set()

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Note(text, facts, is_warning):
                level = logging.WARNING if is_warning else logging.INFO
                logger.log(level, text, extra=dict(facts))
            case Forget(kept_tags):
                self._files.forget(kept_tags)
            case Prepare() | Find() | Submit():
                self._start(self._launch(instruction))
            case Observe() | Cancel():
                self._start(self._look(instruction))
            case AskShape():
                self._start(self._ask_shape(instruction))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        defect = None if task.cancelled() else task.exception()
        if defect is not None:
            # Half a submitter would look alive and do nothing: leave, and let whoever supervises restart.
            self._defect = self._defect or defect
            self.stop()

    async def _launch(self, instruction: Prepare | Find | Submit) -> None:
        launch = instruction.launch
        event: Event
        try:
            if isinstance(instruction, Prepare):
                connection = self._connection
                await self._files.prepare(
                    launch, connection.target, connection.node_token, is_fresh=instruction.is_fresh
                )
                event = Prepared(self._clock.boottime(), launch.tag)
            else:
                event = await self._call(instruction)
        except Exception as error:  # noqa: BLE001 a backend may be a site's own code: all it raises is an outcome
            event = self._failed(instruction, error)
        self._feed(event)

    async def _call(self, instruction: Find | Submit) -> Event:
        """Call the backend, without a time limit: a call that we gave up could still launch something."""
        launch = instruction.launch
        backend, executor = self._backends[launch.backend], self._submitters[launch.backend]
        request = self._files.request_of(launch)
        if isinstance(instruction, Find):
            found = await _in_thread(executor, lambda: tuple(backend.find(request)))
            return Found(self._clock.boottime(), launch.tag, found)
        check_reachable(self._connection.target.url, backend)
        submitted = await _in_thread(executor, lambda: tuple(backend.submit(request)))
        return Submitted(self._clock.boottime(), launch.tag, submitted)

    def _failed(self, instruction: Prepare | Find | Submit, error: Exception) -> Event:
        now, tag = self._clock.boottime(), instruction.launch.tag
        _log_unexpected(error)
        if isinstance(instruction, Prepare):
            return PrepareFailed(now, tag, _text_of(error))
        kind, fewer_may_fit = FailureKind.TRANSIENT, False
        if isinstance(error, CapacityError):
            kind, fewer_may_fit = FailureKind.CAPACITY, error.fewer_may_fit
        elif isinstance(error, PermanentError | BadInput):
            kind = FailureKind.PERMANENT
        return CallFailed(now, tag, kind, _text_of(error), fewer_may_fit)

    async def _look(self, instruction: Observe | Cancel) -> None:
        backend, executor = self._backends[instruction.backend], self._observers[instruction.backend]
        ids = instruction.external_ids
        event: Event
        try:
            if isinstance(instruction, Observe):
                seen = await _in_thread(executor, lambda: tuple(backend.observe(ids)))
                event = Observed(self._clock.boottime(), instruction.backend, seen)
            else:
                # What has no queue has nothing that could start while it is taken out of it.
                end = backend.cancel
                if instruction.only_waiting and isinstance(backend, TakesBack):
                    end = backend.take_back
                await _in_thread(executor, lambda: end(ids))
                event = Canceled(self._clock.boottime(), instruction.backend)
        except Exception as error:  # noqa: BLE001 a backend may be a site's own code: all it raises is an outcome
            _log_unexpected(error)
            verb = "observe" if isinstance(instruction, Observe) else "cancel"
            event = BackendFailed(self._clock.boottime(), instruction.backend, verb, _text_of(error))
        self._feed(event)

    async def _ask_shape(self, instruction: AskShape) -> None:
        wanted = instruction.wanted
        backend = self._backends[wanted.backend]
        report, error_text = ShapeReport(config_row=wanted.config_row, rev=wanted.rev, is_failure=True), ""
        try:
            if isinstance(backend, TellsShape):
                tell = backend.shape
                shape = await _in_thread(self._observers[wanted.backend], lambda: tell(wanted.config))
                report = structs.replace(report, is_failure=False, shape=shape)
        except Exception as error:  # noqa: BLE001 a backend may be a site's own code: all it raises is an outcome
            _log_unexpected(error)
            error_text = _text_of(error)
        self._feed(ShapeTold(self._clock.boottime(), report, error_text))


async def _in_thread(executor: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, function)


def _interval(backend: Backend) -> float:
    """Return the seconds between two looks; a backend may state its own `observe_interval_seconds`."""
    return float(getattr(backend, "observe_interval_seconds", _DEFAULT_OBSERVE_SECONDS))


def _text_of(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, LadingError) and text else f"{type(error).__name__}: {text}"


def _log_unexpected(error: Exception) -> None:
    """Keep the traceback of what no backend or server should raise."""
    if not isinstance(error, LadingError | OSError):
        logger.error("unexpected error of a backend", exc_info=error)
