"""A workflow that has one of everything: what the tests of all endpoints are made in.

Three jobs: `ran` is done, `first` is ready, `second` waits for `first` and needs what that writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.api.table import BODIES, CHANGES, Endpoint, Json
from tests.lib.service import Service

SPECIFICATION: Json = {
    "name": "world", "user": "ana", "description": "one of everything",
    "files": [{"name": "in", "path": "in.txt"}, {"name": "out", "path": "out.txt"}],
    "user_data": [{"name": "given", "data": {"a": 1}}, {"name": "made", "data": {}}],
    "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "1g", "runtime": "P0DT10M"}],
    "schedulers": {
        "slurm_schedulers": [{"name": "gpu", "account": "acct", "nodes": 1}],
        "local_schedulers": [{"name": "here", "num_cpus": 2}],
        "aws_schedulers": [{"name": "cloud"}],
    },
    "jobs": [
        {"name": "ran", "command": "true", "input_files": ["in"], "resource_requirements": "small"},
        {
            "name": "first", "command": "true", "input_files": ["in"], "output_files": ["out"],
            "input_user_data": ["given"], "output_user_data": ["made"], "resource_requirements": "small",
        },
        {
            "name": "second", "command": "true", "input_files": ["out"], "input_user_data": ["made"],
            "resource_requirements": "small", "scheduler": "slurm_schedulers/gpu", "blocked_by": ["first"],
        },
    ],
    "config": {
        "compute_node_resource_stats": {"process": True, "interval": 5},
        "compute_node_expiration_buffer_seconds": 60,
    },
}  # fmt: skip


@dataclass(slots=True)
class World:
    server: Service
    key: str
    documents: dict[str, Json] = field(default_factory=dict)
    """Collection, job name or edge name -> a document."""

    @property
    def path(self) -> str:
        return f"/workflows/{self.key}"

    async def ok(self, method: str, path: str, **given: Any) -> Any:
        return await self.server.ok(method, f"{self.path}/{path}", **given)

    async def job(self, name: str) -> Json:
        """Return a job as it is now."""
        found: Json = await self.ok("GET", f"jobs/{self.documents[name]['_key']}")
        return found

    # ---- how an endpoint is called ----------------------------------------------------------

    def values(self, endpoint: Endpoint) -> dict[str, str]:
        """Return a good value of every path parameter."""
        document = self.documents[endpoint.collection] if endpoint.collection else {"_key": self.key}
        values = {
            "workflow": self.key,
            "key": document["_key"],
            "rr_key": self.documents["resource_requirements"]["_key"],
            "rev": document.get("_rev", ""),
            "compute_node_key": self.documents["compute_nodes"]["_key"],
        }
        if endpoint.path.startswith("/workflows/{key}"):
            values["key"] = self.key
        if endpoint.operation_id in _BEHIND_THE_DONE_JOB:
            values["key"] = self.documents["ran"]["_key"]
        return {**values, **endpoint.fixed}

    def fill(self, endpoint: Endpoint, **others: str) -> str:
        """Return the path, with `others` in place of good values."""
        values = {**self.values(endpoint), **others}
        return re.sub(r"\{(\w+)\}", lambda match: quote(values[match[1]], safe="%"), endpoint.path)

    def body(self, endpoint: Endpoint) -> Json | None:
        """Return a good body."""
        if not endpoint.body:
            return None
        jobs = self.documents
        if endpoint.method == "PUT" and endpoint.collection in CHANGES:
            return {**jobs[endpoint.collection], **CHANGES[endpoint.collection]}
        if endpoint.operation_id == "modify_workflow":
            return {**BODIES["workflow"], "_rev": self.documents["workflows"]["_rev"]}
        composed: dict[str, Json] = {
            "job_process_stats": {
                "job_key": jobs["ran"]["_key"], "run_id": 1, "avg_cpu_percent": 50.5, "max_cpu_percent": 150,
                "avg_rss": 10, "max_rss": 2**30, "num_samples": 4, "timestamp": "2026-01-01T00:00:00",
            },
            "results": self.result("second"),
            "completion": self.result("first"),
            "scheduled_compute_nodes": {
                "scheduler_id": "1", "scheduler_config_id": jobs["slurm_schedulers"]["_id"],
                "status": "pending",
            },
            "edges": {"_from": jobs["second"]["_id"], "_to": jobs["files"]["_id"]},
            "bulk_jobs": {"jobs": [
                {"name": "b1", "command": "true", "blocked_by": [jobs["first"]["_id"]]},
                {"name": "b2", "command": "true", "input_files": [jobs["files"]["_id"]]},
            ]},
        }  # fmt: skip
        return composed.get(endpoint.body) or dict(BODIES[endpoint.body])

    def result(self, job: str) -> Json:
        return {
            "job_key": self.documents[job]["_key"], "run_id": 1, "return_code": 0, "exec_time_minutes": 1.5,
            "completion_time": "2026-01-01T00:00:00", "status": "done",
        }  # fmt: skip


_BEHIND_THE_DONE_JOB = {"get_latest_job_result", "get_process_stats_for_job"}


async def make_world(server: Service) -> World:
    """Store the workflow and run its first job."""
    workflow = await server.ok("POST", "/workflow_specifications", json=SPECIFICATION)
    world = World(server, workflow["_key"])
    status = await world.ok("GET", "status")
    await world.ok("PUT", "status", json={**status, "run_id": 1})
    await world.ok("POST", "initialize_jobs")
    node = await world.ok("POST", "compute_nodes", json={**BODIES["compute_nodes"], "is_active": True})
    [job] = (await world.ok("POST", "prepare_next_jobs_for_submission"))["jobs"]
    world.documents.update(compute_nodes=node, ran=job)
    job = await world.ok("PUT", f"jobs/{job['_key']}/start_job/{job['_rev']}/1/{node['_key']}")
    path = f"jobs/{job['_key']}/complete_job/done/{job['_rev']}/1/{node['_key']}"
    await world.ok("POST", path, json=world.result("ran"))
    await _furnish(world)
    return world


async def _furnish(world: World) -> None:
    """Read what the specification made, and store what only runners do."""
    documents = world.documents
    documents["workflows"] = await world.server.ok("GET", world.path)
    for job in (await world.ok("GET", "jobs"))["items"]:
        documents[job["name"]] = job
    # The job that most endpoints are about has everything but a result.
    documents["jobs"] = documents["first"]
    for name in ("files", "user_data", "resource_requirements", "results", "slurm_schedulers",
                 "local_schedulers", "aws_schedulers", "events"):  # fmt: skip
        documents[name] = (await world.ok("GET", name))["items"][0]
    statistics = await world.ok("POST", "compute_node_stats", json=BODIES["compute_node_stats"])
    documents["compute_node_stats"] = statistics
    for name in ("job_process_stats", "scheduled_compute_nodes"):
        endpoint = Endpoint("POST", "", "", "", body=name)
        documents[name] = await world.ok("POST", name, json=world.body(endpoint))
    for name, source, target in (
        ("node_used", "compute_nodes", "compute_node_stats"),
        ("process_used", "ran", "job_process_stats"),
    ):
        edge = {"_from": documents[source]["_id"], "_to": documents[target]["_id"]}
        await world.ok("POST", f"edges/{name}", json=edge)
    documents["needs"] = (await world.ok("GET", "edges/needs"))["items"][0]
    documents["events"] = await world.ok("POST", "events", json={"category": "test", "text": "x"})
