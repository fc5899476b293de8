"""Schemathesis against the published document: no 5xx, nothing undocumented, seeded and bounded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from lading.api.server_process import ServerOptions
from tests.lib.service import running_service

SECONDS = 90
LEFT_OUT = {
    "shutdown_server": "it would end the run",
    "stream_events": "its answer has no end",
    "sync_submitter": "it waits for news, up to 25 s",
    "sync_compute_node": "it waits for work, up to 25 s",
    "get_progress": "it waits for progress, up to 25 s",
}
"""Operation -> why; all are called with nonsense by `test_shell_every_route`."""
EXCLUDED_CHECKS = {
    "positive_data_acceptance": "a schema cannot say which documents exist and what state they are in",
}


@pytest.mark.timeout(SECONDS + 60)
async def test_the_published_document_is_true(tmp_path: Path) -> None:
    options = ServerOptions(str(tmp_path / "lading.db"), synchronous="NORMAL")
    async with running_service(options) as service:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{service.base_url}/openapi.json",
            "--header", f"Authorization: Bearer {service.token}",
            "--checks", "all", "--exclude-checks", ",".join(EXCLUDED_CHECKS),
            "--phases", "coverage,fuzzing", "--seed", "20260101", "--generation-deterministic",
            "--max-examples", "5", "--max-time", str(SECONDS),
            "--continue-on-failure", "--request-timeout", "20", "--warnings", "off", "--no-color",
        ]  # fmt: skip
        for operation in LEFT_OUT:
            command += ["--exclude-operation-id", operation]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        text = output.decode()
        assert process.returncode == 0, text[-8000:]
        assert "Tested:" in text, text[-2000:]
