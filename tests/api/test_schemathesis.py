"""Schemathesis against the published document, with all checks: no 5xx, nothing undocumented.

What it sends is derived from the document alone, so a run is the same each time.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lading.api.server_process import ServerOptions
from tests.lib.service import Service, running_service

MAX_EXAMPLES = 5
LEFT_OUT = "shutdown_server"
"""It would end the run; test_shell_process.py calls it."""
BY_ITSELF = "revoke_token"
"""It revokes the token of the run sooner or later: all that follows would answer 401."""
ACCEPTED = ("2xx", "403", "404", "409")
"""Answers to a request that fits the document: it cannot say what exists, in which state, and whose it is."""
_GRAMMAR = "durations, wall times and memory sizes are text with a grammar"
_ANY_JSON = "JSON of any shape, whose integers fit into 64 bits"
_INTEGER = "an integer is written without a fraction"
_BELONGS = "_key and _rev are those of the document"
REFUSES_MORE = {
    "add_aws_scheduler": "no more min_allocations than max_allocations",
    "add_compute_node": _GRAMMAR,
    "add_compute_node_stats": _ANY_JSON,
    "add_resource_requirements": _GRAMMAR,
    "add_slurm_scheduler": _GRAMMAR,
    "add_workflow_specification": "all that docs/reference/specification.md says",
    "auto_tune_resource_requirements": "without measurements there is nothing to tune by",
    "complete_job": "three statuses complete a job",
    "create_token": "at least one scope",
    "get_dot_graph": "there are three graphs",
    "join_collections_by_inbound_edge": "the names of edges",
    "join_collections_by_outbound_edge": "the names of edges",
    "list_workflows": "sort_by names a member of the documents",
    "modify_compute_node": _GRAMMAR,
    "modify_compute_node_stats": _ANY_JSON,
    "modify_resource_requirements": _GRAMMAR,
    "modify_slurm_scheduler": _GRAMMAR,
    "modify_user_data": _ANY_JSON,
    "modify_workflow": _BELONGS,
    "modify_workflow_config": _BELONGS,
    "modify_workflow_status": "run_id only grows",
    "prepare_jobs_for_submission": _GRAMMAR,
    "process_auto_tune_resource_requirements_results": "only a workflow that is being auto-tuned has any",
    "register_compute_node": _INTEGER,
    "sync_submitter": _INTEGER,
}
"""Operation -> the rule, beyond any schema, by which it may answer 400."""


def _configuration() -> str:
    lines = ["[checks.positive_data_acceptance]", f"expected-statuses = {json.dumps(ACCEPTED)}"]
    more = dict.fromkeys(REFUSES_MORE, "400") | {BY_ITSELF: "401"}
    for operation, status in more.items():
        lines += [
            "[[operations]]",
            f'include-operation-id = "{operation}"',
            f"checks.positive_data_acceptance.expected-statuses = {json.dumps([*ACCEPTED, status])}",
        ]
    return "\n".join(lines) + "\n"


async def _tested(service: Service, folder: Path, selection: Sequence[str]) -> int:
    """Run it on the selected operations and return their number; a failed check fails the test."""
    (folder / "schemathesis.toml").write_text(_configuration())
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{service.base_url}/openapi.json", *selection,
        "--header", f"Authorization: Bearer {service.token}", "--checks", "all",
        "--phases", "coverage,fuzzing", "--generation-deterministic", "--max-examples", str(MAX_EXAMPLES),
        # In free-form JSON NUL is refused, as test_bad_input.py shows.
        "--generation-allow-x00", "false",
        "--continue-on-failure", "--request-timeout", "60", "--warnings", "off", "--no-color",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text[-8000:]
    found = re.search(r"^ *Tested: (\d+)$", text, re.MULTILINE)
    assert found is not None, text[-2000:]
    return int(found.group(1))


@pytest.mark.timeout(600)
async def test_the_published_document_is_true(tmp_path: Path) -> None:
    # Whoever waits for news here waits for nothing.
    options = ServerOptions(str(tmp_path / "lading.db"), synchronous="NORMAL", longest_wait=0.2)
    async with running_service(options) as service:
        async with service.session.get(f"{service.base_url}/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        names = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
        assert names >= {LEFT_OUT, BY_ITSELF, *REFUSES_MORE}
        # Schemathesis does not count the document that it reads itself.
        expected = len(names - {LEFT_OUT, BY_ITSELF, "get_openapi"})
        rest = ["--exclude-operation-id", LEFT_OUT, "--exclude-operation-id", BY_ITSELF]
        assert await _tested(service, tmp_path, rest) == expected
        assert await _tested(service, tmp_path, ["--include-operation-id", BY_ITSELF]) == 1
