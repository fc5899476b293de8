"""`server`: a fresh server on a free port with an empty database, once for each kind of database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from lading.api.server_process import ServerOptions
from lading.api.storage.opening import open_database
from tests.api.world import World, make_world
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


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_location(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`--database` of a database that all tests of a module use: both kinds, one after the other."""
    if request.param == "sqlite":
        yield str(tmp_path_factory.mktemp("shared") / "lading.db")
        return
    databases: Databases = request.getfixturevalue("postgres_databases")
    url = databases.create(request.getfixturevalue("postgres_template"))
    yield url
    databases.drop(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(
    shared_location: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A server for all tests of a module; each works in workflows of its own."""
    folder = tmp_path_factory.mktemp("server")
    options = ServerOptions(shared_location, server_file=folder / "server.json", synchronous="NORMAL")
    async with running_service(options) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_server: Service) -> World:
    """A workflow with one of everything, for tests that change nothing."""
    return await make_world(shared_server)


@pytest_asyncio.fixture(loop_scope="module")
async def fresh_world(shared_server: Service) -> World:
    """A workflow with one of everything, to be changed."""
    return await make_world(shared_server)
