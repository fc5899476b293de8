"""Allocations are counted by what one offers: the submitter is asked, and planning waits for its word."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lading.api import database_commands
from lading.api.server_process import ServerOptions
from lading.api.storage.migrate import all_migrations, applied_version
from lading.api.storage.opening import make_database
from lading.api.storage.statements import Effects, Statement, UseCase
from lading.api.storage.unit_of_work import Database
from tests.lib.service import running_service

SPECIFICATION: dict[str, Any] = {
    "name": "wide",
    "jobs": [{"name": f"job{n}", "command": "true", "resource_requirements": "small"} for n in range(9)],
    "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "1m", "runtime": "P0DT1M"}],
    "schedulers": {"slurm_schedulers": [{"name": "nodes", "account": "a", "nodes": 1, "max_allocations": 5}]},
}
SHAPE = {"num_cpus": 4, "memory_bytes": 2**34, "time_limit_seconds": 3600.0}


async def begin(server) -> str:
    made = await server.ok("POST", "/workflow_specifications", json=SPECIFICATION)
    await server.ok("POST", f"/workflows/{made['_key']}/start", json={})
    return str(made["_key"])


async def sync(server, **said: Any) -> dict[str, Any]:
    body = {"holder": "test", "backends": ["slurm"], "shape_backends": ["slurm"], **said}
    answer: dict[str, Any] = await server.ok("POST", "/submitter/sync", json=body)
    return {"launches": [], "shapes_wanted": [], **answer}


async def test_planning_waits_for_the_shape_and_counts_with_it(server):
    workflow = await begin(server)
    first = await sync(server)
    (want,) = first["shapes_wanted"]
    assert first["launches"] == []
    assert (want["backend"], want["config"]["account"]) == ("slurm", "a")
    reasons = (await server.ok("GET", f"/workflows/{workflow}/progress"))["reasons"]
    assert any("is asked what an allocation" in reason for reason in reasons)
    told = {"config_row": want["config_row"], "rev": want["rev"], "shape": SHAPE}
    answer = await sync(server, shapes=[told])
    # Nine jobs, four at once on each.
    assert [launch["count"] for launch in answer["launches"]] == [3]
    assert answer["shapes_wanted"] == []


async def test_a_question_in_vain_brings_one_allocation_and_the_answer_the_rest(server):
    await begin(server)
    (want,) = (await sync(server))["shapes_wanted"]
    told = {"config_row": want["config_row"], "rev": want["rev"]}
    answer = await sync(server, shapes=[{**told, "is_failure": True}])
    assert [launch["count"] for launch in answer["launches"]] == [1]
    assert answer["shapes_wanted"] == [want]
    answer = await sync(server, shapes=[{**told, "shape": SHAPE}])
    assert [launch["count"] for launch in answer["launches"]] == [1, 2]


async def test_a_shape_of_an_older_revision_is_not_stored(server):
    await begin(server)
    (want,) = (await sync(server))["shapes_wanted"]
    told = {"config_row": want["config_row"], "rev": want["rev"] + 1, "shape": SHAPE}
    answer = await sync(server, shapes=[told])
    assert answer["launches"] == []
    assert answer["shapes_wanted"] == [want]


@pytest.mark.parametrize(
    "wrong", [{"num_cpus": 0}, {"num_nodes": -1}, {"time_limit_seconds": 0.0}, {"num_gpus": "2"}]
)
async def test_a_shape_that_cannot_be_is_refused_and_planning_goes_on(server, wrong: dict[str, Any]):
    await begin(server)
    (want,) = (await sync(server))["shapes_wanted"]
    told = {"config_row": want["config_row"], "rev": want["rev"], "shape": {**SHAPE, **wrong}}
    body = {"holder": "test", "backends": ["slurm"], "shape_backends": ["slurm"], "shapes": [told]}
    reply = await server.call("POST", "/submitter/sync", json=body)
    assert reply.status == 400
    assert "shapes[0].shape" in reply.error
    assert (await sync(server))["shapes_wanted"] == [want]


async def test_jobs_longer_than_an_allocation_bring_none_and_are_explained(server):
    workflow = await begin(server)
    (want,) = (await sync(server))["shapes_wanted"]
    short = {**SHAPE, "time_limit_seconds": 30.0}
    answer = await sync(
        server, shapes=[{"config_row": want["config_row"], "rev": want["rev"], "shape": short}]
    )
    assert answer["launches"] == []
    reasons = (await server.ok("GET", f"/workflows/{workflow}/progress"))["reasons"]
    assert any("nodes: runtime 00:01:00 asked, 00:00:22 (" in reason for reason in reasons)


def as_version_1_left_it(_effects: Effects) -> UseCase:
    """Take the columns of all later versions away again."""
    texts = "".join(migration.text for migration in all_migrations()[1:])
    for table, column in re.findall(r"^ALTER TABLE (\w+) ADD COLUMN (\w+)", texts, re.MULTILINE):
        yield Statement(f"ALTER TABLE {table} DROP COLUMN {column}")
    yield Statement("DELETE FROM schema_version WHERE version > 1")


@asynccontextmanager
async def opened(location: str) -> AsyncIterator[Database]:
    database = make_database(location)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def test_a_filled_database_of_version_1_is_upgraded(location: str, tmp_path: Path):
    options = ServerOptions(location, server_file=tmp_path / "server.json")
    async with running_service(options) as server:
        workflow = await begin(server)
    async with opened(location) as database:
        await database.write(as_version_1_left_it)
        assert await applied_version(database) == 1
    assert any("lading db upgrade" in problem for problem in await database_commands.check(location))
    applied = [f"Applied {migration.version:04} {migration.name}." for migration in all_migrations()[1:]]
    assert [line for line in await database_commands.upgrade(location) if line in applied] == applied
    assert await database_commands.check(location) == []
    assert await database_commands.verify(location) == []
    async with running_service(options) as server:
        counts = (await server.ok("GET", f"/workflows/{workflow}/progress"))["counts"]
        assert counts["ready"] == len(SPECIFICATION["jobs"])
        assert len((await sync(server))["shapes_wanted"]) == 1


async def test_a_config_of_a_site_is_the_business_of_its_submitter_alone(server):
    nodes = {**SPECIFICATION["schedulers"]["slurm_schedulers"][0], "site": "north"}
    placed = {**SPECIFICATION, "schedulers": {"slurm_schedulers": [nodes]}}
    made = await server.ok("POST", "/workflow_specifications", json=placed)
    await server.ok("POST", f"/workflows/{made['_key']}/start", json={})
    answer = await sync(server, shape_backends=[])
    assert (answer["launches"], answer["shapes_wanted"]) == ([], [])
    reasons = (await server.ok("GET", f"/workflows/{made['_key']}/progress"))["reasons"]
    assert any("no submitter of site 'north' runs" in reason for reason in reasons)
    there = {"holder": "other", "site": "north"}
    (want,) = (await sync(server, **there))["shapes_wanted"]
    told = {"config_row": want["config_row"], "rev": want["rev"], "shape": SHAPE}
    answer = await sync(server, shapes=[told], **there)
    assert [launch["count"] for launch in answer["launches"]] == [3]
    assert (await sync(server))["launches"] == []
    reasons = (await server.ok("GET", f"/workflows/{made['_key']}/progress"))["reasons"]
    assert not any("no submitter" in reason for reason in reasons)


async def test_a_node_is_told_how_long_its_config_lets_it_stay_idle(server):
    nodes = {**SPECIFICATION["schedulers"]["slurm_schedulers"][0], "idle_minutes": 7, "max_allocations": 1}
    made = await server.ok(
        "POST",
        "/workflow_specifications",
        json={**SPECIFICATION, "schedulers": {"slurm_schedulers": [nodes]}},
    )
    await server.ok("POST", f"/workflows/{made['_key']}/start", json={})
    (launch,) = (await sync(server, shape_backends=[]))["launches"]
    registered = await server.ok(
        "POST", f"/workflows/{made['_key']}/compute_nodes/register",
        json={
            "registration_id": "one", "session_token": "s" * 32, "hostname": "n1", "pid": 1, "boot_id": "b",
            "allocation": launch["allocations"][0],
            "resources": {"num_cpus": 4, "memory_bytes": 2**30},
        },
    )  # fmt: skip
    assert registered["idle_seconds"] == 420.0
