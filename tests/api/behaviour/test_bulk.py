"""Ten thousand jobs in one call: listed, filtered, sorted, paged to the end, with true totals."""

from __future__ import annotations

from typing import Any

from tests.api.behaviour.conftest import Worker
from tests.api.table import Json
from tests.lib.service import Service

JOBS = 10_000


def job(number: int) -> Json:
    return {
        "name": f"n{number % 100:02}", "command": f"c{number // 1000}", "priority": number % 7,
        "supports_termination": number % 4 == 0,
    }  # fmt: skip


async def pages(worker: Worker, limit: int, **query: str) -> tuple[list[Json], int]:
    """Page to the end as the published client does; returns all items and the total."""
    items: list[Json] = []
    while True:
        params: dict[str, Any] = {**query, "skip": str(len(items)), "limit": str(limit)}
        page = await worker.ok("GET", "jobs", params=params)
        items += page["items"]
        assert (page["count"], page["skip"]) == (len(page["items"]), len(items) - page["count"])
        if not page["has_more"]:
            return items, page["total_count"]


async def test_ten_thousand_jobs_in_one_call(server: Service) -> None:
    workflow = (await server.ok("POST", "/workflows", json={"name": "w", "user": "u"}))["_key"]
    worker = Worker(server, workflow)
    answer = await worker.ok("POST", "bulk_jobs", json={"jobs": [job(number) for number in range(JOBS)]})
    assert len(answer["items"]) == JOBS
    everything, total = await pages(worker, 3000)
    assert (everything, total) == (answer["items"], JOBS)
    assert await worker.ok("GET", "job_keys") == {"items": [item["_key"] for item in everything]}

    found, total = await pages(worker, 1000, supports_termination="true", command="c3")
    assert (len(found), total) == (250, 250)
    assert [item["_key"] for item in found] == [
        item["_key"] for item in everything if item["supports_termination"] and item["command"] == "c3"
    ]

    found, total = await pages(worker, 4000, sort_by="name,command", reverse_sort="true")
    expected = sorted(everything, key=lambda item: (item["name"], item["command"]), reverse=True)
    assert [(item["name"], item["command"]) for item in found] == [
        (item["name"], item["command"]) for item in expected
    ]
    assert len({item["_key"] for item in found}) == total == JOBS

    await worker.ok("POST", "initialize_jobs")
    page = await worker.ok("GET", "jobs/find_by_status/ready?limit=3&skip=9998")
    assert (page["count"], page["total_count"], page["has_more"]) == (2, JOBS, False)
    beyond = await worker.ok("GET", f"jobs?skip={JOBS + 5}")
    assert (beyond["items"], beyond["count"], beyond["has_more"]) == ([], 0, False)


async def test_bulk_stores_all_or_nothing(server: Service) -> None:
    workflow = (await server.ok("POST", "/workflows", json={"name": "w", "user": "u"}))["_key"]
    worker = Worker(server, workflow)
    jobs = [job(number) for number in range(50)]
    jobs[42]["input_files"] = ["nowhere"]
    text = await worker.refused(400, "POST", "bulk_jobs", json={"jobs": jobs})
    assert "jobs[42].input_files[0]" in text
    assert (await worker.ok("GET", "jobs"))["total_count"] == 0
    assert await worker.ok("POST", "bulk_jobs", json={"jobs": []}) == {"items": []}
