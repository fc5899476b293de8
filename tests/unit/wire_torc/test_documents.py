"""The wire models alone: what converts, what is refused and with which words, what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lading.api.services.documents.workflows import default_config
from lading.toolkit.wire import torc
from lading.toolkit.wire.fields import NESTING_MAX


def _nested(depth: int) -> dict[str, Any]:
    return {"x": _nested(depth - 1)} if depth else {}


def _refusal(model: type[torc.Part], body: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return "; ".join(f"{error['loc']}: {error['msg']}" for error in caught.value.errors())


def test_text_that_looks_like_a_number_or_boolean_converts() -> None:
    document = torc.ComputeNode.model_validate(
        {"hostname": "n", "pid": "7", "start_time": "t", "is_active": "true",
         "resources": {"num_cpus": 4.0, "memory_gb": "1.5", "time_limit": None, "scheduler_config_id": None}}
    ).filled()  # fmt: skip
    assert (document["pid"], document["is_active"]) == (7, True)
    assert document["resources"] == {
        "num_cpus": 4, "memory_gb": 1.5, "num_gpus": 0, "num_nodes": 1, "scheduler_config_id": "",
    }  # fmt: skip


def test_whole_numbers_are_printed_as_integers() -> None:
    document = torc.WorkflowConfig.model_validate({"compute_node_wait_for_new_jobs_seconds": 3.0}).sent()
    assert repr(document) == "{'compute_node_wait_for_new_jobs_seconds': 3}"


def test_the_default_config_is_the_same_on_the_wire_and_in_specifications() -> None:
    assert torc.WorkflowConfig.model_validate({}).filled() == default_config()


def test_a_patch_holds_only_what_was_sent() -> None:
    patch = torc.File.model_validate({"path": "p", "name": None, "_rev": "_3", "_oldRev": "_2"})
    assert patch.sent() == {"path": "p", "name": None, "_rev": "_3"}


def test_nested_objects_are_replaced_whole() -> None:
    patch = torc.WorkflowConfig.model_validate({"compute_node_resource_stats": {"cpu": False}}).sent()
    assert patch["compute_node_resource_stats"]["interval"] == 10


def test_null_inside_free_objects_is_kept() -> None:
    data = {"a": None, "b": [None, {"c": None}]}
    assert torc.UserData.model_validate({"data": data}).filled()["data"] == data


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (torc.ResourceRequirements, {"runtime_seconds": 5, "memory_bytes": 6}),
        (torc.WorkflowStatus,
         {"run_id": 1, "is_canceled": False, "auto_tune_status": {"disabled": True},
          "scheduled_compute_node_ids": []}),
        (torc.ScheduledComputeNode,
         {"scheduler_config_id": "x", "status": "pending", "reason": "why", "created_ms": 5}),
    ],
)  # fmt: skip
def test_what_answers_carry_may_be_sent_back(model: type[torc.Part], body: dict[str, Any]) -> None:
    patch = model.model_validate(body).sent()
    assert model.read_only.isdisjoint(patch)


@pytest.mark.parametrize(
    ("model", "body", "named"),
    [
        (torc.File, {"path": "a\0b"}, "NUL"),
        (torc.File, {"path": "a", "st_mtime": float("nan")}, "finite"),
        (torc.File, {"path": 3}, "path"),
        (torc.File, {"path": ""}, "path"),
        (torc.File, {"path": "a", "id": "x"}, "id"),
        (torc.File, [], "dictionary"),
        (torc.UserData, {"data": {"x": [2**63]}}, "64 bits"),
        (torc.UserData, {"data": {"x\0": 1}}, "NUL"),
        (torc.UserData, {"data": {"x": "\ud800"}}, "surrogate"),
        (torc.UserData, {"data": {"x": float("inf")}}, "finite"),
        (torc.UserData, {"data": _nested(NESTING_MAX + 1)}, "nested deeper"),
        (torc.UserData, {"is_ephemeral": 1}, "true and false"),
        (torc.UserData, {"is_ephemeral": None}, "true and false"),
        (torc.ResourceRequirements, {"num_cpus": True}, "boolean"),
        (torc.ResourceRequirements, {"num_cpus": 1.5}, "num_cpus"),
        (torc.ResourceRequirements, {"num_cpus": 2**63}, "num_cpus"),
        (torc.ResourceRequirements, {"memory": "1.5g"}, "1536m"),
        (torc.ResourceRequirements, {"memory": "{braces}"}, "{braces}"),
        (torc.ResourceRequirements, {"runtime": "P1Y"}, "years"),
        (torc.SlurmScheduler, {"account": "a", "nodes": 1, "walltime": "2h"}, "02:00:00"),
        (torc.LocalScheduler, {"min_allocations": 3, "max_allocations": 2}, "min_allocations"),
        (torc.Job, {"command": "x", "status": "finished"}, "uninitialized"),
        (torc.Job, {"command": "x", "retries": -1}, "retries"),
        (torc.WorkflowConfig, {"compute_node_expiration_buffer_seconds": -1}, "greater than or equal"),
    ],
)
def test_what_is_refused_is_named(model: type[torc.Part], body: Any, named: str) -> None:
    assert named in _refusal(model, body)


def test_the_border_depth_is_accepted() -> None:
    torc.UserData.model_validate({"data": _nested(NESTING_MAX)})
