"""`serve --local-cpus N`: who names no scheduler gets CPUs of the server's host, who names one does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lading.api.server_process import ServerOptions
from tests.lib.service import Service, running_service


@pytest.fixture
async def offering(location: str, tmp_path: Path) -> AsyncIterator[Service]:
    options = ServerOptions(location, server_file=tmp_path / "server.json", local_cpus=3)
    async with running_service(options) as service:
        yield service


async def started(server: Service, schedulers: dict[str, Any], verb: str = "start") -> str:
    document = {"name": "w", "jobs": [{"name": "j", "command": "true"}], "schedulers": schedulers}
    key: str = (await server.ok("POST", "/workflow_specifications", json=document))["_key"]
    await server.ok("POST", f"/workflows/{key}/{verb}", json={})
    return key


async def local_configs(server: Service, key: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await server.ok("GET", f"/workflows/{key}/local_schedulers"))["items"]
    return items


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_a_workflow_without_a_config_gets_one(offering: Service, verb: str) -> None:
    key = await started(offering, {}, verb)
    [config] = await local_configs(offering, key)
    assert {name: value for name, value in config.items() if not name.startswith("_")} == {
        "name": "server", "num_cpus": 3, "max_allocations": 1,
    }  # fmt: skip
    await offering.ok("POST", f"/workflows/{key}/{verb}", json={})
    assert await local_configs(offering, key) == [config]


async def test_a_dry_run_stores_none(offering: Service) -> None:
    document = {"name": "w", "jobs": [{"name": "j", "command": "true"}]}
    key = (await offering.ok("POST", "/workflow_specifications", json=document))["_key"]
    await offering.ok("POST", f"/workflows/{key}/restart", json={"dry_run": True})
    assert await local_configs(offering, key) == []


async def test_a_workflow_with_a_config_keeps_to_it(offering: Service) -> None:
    slurm = {"name": "s", "account": "a", "nodes": 1}
    assert await local_configs(offering, await started(offering, {"slurm_schedulers": [slurm]})) == []


async def test_nothing_runs_on_the_host_of_a_server_that_was_not_told_to(server: Service) -> None:
    assert await local_configs(server, await started(server, {})) == []
