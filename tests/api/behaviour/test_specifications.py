"""Specifications that come back: what was stored, exported and stored again is the same workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lading.api.server_process import ServerOptions
from tests.api.behaviour.conftest import stored
from tests.api.table import Json
from tests.lib.service import Service, running_service

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12
).filter(lambda text: text == text.strip())


@st.composite
def specifications(draw: st.DrawFn) -> Json:
    """Draw a workflow whose jobs only wait for earlier ones."""

    def some(collection: list[str], most: int) -> list[str]:
        return draw(st.lists(st.sampled_from(collection), max_size=most, unique=True)) if collection else []

    def flag() -> bool:
        return draw(st.booleans())

    def unique(most: int) -> list[str]:
        return draw(st.lists(names, max_size=most, unique=True))

    files, data, requirements, jobs = unique(5), unique(3), unique(2), unique(6)
    free_files, free_data = list(files), list(data)
    document: Json = {
        "name": draw(names), "user": "ana", "description": draw(st.text("ab \n\"'é", max_size=9)),
        "files": [{"name": name, "path": f"p/{number}"} for number, name in enumerate(files)],
        "user_data": [
            {"name": name, "data": {"v": number}, "is_ephemeral": flag()}
            for number, name in enumerate(data)
        ],
        "resource_requirements": [
            {"name": name, "num_cpus": draw(st.integers(1, 9)), "memory": "2g", "runtime": "P0DT1H"}
            for name in requirements
        ],
        "schedulers": {"slurm_schedulers": [{"name": "s", "account": "a", "nodes": 2, "qos": "high"}]},
        "config": {"compute_node_wait_for_new_jobs_seconds": draw(st.integers(0, 9))},
        "jobs": [],
    }  # fmt: skip
    for number, name in enumerate(jobs):
        job: Json = {"name": name, "command": f"run {number}"}
        # Only what an earlier job writes, and nothing that this one writes: no circles.
        job["input_files"] = some([file for file in files if file not in free_files], 3)
        job["input_user_data"] = some([item for item in data if item not in free_data], 2)
        job["output_files"] = some(free_files, 2)
        job["output_user_data"] = some(free_data, 1)
        free_files = [file for file in free_files if file not in job["output_files"]]
        free_data = [item for item in free_data if item not in job["output_user_data"]]
        job["blocked_by"] = some(jobs[:number], 2)
        job["supports_termination"] = flag()
        job["cancel_on_blocking_job_failure"] = flag()
        if requirements and flag():
            job["resource_requirements"] = draw(st.sampled_from(requirements))
        if flag():
            job["scheduler"] = "slurm_schedulers/s"
            job["invocation_script"] = "bash env.sh"
        document["jobs"].append({name: value for name, value in job.items() if value != []})
    return document


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    location = tmp_path_factory.mktemp("specifications") / "lading.db"
    async with running_service(ServerOptions(str(location), synchronous="NORMAL")) as service:
        yield service


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=specifications())
async def test_an_export_can_be_posted_again(document: Json, one_server: Service) -> None:
    first = await stored(one_server, document)
    exported = await one_server.ok("GET", f"/workflow_specifications/{first.workflow}")
    second = await stored(one_server, exported)
    assert await one_server.ok("GET", f"/workflow_specifications/{second.workflow}") == exported
    # An edge that files or user data imply is left out, also if somebody wrote it down; it comes back.
    for worker in (first, second):
        await worker.ok("POST", "initialize_jobs?clear_ephemeral_user_data=false")
    assert await shape(one_server, first.workflow) == await shape(one_server, second.workflow)
    # Edges that follow from files and user data are not written down as if somebody had asked for them.
    again = await one_server.ok("GET", f"/workflow_specifications/{first.workflow}")
    assert again == exported


async def shape(server: Service, workflow: str) -> Json:
    """Return a workflow with names in place of ids."""
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    for collection in ("files", "user_data", "resource_requirements", "slurm_schedulers", "jobs"):
        items = (await server.ok("GET", f"/workflows/{workflow}/{collection}"))["items"]
        names |= {item["_id"]: f"{collection}/{item['name']}" for item in items}
        found[collection] = [
            {name: value for name, value in item.items() if name[0] != "_" and name != "internal"}
            for item in items
        ]
    for edge in ("blocks", "needs", "produces", "consumes", "stores", "requires", "scheduled_bys"):
        items = (await server.ok("GET", f"/workflows/{workflow}/edges/{edge}"))["items"]
        found[edge] = sorted((names[item["_from"]], names[item["_to"]]) for item in items)
    config = await server.ok("GET", f"/workflows/{workflow}/config")
    found["config"] = {name: value for name, value in config.items() if name[0] != "_"}
    return found


async def test_the_example_runs_and_the_template_can_be_filled_in(server: Service) -> None:
    example = await server.ok("GET", "/workflow_specifications/example")
    assert [job["name"] for job in example["jobs"]] == ["work", "postprocess"]
    assert len(example["files"]) == 5
    assert [item["name"] for item in example["resource_requirements"]] == ["small", "medium"]
    worker = await stored(server, example)
    await worker.begin()
    assert await worker.run_all() == ["work", "postprocess"]

    template = await server.ok("GET", "/workflow_specifications/template")
    assert (template["jobs"], "user_data" in template) == ([], False)
    filled = {**template, "name": "mine", "jobs": [{"name": "j", "command": "true"}]}
    worker = await stored(server, filled)
    await worker.begin()
    assert await worker.run_all() == ["j"]


async def test_a_job_may_wait_for_a_later_one_and_ask_for_allocations_by_name(server: Service) -> None:
    document = {
        "name": "w", "schedulers": {"slurm_schedulers": [{"name": "gpu", "account": "a", "nodes": 1}]},
        "jobs": [
            {"name": "b", "command": "c", "blocked_by": ["a"], "schedule_compute_nodes":
                {"scheduler_id": "slurm_schedulers/gpu", "num_jobs": 3}},
            {"name": "a", "command": "c"},
        ],
    }  # fmt: skip
    worker = await stored(server, document)
    await worker.begin()
    assert await worker.run_all() == ["a", "b"]
    config = await worker.document("slurm_schedulers", "gpu")
    job = await worker.document("jobs", "b")
    assert job["schedule_compute_nodes"]["scheduler_id"] == config["_id"]
    exported = await server.ok("GET", f"/workflow_specifications/{worker.workflow}")
    assert exported["jobs"][0]["schedule_compute_nodes"]["scheduler_id"] == "slurm_schedulers/gpu"


async def test_names_that_repeat_come_out_unique(server: Service) -> None:
    key = (await server.ok("POST", "/workflows", json={"name": "w", "user": "u"}))["_key"]
    file = await server.ok("POST", f"/workflows/{key}/files", json={"name": "same", "path": "a"})
    await server.ok("POST", f"/workflows/{key}/files", json={"name": "same", "path": "b"})
    for _ in range(2):
        job = {"name": "same", "command": "c", "input_files": [file["_id"]]}
        await server.ok("POST", f"/workflows/{key}/jobs", json=job)
    exported = await server.ok("GET", f"/workflow_specifications/{key}")
    worker = await stored(server, exported)
    assert len(await worker.statuses()) == 2
