"""`server`: a fresh server on a free port with an empty database, once for each kind of database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lading.api.server_process import ServerOptions
from lading.api.storage.opening import open_database
from tests.lib.postgres import Databases
from tests.lib.service import Service, running_service


async def _fill(url: str) -> None:
    database = await open_database(url, now_ms=1_700_000_000_000)
    await database.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_databases: Databases) -> Iterator[str]:
    """A PostgreSQL database with the schema, to be cloned."""
    url = postgres_databases.create()
    # In a thread: asyncio.run takes away the loop that the tests' plugin has set.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: asyncio.run(_fill(url))).result()
    yield url
    postgres_databases.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """`--database` of a fresh database: both kinds, one after the other."""
    if request.param == "sqlite":
        yield str(tmp_path / "lading.db")
        return
    databases: Databases = request.getfixturevalue("postgres_databases")
    url = databases.create(request.getfixturevalue("postgres_template"))
    yield url
    databases.drop(url)


@pytest.fixture
async def server(location: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A server on a fresh database; see `tests.lib.service.Service`."""
    async with running_service(ServerOptions(location, server_file=tmp_path / "server.json")) as service:
        yield service
