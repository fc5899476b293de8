"""Databases for the engine's tests: one of each kind for a whole session, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lading.api.storage.opening import open_database
from lading.api.storage.unit_of_work import Database
from tests.engine.driver import Engine
from tests.engine.stored import Run
from tests.lib.postgres import Databases

NOW = 1_700_000_000_000
_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
settings.register_profile("engine", max_examples=150, stateful_step_count=40, derandomize=True, **_COMMON)
settings.register_profile("engine-night", max_examples=3000, stateful_step_count=80, **_COMMON)
PROFILE = os.environ.get("ENGINE_TESTS_PROFILE", "engine")
"""`engine-night` looks for hours where the usual one looks for a minute."""


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Carry coroutines to one event loop that lives as long as the databases."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="engine-tests")
    thread.start()

    def carry(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    yield carry
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def sqlite_database(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("engine") / "lading.db"
    database = run(open_database(str(path), now_ms=NOW, synchronous="NORMAL"))
    yield database
    run(database.close())


@pytest.fixture(scope="session")
def postgres_database(run: Run, postgres_databases: Databases) -> Iterator[Database]:
    url = postgres_databases.create()
    database = run(open_database(url, now_ms=NOW))
    yield database
    run(database.close())
    postgres_databases.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, run: Run) -> Iterator[Engine]:
    """An empty workflow in each kind of database; whatever a test did, the invariants hold after it."""
    database: Database = request.getfixturevalue(f"{request.param}_database")
    made = Engine(database, run, NOW)
    yield made
    violations = made.violations()
    made.remove()
    assert violations == []
