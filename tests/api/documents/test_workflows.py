"""Workflows, their config and status."""

from __future__ import annotations

from typing import Any

from tests.api.documents.conftest import Workflow
from tests.lib.service import Service


async def test_a_workflow_lives_as_the_contract_says(server: Service) -> None:
    stored = await server.ok("POST", "/workflows", json={"user": "u", "name": None})
    key = stored["_key"]
    assert stored == {
        "name": "", "user": "u", "description": "", "timestamp": stored["timestamp"], "is_archived": False,
        "_key": key, "_id": f"workflows/{key}", "_rev": stored["_rev"],
    }  # fmt: skip
    assert stored["timestamp"].endswith("Z")
    assert await server.ok("GET", f"/workflows/workflows%2F{key}") == stored
    changed = await server.ok(
        "PUT", f"/workflows/{key}", json={"user": "u", "is_archived": True, "_rev": stored["_rev"]}
    )
    assert changed == {**stored, "is_archived": True, "_rev": changed["_rev"], "_oldRev": stored["_rev"]}
    assert (await server.call("PUT", f"/workflows/{key}", json=stored)).status == 409
    page = await server.ok("GET", "/workflows", params={"is_archived": "true", "user": "u"})
    assert [item["_key"] for item in page["items"]] == [key]
    assert (await server.ok("DELETE", f"/workflows/{key}"))["_key"] == key
    for path in ("", "/config", "/status", "/jobs", "/collection_names"):
        assert (await server.call("GET", f"/workflows/{key}{path}")).status == 404


async def test_a_workflow_goes_with_everything_in_it(workflow: Workflow) -> None:
    requirements = await workflow.add("resource_requirements", name="r")
    file = await workflow.add("files", path="p")
    await workflow.ok("POST", "bulk_jobs", json={"jobs": [
        {"command": "a", "output_files": [file["_id"]], "resource_requirements": requirements["_id"]},
        {"command": "b", "input_files": [file["_id"]]},
    ]})  # fmt: skip
    await workflow.ok("POST", "events", json={"category": "c"})
    await workflow.server.ok("DELETE", workflow.path)
    assert (await workflow.server.ok("GET", "/workflows"))["items"] == []


async def test_a_chosen_key_names_the_collections(server: Service) -> None:
    await server.ok("POST", "/workflows", json={"user": "u", "_key": "my_flow"})
    answer = await server.call("POST", "/workflows", json={"user": "u", "_key": "my_flow"})
    assert (answer.status, "in use" in answer.error) == (400, True)
    names = (await server.ok("GET", "/workflows/my_flow/collection_names"))["names"]
    assert len(names) == 24
    assert names[:3] == ["events__my_flow", "scheduled_compute_nodes__my_flow", "aws_schedulers__my_flow"]
    assert names[-1] == "stores__my_flow"


async def test_config_is_patched_and_answers_its_new_revision(workflow: Workflow) -> None:
    config = await workflow.ok("GET", "config")
    assert config.items() >= {
        "compute_node_expiration_buffer_seconds": 120, "compute_node_wait_for_new_jobs_seconds": 0,
        "compute_node_ignore_workflow_completion": False,
        "compute_node_wait_for_healthy_database_minutes": 20,
        "prepare_jobs_sort_method": "gpus_runtime_memory",
    }.items()  # fmt: skip
    assert config["compute_node_resource_stats"]["interval"] == 10
    assert await workflow.ok("PUT", "config", json=config) == config

    first = await workflow.ok("PUT", "config", json={"worker_startup_script": "x", "_rev": config["_rev"]})
    assert first == {**config, "worker_startup_script": "x", "_rev": first["_rev"]}
    second = await workflow.ok("PUT", "config", json={**first, "compute_node_wait_for_new_jobs_seconds": 9})
    assert second["_rev"] not in (first["_rev"], config["_rev"])
    await workflow.refused(409, "PUT", "config", json=config)
    cleared = await workflow.ok("PUT", "config", json={"worker_startup_script": None})
    assert "worker_startup_script" not in cleared
    assert "none" in await workflow.refused(400, "PUT", "config", json={"prepare_jobs_sort_method": "x"})
    other = await workflow.server.ok("POST", "/workflows", json={"user": "u"})
    await workflow.refused(400, "PUT", "config", json={"_key": other["_key"]})


async def test_status_is_patched_and_run_id_only_grows(workflow: Workflow) -> None:
    status = await workflow.ok("GET", "status")
    assert status == {
        "run_id": 0, "is_canceled": False, "scheduled_compute_node_ids": [],
        "auto_tune_status": {"enabled": False, "job_keys": []},
        "_key": workflow.key, "_id": f"workflow_statuses/{workflow.key}", "_rev": status["_rev"],
    }  # fmt: skip
    assert await workflow.ok("PUT", "status", json=status) == status
    raised = await workflow.ok("PUT", "status", json={**status, "run_id": 2})
    assert (raised["run_id"], raised["_rev"] != status["_rev"]) == (2, True)
    await workflow.refused(409, "PUT", "status", json=status)
    assert "run_id" in await workflow.refused(400, "PUT", "status", json={**raised, "run_id": 1})
    least: dict[str, Any] = {"run_id": 2, "is_canceled": True, "auto_tune_status": {}}
    assert (await workflow.ok("PUT", "status", json=least))["is_canceled"] is True
    assert "is_canceled" in await workflow.refused(400, "PUT", "status", json={"run_id": 2})


async def test_ping_and_version_need_no_token(server: Service) -> None:
    assert set(await server.ok("GET", "/ping", token=None)) == {"message"}
    assert (await server.ok("GET", "/version", token=None))["version"] == "0.6.4"
