"""Documents joined with their neighbours over an edge collection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.documents.conftest import Workflow


@pytest.fixture
async def jobs(workflow: Workflow) -> list[dict[str, Any]]:
    """Two jobs that need the same two files; one has a scheduler."""
    files = [await workflow.add("files", path=path, st_mtime=1.5) for path in "ab"]
    config = await workflow.add("slurm_schedulers", account="a", nodes=2)
    ids = [file["_id"] for file in files]
    return [
        await workflow.add("jobs", name="x", command="x", input_files=ids, scheduler=config["_id"]),
        await workflow.add("jobs", name="y", command="y", input_files=ids, priority=3),
    ]


async def test_every_edge_is_one_row(workflow: Workflow, jobs: list[dict[str, Any]]) -> None:
    page = await workflow.ok("POST", "join_by_outbound_edge/jobs/needs", json={})
    assert (page["count"], page["total_count"], page["has_more"]) == (4, 4, False)
    files = (await workflow.ok("GET", "files"))["items"]
    edges = {edge["_key"]: edge for edge in (await workflow.ok("GET", "edges/needs"))["items"]}
    pairs = []
    for row in page["items"]:
        assert set(row) == {"from", "to", "edge"}
        assert row["edge"] == edges[row["edge"]["_key"]]
        assert (row["edge"]["_from"], row["edge"]["_to"]) == (row["from"]["_id"], row["to"]["_id"])
        pairs.append((row["from"], row["to"]))
    assert pairs == [(job, file) for job in jobs for file in files]

    inbound = await workflow.ok("POST", "join_by_inbound_edge/files/needs", json={})
    assert [(row["from"], row["to"]) for row in inbound["items"]] == [
        (job, file) for file in files for job in jobs
    ]


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ({"name": "x"}, 2), ({"name": "x", "command": "y"}, 0), ({"priority": 3}, 2), ({"priority": "3"}, 0),
        ({"supports_termination": False}, 4), ({"no_such_member": None}, 0), ({"name": 5}, 0),
    ],
)  # fmt: skip
async def test_the_body_is_a_filter(
    workflow: Workflow, jobs: list[dict[str, Any]], filters: dict[str, Any], number: int
) -> None:
    page = await workflow.ok("POST", "join_by_outbound_edge/jobs/needs", json=filters)
    assert page["count"] == number


async def test_pages_hold_every_row_once(workflow: Workflow, jobs: list[dict[str, Any]]) -> None:
    path = "join_by_outbound_edge/jobs/needs"
    keys, skip = [], 0
    while True:
        page = await workflow.ok("POST", path, json={}, params={"skip": str(skip), "limit": "3"})
        keys += [row["edge"]["_key"] for row in page["items"]]
        skip += page["count"]
        if not page["has_more"]:
            break
    assert len(keys) == len(set(keys)) == page["total_count"] == 4
    one = await workflow.ok("POST", path, json={"_key": jobs[1]["_key"]})
    assert {row["from"]["name"] for row in one["items"]} == {"y"}


async def test_schedulers_are_told_apart_by_kind(workflow: Workflow, jobs: list[dict[str, Any]]) -> None:
    [row] = (await workflow.ok("POST", "join_by_outbound_edge/jobs/scheduled_bys", json={}))["items"]
    assert row["to"]["account"] == "a"
    path = "join_by_inbound_edge/{}/scheduled_bys"
    found = await workflow.ok("POST", path.format("slurm_schedulers"), json={"nodes": 2})
    assert [item["from"] for item in found["items"]] == [jobs[0]]
    assert (await workflow.ok("POST", path.format("local_schedulers"), json={}))["items"] == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("join_by_outbound_edge/jobs/likes", "scheduled_bys"),
        ("join_by_outbound_edge/files/needs", "jobs"),
        ("join_by_inbound_edge/nothing/needs", "files"),
    ],
)
async def test_unknown_names_are_refused(workflow: Workflow, path: str, named: str) -> None:
    assert named in await workflow.refused(400, "POST", path, json={})
