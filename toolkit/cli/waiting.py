"""Wait for a workflow on a server, for commands with --wait."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from lading.toolkit.cli.report import RunReport, gather_report, print_report
from lading.toolkit.cli.watch import display_for, follow
from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.session import Patience
from lading.toolkit.client.target import Target

# A server that is started anew within minutes does not end the waiting.
_PATIENCE: Final = Patience(tries=60, first_ceiling=0.5, last_ceiling=10.0)


def wait_and_report(target: Target, workflow: str, name: str, style: str) -> int:
    """Show progress until the workflow has ended, print its results, and return the exit code."""
    report = asyncio.run(_wait(target, workflow, name))
    again = f"lading jobs list --workflow {workflow}"
    print_report(report, "json" if style == "json" else "table", again)
    return 0 if report.is_success else 1


async def _wait(target: Target, workflow: str, name: str) -> RunReport:
    async with AsyncLading(target, patience=_PATIENCE) as client:
        display = display_for(name)
        try:
            await follow(client, workflow, display)
        finally:
            display.close()
        output = (await client.workflow_config(workflow)).get("output_directory")
        return await gather_report(client, workflow, output=Path(output) if output else None)
