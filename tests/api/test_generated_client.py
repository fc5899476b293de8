"""A client that a public tool generates from the published document runs a workflow."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.lib.service import Service

PACKAGE = "lading_client"


class Generated:
    """The generated package, imported from where it was written."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, tag: str, operation: str, *path: str, **given: Any) -> Any:
        """Call an operation by its published id; a refusal fails the test."""
        module = importlib.import_module(f"{PACKAGE}.api.{tag}.{operation}")
        answer = await module.asyncio(*path, client=self._client, **given)
        assert answer is not None
        assert type(answer).__name__ != "Error", answer
        return answer

    @staticmethod
    def model(name: str) -> Any:
        return getattr(importlib.import_module(f"{PACKAGE}.models"), name)


@pytest.fixture
async def generated(
    server: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Generated]:
    document = tmp_path / "openapi.json"
    document.write_bytes((await server.call("GET", "/openapi.json", token=None)).content)
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"package_name_override: {PACKAGE}\npost_hooks: []\n")
    arguments = [
        "generate", "--path", str(document), "--output-path", str(tmp_path / "generated"),
        "--config", str(settings), "--meta", "setup", "--fail-on-warning",
    ]  # fmt: skip
    generator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openapi_python_client", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await generator.communicate()
    assert generator.returncode == 0, output.decode()
    monkeypatch.syspath_prepend(tmp_path / "generated")
    client = importlib.import_module(PACKAGE).AuthenticatedClient(
        base_url=server.base_url, token=server.token, raise_on_unexpected_status=True
    )
    async with client:
        yield Generated(client)
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


async def test_it_runs_a_workflow(generated: Generated) -> None:
    call, model = generated.call, generated.model
    workflow = await call("workflows", "add_workflow", body=model("Workflow")(name="w", user="ana"))
    key = workflow.field_key
    file = await call("files", "add_file", key, body=model("File")(name="f", path="f.txt"))
    for name, relation in (("first", "output_files"), ("second", "input_files")):
        job = model("Job")(name=name, command="true", **{relation: [file.field_id]})
        await call("jobs", "add_job", key, body=job)
    status = await call("workflows", "get_workflow_status", key)
    status.run_id += 1
    await call("workflows", "modify_workflow_status", key, body=status)
    await call("workflows", "initialize_jobs", key)
    resources = model("ComputeNodeResources")(num_cpus=4, memory_gb=8.0)
    node = model("ComputeNode")(hostname="n", pid=1, start_time="2026-01-01T00:00:00", resources=resources)
    node = await call("compute_nodes", "add_compute_node", key, body=node)

    done = []
    for _ in range(2):
        claimed = await call("claims", "prepare_jobs_for_submission", key, body=resources)
        [job] = claimed.jobs
        place = (key, job.field_key)
        job = await call("claims", "start_job", *place, job.field_rev, "1", node.field_key)
        result = model("Result")(
            job_key=job.field_key, run_id=1, return_code=0, exec_time_minutes=0.5,
            completion_time="2026-01-01T00:00:00", status=model("JobStatus").DONE,
        )  # fmt: skip
        job = await call(
            "claims", "complete_job", *place, "done", job.field_rev, "1", node.field_key, body=result
        )
        done.append(job.name)
    assert done == ["first", "second"]
    assert (await call("workflows", "is_workflow_complete", key)).is_complete is True
    results = await call("results", "list_results", key, sort_by="job_key", limit=1)
    assert (results.count, results.total_count, results.has_more) == (1, 2, True)
    rows = await call(
        "edges", "join_collections_by_outbound_edge", key, "jobs", "returned",
        body=model("JoinCollectionsByOutboundEdgeBody")(),
    )  # fmt: skip
    assert [row.to["return_code"] for row in rows.items] == [0, 0]
    # A document that was read can be sent back as it is.
    config = await call("workflows", "get_workflow_config", key)
    assert await call("workflows", "modify_workflow_config", key, body=config) == config
    job = await call("jobs", "get_job", key, job.field_key)
    job.command = "false"
    assert (await call("jobs", "modify_job", key, job.field_key, body=job)).command == "false"
    await call("workflows", "remove_workflow", key)
