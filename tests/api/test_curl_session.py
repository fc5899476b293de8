"""The published reference is enough: a session with nothing but curl."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.lib.service import Service

SCRIPT = Path(__file__).with_name("curl_session.sh")


async def test_curl_is_enough(server: Service) -> None:
    process = await asyncio.create_subprocess_exec(
        "bash", str(SCRIPT), server.base_url, server.token,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    lines = output.decode().splitlines()
    assert process.returncode == 0, lines
    runs = [f"run {run_id}: {name}" for run_id in (1, 2, 4) for name in ("work", "postprocess")]
    assert lines[1:] == [*runs, "deleted"]
