"""The eleven edge collections, rows and views alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.documents.conftest import Workflow

NAMES = (
    "blocks", "consumes", "executed", "needs", "node_used", "process_used", "produces", "requires",
    "returned", "scheduled_bys", "stores",
)  # fmt: skip


@dataclass(slots=True)
class Ends:
    """Documents of every collection: base name -> _id; `jobs` has two."""

    workflow: Workflow
    ids: dict[str, str]
    other_job: str

    def of(self, name: str) -> tuple[str, str]:
        target = {
            "blocks": self.other_job, "consumes": "user_data", "needs": "files", "produces": "files",
            "requires": "resource_requirements", "scheduled_bys": "slurm_schedulers", "stores": "user_data",
            "node_used": "compute_node_stats", "process_used": "job_process_stats", "returned": "results",
            "executed": "jobs",
        }[name]  # fmt: skip
        source = "compute_nodes" if name in {"node_used", "executed"} else "jobs"
        return self.ids[source], self.ids.get(target, target)


@pytest.fixture
async def ends(workflow: Workflow) -> Ends:
    job = await workflow.add("jobs", command="a")
    other = await workflow.add("jobs", command="b", _key="chosen")
    documents: dict[str, dict[str, Any]] = {
        "user_data": {}, "files": {"path": "p"}, "resource_requirements": {},
        "slurm_schedulers": {"account": "a", "nodes": 1},
        "compute_nodes": {
            "hostname": "n", "pid": 1, "start_time": "t", "resources": {"num_cpus": 1, "memory_gb": 1},
        },
        "compute_node_stats": {"hostname": "n", "timestamp": "t"},
        "job_process_stats": {
            "job_key": job["_key"], "run_id": 1, "avg_cpu_percent": 1, "max_cpu_percent": 1, "avg_rss": 1,
            "max_rss": 1, "num_samples": 1, "timestamp": "t",
        },
        "results": {
            "job_key": job["_key"], "run_id": 1, "return_code": 0, "exec_time_minutes": 1,
            "completion_time": "t", "status": "done",
        },
    }  # fmt: skip
    ids = {name: (await workflow.add(name, **document))["_id"] for name, document in documents.items()}
    return Ends(workflow, {**ids, "jobs": job["_id"]}, other["_id"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "executed"])
async def test_an_edge_lives_as_the_contract_says(workflow: Workflow, ends: Ends, name: str) -> None:
    source, target = ends.of(name)
    path = f"edges/{name}"
    edge = await workflow.ok("POST", path, json={"_from": source, "_to": target})
    key = edge["_key"]
    assert edge == {
        "_from": source, "_to": target, "_key": key, "_id": workflow.id_of(name, key), "_rev": edge["_rev"],
    }  # fmt: skip
    # Making it again makes no second one.
    assert await workflow.ok("POST", path, json={"_from": source, "_to": target}) == edge
    encoded = edge["_id"].replace("/", "%2F")
    assert await workflow.ok("GET", f"{path}/{key}") == edge
    assert await workflow.ok("GET", f"{path}/{encoded}") == edge
    page = await workflow.ok("GET", path)
    assert (page["items"], page["total_count"]) == ([edge], 1)
    await workflow.refused(405, "PUT", f"{path}/{key}", json=edge)
    assert await workflow.ok("DELETE", f"{path}/{key}") == edge
    await workflow.refused(404, "GET", f"{path}/{key}")
    await workflow.refused(404, "DELETE", f"{path}/{key}")

    await workflow.ok("POST", path, json={"_from": source, "_to": target})
    assert set(await workflow.ok("DELETE", path)) == {"message"}
    assert (await workflow.ok("GET", path))["items"] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"executed", "blocks"}])
async def test_an_edge_goes_with_its_end(workflow: Workflow, ends: Ends, name: str) -> None:
    source, target = ends.of(name)
    await workflow.ok("POST", f"edges/{name}", json={"_from": source, "_to": target})
    collection, _, key = target.partition("/")
    await workflow.ok("DELETE", f"{collection.partition('__')[0]}/{key}")
    assert (await workflow.ok("GET", f"edges/{name}"))["items"] == []


@pytest.mark.parametrize("name", NAMES)
async def test_bad_ends_are_refused(workflow: Workflow, ends: Ends, name: str) -> None:
    source, target = ends.of(name)
    for bad_source, bad_target, field in (
        (target if name != "blocks" else "files__1/1", target, "_from"),
        (source, "events__1/1", "_to"),
        (source, target + "9", "_to"),
        (source, "nonsense", "_to"),
        (source, target.replace(f"__{workflow.key}/", "__0/"), "_to"),
    ):
        text = await workflow.refused(
            400, "POST", f"edges/{name}", json={"_from": bad_source, "_to": bad_target}
        )
        assert field in text
    assert (await workflow.ok("GET", f"edges/{name}"))["items"] == []


async def test_unknown_names_are_not_found(workflow: Workflow) -> None:
    body = {"_from": "a/b", "_to": "c/d"}
    for method, path in (("GET", "x"), ("POST", "x"), ("DELETE", "x"), ("GET", "x/1"), ("DELETE", "jobs/1")):
        text = await workflow.refused(404, method, f"edges/{path}", json=body if method == "POST" else None)
        assert "scheduled_bys" in text


async def test_stored_edges_carry_a_key_and_data(workflow: Workflow, ends: Ends) -> None:
    source, target = ends.of("needs")
    body = {"_from": source, "_to": target, "_key": "mine", "data": {"x": [1]}}
    edge = await workflow.ok("POST", "edges/needs", json=body)
    assert edge == {**body, "_id": workflow.id_of("needs", "mine"), "_rev": edge["_rev"]}
    await workflow.refused(409, "POST", "edges/needs", json={**body, "data": {"x": 2}})
    await workflow.refused(400, "POST", "edges/needs", json={**body, "_from": ends.other_job})
    source, target = ends.of("requires")
    await workflow.refused(
        400, "POST", "edges/requires", json={"_from": source, "_to": target, "data": {"x": 1}}
    )


async def test_a_file_has_one_producer(workflow: Workflow, ends: Ends) -> None:
    source, target = ends.of("produces")
    await workflow.ok("POST", "edges/produces", json={"_from": source, "_to": target})
    text = await workflow.refused(
        400, "POST", "edges/produces", json={"_from": ends.other_job, "_to": target}
    )
    assert "remove that first" in text


async def test_an_executed_edge_cannot_be_posted(workflow: Workflow, ends: Ends) -> None:
    source, target = ends.of("executed")
    await workflow.refused(400, "POST", "edges/executed", json={"_from": source, "_to": target})
    assert set(await workflow.ok("DELETE", "edges/executed")) == {"message"}
    await workflow.refused(404, "GET", "edges/executed/1")
