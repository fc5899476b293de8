"""A workflow that is driven through the published endpoints as torc's own worker does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.table import Json
from tests.lib.service import Service

NODE = {"num_cpus": 64, "memory_gb": 256, "num_gpus": 4}

DIAMOND: Json = {
    "name": "diamond", "user": "ana",
    "files": [{"name": name, "path": f"{name}.txt"} for name in ("in", "left", "right", "mid", "end")],
    "jobs": [
        {"name": "split", "command": "split", "input_files": ["in"], "output_files": ["left", "right"]},
        {"name": "west", "command": "west", "input_files": ["left"], "output_files": ["mid"]},
        {"name": "east", "command": "east", "input_files": ["right"], "output_files": ["end"]},
        {"name": "merge", "command": "merge", "input_files": ["mid", "end"]},
    ],
}  # fmt: skip


@dataclass(slots=True)
class Worker:
    """What a worker of torc 0.6 calls, in its order."""

    server: Service
    workflow: str
    node: str = ""

    async def ok(self, method: str, path: str, **given: Any) -> Any:
        return await self.server.ok(method, f"/workflows/{self.workflow}/{path}", **given)

    async def refused(self, status: int, method: str, path: str, **given: Any) -> str:
        answer = await self.server.call(method, f"/workflows/{self.workflow}/{path}", **given)
        assert answer.status == status, answer.content
        return answer.error

    async def begin(self) -> None:
        """Start a run as torc's command does."""
        await self.ok("POST", "reset_status")
        await self.ok("POST", "reset_job_status")
        await self.raise_run_id()
        await self.ok("POST", "initialize_jobs")

    async def raise_run_id(self) -> int:
        status = await self.ok("GET", "status")
        await self.ok("PUT", "status", json={**status, "run_id": status["run_id"] + 1})
        return int(status["run_id"]) + 1

    async def claim(self, **query: str) -> list[Json]:
        answer = await self.ok("POST", "prepare_jobs_for_submission", json=NODE, params=query)
        jobs: list[Json] = answer["jobs"]
        return jobs

    async def run(self, job: Json, *, return_code: int = 0, minutes: float = 1.0) -> Json:
        """Confirm a claimed job and complete it."""
        run_id = (await self.ok("GET", "status"))["run_id"]
        if not self.node:
            node = {"hostname": "n", "pid": 1, "start_time": "2026-01-01T00:00:00", "resources": NODE}
            self.node = (await self.ok("POST", "compute_nodes", json=node))["_key"]
        path = f"jobs/{job['_key']}/start_job/{job['_rev']}/{run_id}/{self.node}"
        job = await self.ok("PUT", path)
        result = {
            "job_key": job["_key"], "run_id": run_id, "return_code": return_code,
            "exec_time_minutes": minutes, "completion_time": "2026-01-01T00:00:00", "status": "done",
        }  # fmt: skip
        path = f"jobs/{job['_key']}/complete_job/done/{job['_rev']}/{run_id}/{self.node}"
        done: Json = await self.ok("POST", path, json=result)
        return done

    async def run_all(self, failing: frozenset[str] = frozenset()) -> list[str]:
        """Run what can be claimed until nothing is left; returns the names in order."""
        names = []
        while jobs := await self.claim():
            for job in jobs:
                await self.run(job, return_code=int(job["name"] in failing))
                names.append(job["name"])
        return names

    async def statuses(self) -> dict[str, str]:
        return {job["name"]: job["status"] for job in (await self.ok("GET", "jobs"))["items"]}

    async def document(self, collection: str, name: str) -> Json:
        [found] = (await self.ok("GET", collection, params={"name": name}))["items"]
        document: Json = found
        return document

    async def change(self, collection: str, name: str, **members: Any) -> Json:
        document = await self.document(collection, name)
        changed: Json = await self.ok("PUT", f"{collection}/{document['_key']}", json={**document, **members})
        return changed


async def stored(server: Service, specification: Json) -> Worker:
    """Store a specification; returns its worker."""
    document = await server.ok("POST", "/workflow_specifications", json=specification)
    return Worker(server, document["_key"])


@pytest.fixture
async def diamond(server: Service) -> Worker:
    """Four jobs between files, stored and not started."""
    return await stored(server, DIAMOND)
