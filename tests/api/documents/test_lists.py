"""Lists: totals, order, pages and filters, the same on both databases."""

from __future__ import annotations

import pytest

from tests.api.documents.conftest import Workflow

NAMES = ["b", None, "Z", "a", "ä", "b"]


@pytest.fixture
async def files(workflow: Workflow) -> list[str]:
    """Keys of six files, one without a name, two of one name."""
    keys = []
    for number, name in enumerate(NAMES):
        named = {} if name is None else {"name": name}
        keys.append((await workflow.add("files", path=f"p{number}", st_mtime=number / 2, **named))["_key"])
    return keys


async def _names(workflow: Workflow, **params: str) -> list[str | None]:
    page = await workflow.ok("GET", "files", params=params)
    return [item.get("name") for item in page["items"]]


async def test_the_order_is_that_of_insertion(workflow: Workflow, files: list[str]) -> None:
    page = await workflow.ok("GET", "files")
    assert [item["_key"] for item in page["items"]] == files
    backwards = await workflow.ok("GET", "files", params={"reverse_sort": "true"})
    assert [item["_key"] for item in backwards["items"]] == files[::-1]


async def test_a_page_is_a_piece_of_the_whole(workflow: Workflow, files: list[str]) -> None:
    collected, skip = [], 0
    while True:
        page = await workflow.ok("GET", "files", params={"skip": str(skip), "limit": "4", "sort_by": "name"})
        assert (page["skip"], page["max_limit"], page["total_count"]) == (skip, 100_000, 6)
        assert page["count"] == len(page["items"])
        collected += [item["_key"] for item in page["items"]]
        skip += page["count"]
        if not page["has_more"]:
            break
    assert sorted(collected) == sorted(files)
    for params in ({"skip": "6"}, {"skip": "900", "limit": "3"}, {"limit": "0"}):
        page = await workflow.ok("GET", "files", params=params)
        assert (page["items"], page["has_more"], page["total_count"]) == ([], False, 6)
    assert (await workflow.ok("GET", "files", params={"limit": "900000"}))["count"] == 6


async def test_sorting_covers_the_whole_result(workflow: Workflow, files: list[str]) -> None:
    assert await _names(workflow, sort_by="name") == [None, "Z", "a", "b", "b", "ä"]
    assert await _names(workflow, sort_by="name", reverse_sort="true") == ["ä", "b", "b", "a", "Z", None]
    assert await _names(workflow, sort_by="name", limit="2") == [None, "Z"]
    assert await _names(workflow, sort_by="name,st_mtime", limit="2", skip="3") == ["b", "b"]
    page = await workflow.ok("GET", "files", params={"sort_by": "st_mtime", "reverse_sort": "true"})
    assert [item["_key"] for item in page["items"]] == files[::-1]
    page = await workflow.ok("GET", "files", params={"sort_by": "_key"})
    assert [item["_key"] for item in page["items"]] == files
    assert await _names(workflow, sort_by="null") == NAMES


async def test_filters_are_exact(workflow: Workflow, files: list[str]) -> None:
    assert await _names(workflow, name="b") == ["b", "b"]
    assert await _names(workflow, name="b", path="p5") == ["b"]
    assert await _names(workflow, name="B") == []
    assert await _names(workflow, name="b", no_such_filter="x") == ["b", "b"]
    page = await workflow.ok("GET", "files", params={"_key": files[2]})
    assert [item["name"] for item in page["items"]] == ["Z"]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"limit": "-1"}, "limit"),
        ({"skip": "-1"}, "skip"),
        ({"skip": "x"}, "skip"),
        ({"limit": "9223372036854775808"}, "limit"),
        ({"reverse_sort": "perhaps"}, "reverse_sort"),
        ({"sort_by": "colour"}, "st_mtime"),
        ({"sort_by": "name,workflow_id"}, "workflow_id"),
    ],
)
async def test_a_bad_query_is_refused(workflow: Workflow, params: dict[str, str], named: str) -> None:
    assert named in await workflow.refused(400, "GET", "files", params=params)


async def test_scheduler_configs_are_listed_like_the_rest(workflow: Workflow) -> None:
    for nodes, account in ((3, "x"), (1, "y"), (2, "x")):
        await workflow.add("slurm_schedulers", account=account, nodes=nodes)
    await workflow.add("aws_schedulers", name="other kind")
    page = await workflow.ok("GET", "slurm_schedulers", params={"sort_by": "account,nodes", "limit": "2"})
    assert [item["nodes"] for item in page["items"]] == [2, 3]
    assert (page["total_count"], page["has_more"]) == (3, True)
    page = await workflow.ok("GET", "slurm_schedulers", params={"nodes": "1"})
    assert [item["account"] for item in page["items"]] == ["y"]
    page = await workflow.ok("GET", "slurm_schedulers", params={"reverse_sort": "true"})
    assert [item["nodes"] for item in page["items"]] == [2, 1, 3]
    text = await workflow.refused(400, "GET", "slurm_schedulers", params={"sort_by": "colour"})
    assert "walltime" in text
