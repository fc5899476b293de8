"""What this machine can do by itself, in the same run: the denominator of every ratio."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

BATCH = 100


def spawn_rate(number: int, parallel: int = 4) -> float:
    """Return how many `true` this machine spawns and reaps a second, that many at once."""
    program = shutil.which("true") or "/bin/true"
    running = started = ended = 0
    begin = time.perf_counter()
    while ended < number:
        while running < parallel and started < number:
            os.posix_spawn(program, ["true"], {})
            running, started = running + 1, started + 1
        os.waitpid(-1, 0)
        running, ended = running - 1, ended + 1
    return number / (time.perf_counter() - begin)


def bare_sql_rate(folder: Path, number: int) -> float:
    """Return jobs a second of the same rows written by bare SQL, durably, 100 jobs a transaction.

    For each job: a claim, an attempt, its end, a result, two events, the job's own row twice.
    """
    path = folder / "twin.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "CREATE TABLE job (id INTEGER PRIMARY KEY, workflow_id INT, status TEXT, rev INT, open INT);"
        "CREATE INDEX job_status ON job (workflow_id, status, id);"
        "CREATE TABLE attempt (id INTEGER PRIMARY KEY, attempt_id TEXT UNIQUE, job_id INT, state TEXT, "
        "ended INT); CREATE INDEX attempt_open ON attempt (job_id) WHERE state <> 'ended';"
        "CREATE TABLE result (id INTEGER PRIMARY KEY, job_id INT, run_id INT, body TEXT, "
        "UNIQUE (job_id, run_id));"
        "CREATE TABLE event (id INTEGER PRIMARY KEY, workflow_id INT, sequence INT, body TEXT, "
        "UNIQUE (workflow_id, sequence));"
        "CREATE TABLE workflow (id INTEGER PRIMARY KEY, ready INT, done INT); INSERT INTO workflow VALUES (1,0,0)"
    )
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO job VALUES (?, 1, 'ready', 1, NULL)", [(n,) for n in range(number)])
    connection.execute("COMMIT")
    begin = time.perf_counter()
    for first in range(0, number, BATCH):
        _one_batch(connection, range(first, min(number, first + BATCH)))
    rate = number / (time.perf_counter() - begin)
    connection.close()
    return rate


def _one_batch(connection: sqlite3.Connection, batch: range) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("SELECT * FROM workflow WHERE id = 1").fetchall()
    connection.executemany(
        "UPDATE job SET status = 'submitted_pending', rev = rev + 1, open = 1 WHERE id = ?",
        [(n,) for n in batch],
    )
    connection.executemany(
        "INSERT INTO attempt VALUES (?, ?, ?, 'claimed', NULL)", [(n, f"attempt-{n}", n) for n in batch]
    )
    connection.executemany(
        "UPDATE attempt SET state = 'ended', ended = 1 WHERE id = ?", [(n,) for n in batch]
    )
    connection.executemany(
        "UPDATE job SET status = 'done', rev = rev + 1, open = NULL WHERE id = ?", [(n,) for n in batch]
    )
    connection.executemany("INSERT INTO result VALUES (?, ?, 1, '{}')", [(n, n) for n in batch])
    body = '{"category":"job","type":"start","job_key":"201","message":"Started job work1"}'
    connection.executemany(
        "INSERT INTO event VALUES (?, 1, ?, ?)", [(2 * n + k, 2 * n + k, body) for n in batch for k in (0, 1)]
    )
    connection.execute("UPDATE workflow SET done = done + 100 WHERE id = 1")
    connection.execute("COMMIT")
