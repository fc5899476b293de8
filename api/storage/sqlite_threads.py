"""The threads in which SQLite runs: a reader drives one use case at a time, the writer a group.

A durable commit costs a flush of the disk, whatever it holds. So the writer takes all use cases that
wait at that moment, runs each in a savepoint of its own, and commits once: each is still stored
whole or not at all, none is answered before it is durable, and sixteen runners cost one flush.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lading.api.storage.statements import Effects, Many, Work, for_sqlite, sqlite_parameters
from lading.toolkit.errors import Conflict, LadingError, Unavailable

PROGRESS_STEPS = 50_000
LARGEST_GROUP = 64

Connect = Callable[[], sqlite3.Connection]


@dataclass(slots=True)
class _Pending:
    """A use case that waits for its turn."""

    work: Work
    deadline: float
    future: asyncio.Future[Any]
    effects: Effects
    answer: Any = None
    error: BaseException | None = None


class _Thread(ABC):
    """A thread with one connection and a queue; answers go back to the event loop."""

    def __init__(self, name: str, connect: Connect) -> None:
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(connect,), name=name, daemon=True)
        self._thread.start()

    async def started(self) -> None:
        """Wait for the connection; raises what connecting raised."""
        await self._started

    async def stop(self) -> None:
        """Do what is queued, close the connection, end the thread."""
        self._queue.put(None)
        await self._stopped
        self._thread.join()

    def _enqueue(self, work: Work, deadline: float) -> _Pending:
        pending = _Pending(work, deadline, self._loop.create_future(), Effects())
        self._queue.put(pending)
        return pending

    def _run(self, connect: Connect) -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - started() raises it
            self._settle([(self._started, None, error)])
            return
        self._settle([(self._started, None, None)])
        self._serve(connection)
        connection.close()
        self._settle([(self._stopped, None, None)])

    def _serve(self, connection: sqlite3.Connection) -> None:
        while (pending := self._queue.get()) is not None:
            self._perform(connection, [pending])

    @abstractmethod
    def _perform(self, connection: sqlite3.Connection, group: list[_Pending]) -> None:
        """Run the use cases and settle their futures."""

    def _settle(self, answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        def settle() -> None:
            for future, value, error in answers:
                if future.done():
                    continue
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(value)

        # A loop that was closed has nobody left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle)


class Reader(_Thread):
    """Runs use cases that only read, one snapshot each."""

    async def read(self, work: Work, deadline: float) -> Any:
        return await self._enqueue(work, deadline).future

    def _perform(self, connection: sqlite3.Connection, group: list[_Pending]) -> None:
        for pending in group:
            _alone(connection, pending, "BEGIN")
            self._settle([(pending.future, pending.answer, pending.error)])


class Writer(_Thread):
    """Runs use cases that write; those that wait together share one commit."""

    async def write(self, work: Work, deadline: float) -> tuple[Any, Effects]:
        pending = self._enqueue(work, deadline)
        return await pending.future, pending.effects

    def _serve(self, connection: sqlite3.Connection) -> None:
        while (pending := self._queue.get()) is not None:
            group, ended = [pending], False
            while len(group) < LARGEST_GROUP:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ended = True
                    break
                group.append(following)
            self._perform(connection, group)
            if ended:
                return

    def _perform(self, connection: sqlite3.Connection, group: list[_Pending]) -> None:
        if len(group) == 1 or not _together(connection, group):
            for pending in group:
                _alone(connection, pending, "BEGIN IMMEDIATE")
        self._settle([(pending.future, pending.answer, pending.error) for pending in group])


def _together(connection: sqlite3.Connection, group: list[_Pending]) -> bool:
    """Run a group in one transaction; False, with nothing stored, when it must be run one by one.

    SQLite rolls a whole transaction back on some errors (a full disk, an interrupted write): what
    was answered inside it is void then, and every use case is simply run again.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        for pending in group:
            connection.execute("SAVEPOINT use_case")
            try:
                pending.answer = _drive(connection, pending)
            except LadingError as error:
                # The use case's own refusal: it takes back what it wrote, and nothing else.
                pending.error = error
                if not connection.in_transaction:
                    return _forget(group)
                connection.execute("ROLLBACK TO use_case")
            connection.execute("RELEASE use_case")
        connection.execute("COMMIT")
    except BaseException:  # noqa: BLE001 - run alone, each gets its own error
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return _forget(group)
    return True


def _forget(group: list[_Pending]) -> bool:
    for pending in group:
        pending.answer, pending.error, pending.effects = None, None, Effects()
    return False


def _alone(connection: sqlite3.Connection, pending: _Pending, begin: str) -> None:
    """Run one use case from BEGIN to COMMIT; any error rolls everything back and is noted."""
    try:
        connection.execute(begin)
        pending.answer = _drive(connection, pending)
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        pending.error = _translated(error, pending.deadline)


def _translated(error: BaseException, deadline: float) -> BaseException:
    """Say what an error of the driver means to the caller."""
    text = str(error)
    answer: LadingError | None = None
    if isinstance(error, sqlite3.IntegrityError):
        answer = Conflict(f"The database refused it: {text}.")
    elif isinstance(error, sqlite3.OperationalError):
        if "interrupted" in text:
            answer = Unavailable(f"The database did not finish within {deadline:.0f} s.")
        elif "locked" in text or "busy" in text:
            answer = Unavailable("The database file is locked by another process.")
        elif "disk is full" in text or "disk I/O" in text:
            answer = Unavailable(f"The database cannot write: {text}.")
    if answer is None:
        return error
    answer.__cause__ = error
    return answer


def _drive(connection: sqlite3.Connection, pending: _Pending) -> Any:
    end = time.monotonic() + pending.deadline
    connection.set_progress_handler(lambda: time.monotonic() > end, PROGRESS_STEPS)
    generator = pending.work(pending.effects)
    try:
        request = next(generator)
        while True:
            try:
                if isinstance(request, Many):
                    if request.parameter_sets:
                        connection.executemany(for_sqlite(request.text), request.parameter_sets)
                    rows: list[Any] = []
                else:
                    cursor = connection.execute(
                        for_sqlite(request.text), sqlite_parameters(request.parameters)
                    )
                    rows = cursor.fetchall()
            except sqlite3.IntegrityError as error:
                # Thrown into the use case, which may know what the clash means.
                request = generator.throw(Conflict(f"The database refused it: {error}."))
            else:
                request = generator.send(rows)
    except StopIteration as stop:
        return stop.value
    finally:
        generator.close()
        connection.set_progress_handler(None, 0)
