"""What every claim and every completion asks of SQLite is answered by an index.

A statement that scans all jobs, attempts or edges would make the cost of one job grow with their
number. The statements are those that the use cases really send, written down while they run.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

from lading.api.services.ledger import Steps
from lading.api.storage.sqlite import SqliteDatabase
from lading.api.storage.statements import Effects, Work, for_sqlite
from lading.toolkit.domain.states import JobStatus
from tests.engine.conftest import NOW
from tests.engine.driver import Engine
from tests.engine.model import Ask, JobSpec
from tests.engine.stored import Run
from tests.engine.worker import FAILED, LARGE, Worker, add_graph

SMALL_TABLES = {"key_sequence", "json_each", "request_class", "of_ready", "of_scheduled"}
# A search by the workflow alone is a scan too, when there is one large workflow.
_SCANNED = re.compile(r"SCAN (\w+)|SEARCH (\w+) .*\(workflow_id=\?(?: AND name=\?)?\)")


class _NullParameters(dict[str, None]):
    """Binds NULL to every name: a plan does not depend on values here."""

    def __missing__(self, name: str) -> None:
        return None


class RecordingEngine(Engine):
    """Writes down the text of every statement of every use case that writes."""

    texts: set[str]

    def write(self, work: Work) -> Any:
        return super().write(lambda effects: self._recorded(work, effects))

    def _recorded(self, work: Work, effects: Effects) -> Steps:
        generator = work(effects)
        rows: Any = None
        while True:
            try:
                request = generator.send(rows)
            except StopIteration as stop:
                return stop.value
            self.texts.add(request.text)
            rows = yield request


def recording(database: SqliteDatabase, run: Run) -> RecordingEngine:
    RecordingEngine.texts = set()
    return RecordingEngine(database, run, NOW)


def scans(database: SqliteDatabase, texts: set[str]) -> list[str]:
    found = []
    with closing(sqlite3.connect(database.path)) as connection:
        for text in sorted(texts):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {for_sqlite(text)}", _NullParameters()).fetchall()
            names = {name for row in plan for match in _SCANNED.findall(row[3]) for name in match}
            scanned = names - SMALL_TABLES - {""}
            if scanned:
                found.append(f"{', '.join(sorted(scanned))}: {text}")
    return found


def test_the_statements_of_running_jobs_scan_no_table(sqlite_database: SqliteDatabase, run: Run) -> None:
    engine = recording(sqlite_database, run)
    add_graph(
        engine,
        JobSpec("a", produces=("f",), retries=1),
        JobSpec("tied", Ask(cpus=2)),
        JobSpec("doomed", blocked_by=("a",)),
        JobSpec("next", blocked_by=("tied",)),
    )
    engine.start()
    worker = Worker(engine)
    engine.texts.clear()
    worker.claim(1)
    worker.start("a")
    worker.end("a", report=FAILED)
    worker.claim()
    worker.end("a", report=FAILED)
    worker.end("tied")
    worker.claim()
    engine.cancel_job("next")
    worker.sync()
    worker.end("next")
    engine.now += 10_000_000
    engine.sweep()
    assert len(engine.texts) > 20
    assert scans(sqlite_database, engine.texts) == []
    engine.remove()


def test_the_statements_of_torcs_workers_scan_no_table(sqlite_database: SqliteDatabase, run: Run) -> None:
    engine = recording(sqlite_database, run)
    add_graph(engine, JobSpec("a"), JobSpec("b", blocked_by=("a",)), JobSpec("c"))
    engine.add_foreign_node("foreign")
    engine.start()
    engine.texts.clear()
    engine.prepare(LARGE, "none", 1)
    engine.start_job("a", "foreign", fresh=True, same_run=True)
    engine.complete_job("a", "foreign", JobStatus.DONE, 0, fresh=True, same_run=True)
    engine.prepare_next(5)
    engine.delete_job("c")
    engine.manage_status("b", JobStatus.READY, fresh=True, same_run=True)
    assert scans(sqlite_database, engine.texts) == []
    engine.remove()
