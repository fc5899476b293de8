"""A private read-only server for a run that has ended, alive as long as the command that reads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lading.toolkit.client.discovery import Sleeping
from lading.toolkit.client.server_process import Child, require_server_part
from lading.toolkit.client.target import Target


@contextmanager
def reading_server(run: Sleeping) -> Iterator[Target]:
    """Start a read-only server on the run's database, and stop it at the end."""
    require_server_part()
    # Its address and token are in a 0700 folder that goes with it, so nobody else finds this server.
    with tempfile.TemporaryDirectory(prefix="lading-read-") as name:
        server_file = Path(name) / "server.json"
        arguments = ["--database", run.database, "--read-only", "--port", "0"]
        arguments += ["--server-file", str(server_file)]
        child = Child("lading.api", arguments, Path(name) / "server.log")
        try:
            child.start(ready=True)
            yield replace(
                Target.from_server_file(server_file), found_by=f"the ended run in {run.folder.parent}"
            )
        finally:
            child.stop()
