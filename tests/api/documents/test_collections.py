"""Every collection: the shape of its answers, what it keeps, what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.api.documents.conftest import Workflow


@dataclass(frozen=True)
class Sample:
    """A collection and documents of it; `{job}` and `{scheduler}` become a job's key, a config's _id."""

    collection: str
    least: dict[str, Any]
    """Only what is required."""
    defaults: dict[str, Any]
    """What the server adds."""
    change: dict[str, Any]
    bad: dict[str, Any] = field(default_factory=lambda: {"no_such_field": 1})


SAMPLES = [
    Sample("files", {"path": "a.txt"}, {}, {"st_mtime": 1694454000.25}, {"path": ""}),
    Sample("user_data", {}, {"is_ephemeral": False}, {"data": {"x": [1, None]}}, {"data": 3}),
    Sample(
        "resource_requirements", {},
        {"num_cpus": 1, "num_gpus": 0, "num_nodes": 1, "memory": "1m", "runtime": "P0DT1M"},
        {"memory": "2g", "num_cpus": 4}, {"memory": "1.5g"},
    ),
    Sample(
        "results",
        {"job_key": "{job}", "run_id": 1, "return_code": 0, "exec_time_minutes": 3.5,
         "completion_time": "2024-05-02T10:11:12.5", "status": "done"},
        {}, {"return_code": 2},
        {"job_key": "{job}", "run_id": 1, "return_code": 0, "exec_time_minutes": 1,
         "completion_time": "now", "status": "finished"},
    ),
    Sample(
        "compute_nodes",
        {"hostname": "n1", "pid": 7, "start_time": "t", "resources": {"num_cpus": 4, "memory_gb": 7.5}},
        {"scheduler": {}}, {"is_active": False, "duration_seconds": 12},
        {"hostname": "n1", "pid": 7, "start_time": "t", "resources": {"num_cpus": 4}},
    ),
    Sample(
        "compute_node_stats", {"hostname": "n1", "timestamp": "t"}, {"stats": []},
        {"stats": [{"resource_type": "CPU", "average": {"a": 1.5}, "minimum": {}, "maximum": {},
                    "num_samples": 3}]},
        {"hostname": "n1"},
    ),
    Sample(
        "job_process_stats",
        {"job_key": "{job}", "run_id": 1, "avg_cpu_percent": 5, "max_cpu_percent": 9.5, "avg_rss": 1,
         "max_rss": 2, "num_samples": 3, "timestamp": "t"},
        {}, {"max_rss": 5},
    ),
    Sample(
        "scheduled_compute_nodes", {"scheduler_config_id": "{scheduler}", "status": "pending"}, {},
        {"status": "active", "scheduler_id": "123"},
        {"scheduler_config_id": "{scheduler}", "status": "waiting"},
    ),
    Sample("local_schedulers", {}, {"name": "default"}, {"num_cpus": 3, "max_allocations": 2},
           {"memory": "many"}),
    Sample("slurm_schedulers", {"account": "a", "nodes": 1}, {"qos": "normal"},
           {"walltime": "04:00:00", "gres": "gpu:1"}, {"account": "a", "nodes": 0}),
    Sample("aws_schedulers", {}, {}, {"name": "spot", "idle_minutes": 5}, {"idle_minutes": -1}),
]  # fmt: skip


@pytest.fixture(params=SAMPLES, ids=lambda sample: sample.collection)
async def sample(request: pytest.FixtureRequest, workflow: Workflow) -> Sample:
    """Each collection, its references filled in."""
    given: Sample = request.param
    job = await workflow.add("jobs", name="j", command="true")
    config = await workflow.add("local_schedulers", name="reference")

    def fill(document: dict[str, Any]) -> dict[str, Any]:
        places = {"{job}": job["_key"], "{scheduler}": config["_id"]}
        return {
            name: places.get(value, value) if isinstance(value, str) else value
            for name, value in document.items()
        }

    if given.collection == "local_schedulers":
        await workflow.ok("DELETE", "local_schedulers")
    return Sample(given.collection, fill(given.least), given.defaults, given.change, fill(given.bad))


async def test_a_document_lives_as_the_contract_says(workflow: Workflow, sample: Sample) -> None:
    base = sample.collection
    stored = await workflow.add(base, **sample.least)
    key = stored["_key"]
    given: dict[str, Any] = {name: stored[name] for name in ("created_ms", "resources") if name in stored}
    given |= {"_key": key, "_id": workflow.id_of(base, key), "_rev": stored["_rev"]}
    assert stored == sample.defaults | sample.least | given
    assert int(key) > 0

    encoded = workflow.id_of(base, key).replace("/", "%2F")
    assert await workflow.ok("GET", f"{base}/{key}") == stored
    assert await workflow.ok("GET", f"{base}/{encoded}") == stored

    # What was read can be sent back as it is, and changes nothing.
    echo = await workflow.ok("PUT", f"{base}/{key}", json=stored)
    assert echo == {**stored, "_oldRev": stored["_rev"]}
    assert (await workflow.ok("PUT", f"{base}/{key}", json=echo))["_rev"] == stored["_rev"]

    changed = await workflow.ok(
        "PUT", f"{base}/{key}", json={**sample.least, **sample.change, "_rev": stored["_rev"]}
    )
    assert changed["_rev"] != stored["_rev"]
    assert changed["_oldRev"] == stored["_rev"]
    assert changed.items() >= sample.change.items()
    del changed["_oldRev"]
    assert await workflow.ok("GET", f"{base}/{key}") == changed

    page = await workflow.ok("GET", base)
    assert page == {
        "items": [changed], "skip": 0, "max_limit": 100_000, "count": 1, "total_count": 1, "has_more": False,
    }  # fmt: skip
    assert await workflow.ok("DELETE", f"{base}/{encoded}") == changed
    assert (await workflow.ok("GET", base))["items"] == []
    await workflow.refused(404, "GET", f"{base}/{key}")

    await workflow.add(base, **sample.least)
    answer = await workflow.ok("DELETE", base)
    assert set(answer) == {"message"}
    assert (await workflow.ok("GET", base))["total_count"] == 0


async def test_what_is_refused_changes_nothing(workflow: Workflow, sample: Sample) -> None:
    base = sample.collection
    stored = await workflow.add(base, **sample.least)
    one = f"{base}/{stored['_key']}"

    await workflow.refused(400, "POST", base, json=sample.bad)
    assert "no_such_field" in await workflow.refused(
        400, "POST", base, json={**sample.least, "no_such_field": 1}
    )
    assert "_rev" in await workflow.refused(400, "PUT", one, json=sample.least)
    assert "_key" in await workflow.refused(
        400, "PUT", one, json={**sample.least, "_key": "other", "_rev": stored["_rev"]}
    )
    assert "stale" in await workflow.refused(409, "PUT", one, json={**sample.least, "_rev": "_77"})
    assert "stale" in await workflow.refused(409, "PUT", one, json={**sample.least, "_rev": "nonsense"})
    for key in ("999999", "nothing", "9" * 30, f"other__{workflow.key}%2F{stored['_key']}", f"{base}__0%2F1"):
        document = {**sample.least, "_rev": "_1"}
        await workflow.refused(404, "GET", f"{base}/{key}")
        await workflow.refused(404, "PUT", f"{base}/{key}", json=document)
        await workflow.refused(404, "DELETE", f"{base}/{key}")
    for method, body in (("GET", None), ("POST", sample.least), ("DELETE", None)):
        answer = await workflow.server.call(method, f"/workflows/none/{base}", json=body)
        assert answer.status == 404
    assert await workflow.ok("GET", one) == stored
    assert (await workflow.ok("GET", base))["total_count"] == 1


async def test_a_key_may_be_chosen_once(workflow: Workflow, sample: Sample) -> None:
    base = sample.collection
    stored = await workflow.add(base, **{**sample.least, "_key": "my-key_1", "_rev": "x", "_id": "y"})
    assert (stored["_key"], stored["_id"]) == ("my-key_1", workflow.id_of(base, "my-key_1"))
    assert "in use" in await workflow.refused(400, "POST", base, json={**sample.least, "_key": "my-key_1"})
    assert "_key" in await workflow.refused(400, "POST", base, json={**sample.least, "_key": "a/b"})
    found = await workflow.ok("GET", base, params={"_key": "my-key_1"})
    assert [item["_key"] for item in found["items"]] == ["my-key_1"]


async def test_repeating_with_an_idempotency_key_stores_once(workflow: Workflow, sample: Sample) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await workflow.ok("POST", sample.collection, json=sample.least, headers=headers)
    assert await workflow.ok("POST", sample.collection, json=sample.least, headers=headers) == first
    assert (await workflow.ok("GET", sample.collection))["total_count"] == 1


async def test_null_clears_what_may_be_absent(workflow: Workflow) -> None:
    file = await workflow.add("files", path="p", name="n", st_mtime=1.5)
    changed = await workflow.ok(
        "PUT", f"files/{file['_key']}", json={"path": "p", "name": None, "_rev": file["_rev"]}
    )
    assert "name" not in changed
    assert changed["st_mtime"] == 1.5
    config = await workflow.add("slurm_schedulers", account="a", nodes=1, gres="gpu:1")
    changed = await workflow.ok(
        "PUT", f"slurm_schedulers/{config['_key']}",
        json={"account": "a", "nodes": 1, "gres": None, "_rev": config["_rev"]},
    )  # fmt: skip
    assert "gres" not in changed


async def test_text_that_looks_like_a_number_is_one(workflow: Workflow) -> None:
    stored = await workflow.add("resource_requirements", num_cpus="3", num_gpus=0.0, runtime="2h30m")
    assert (stored["num_cpus"], stored["num_gpus"]) == (3, 0)
    assert stored["runtime"] == "P0DT2H30M0S"


async def test_references_must_lead_somewhere(workflow: Workflow) -> None:
    result = {
        "run_id": 1, "return_code": 0, "exec_time_minutes": 1, "completion_time": "t", "status": "done",
    }  # fmt: skip
    assert "no such job" in await workflow.refused(400, "POST", "results", json={**result, "job_key": "77"})
    for config in ("77", "local_schedulers__0/1", f"files__{workflow.key}/1"):
        text = await workflow.refused(
            400, "POST", "scheduled_compute_nodes", json={"scheduler_config_id": config, "status": "pending"}
        )
        assert config in text


async def test_events_are_stamped_by_the_server(workflow: Workflow) -> None:
    event = await workflow.ok(
        "POST", "events", json={"category": "user", "type": "note", "timestamp": 1, "x": [1]}
    )
    assert event.items() >= {"category": "user", "type": "note", "x": [1]}.items()
    assert event["timestamp"] > 1_600_000_000_000
    other = await workflow.ok("POST", "events", json={"category": 7, "_key": "mine"})
    assert other["_id"] == workflow.id_of("events", "mine")
    assert await workflow.ok("GET", "events/mine") == other

    page = await workflow.ok("GET", "events", params={"category": "user"})
    assert page["items"] == [event]
    changed = await workflow.ok(
        "PUT", f"events/{event['_key']}", json={"category": "b", "_rev": event["_rev"], "timestamp": 5}
    )
    assert changed == {**event, "category": "b", "_rev": changed["_rev"], "_oldRev": event["_rev"]}
    assert (await workflow.ok("GET", "latest_event_timestamp"))["timestamp"] == other["timestamp"]

    after = await workflow.ok("GET", f"events_after_timestamp/{event['timestamp'] - 1}.5")
    assert [item["_key"] for item in after["items"]] == [event["_key"], "mine"]
    only = await workflow.ok("GET", "events_after_timestamp/0", params={"category": "b"})
    assert [item["_key"] for item in only["items"]] == [event["_key"]]
    assert (await workflow.ok("GET", f"events_after_timestamp/{other['timestamp']}"))["items"] == []
    await workflow.refused(404, "GET", "events_after_timestamp/yesterday")

    assert await workflow.ok("DELETE", "events/mine") == other
    await workflow.ok("DELETE", "events")
    assert await workflow.ok("GET", "latest_event_timestamp") == {"timestamp": None}
