"""A server on a cluster's host, what a person does there, and a workflow to submit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lib.waiting import until

COMMAND = Path(sys.executable).with_name("lading")


class Host:
    """A server on the cluster's host, and the commands of a person there."""

    def __init__(self, cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.environment = {
            **os.environ, **cluster.environment,
            **{f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("STATE", "CONFIG", "CACHE")},
        }  # fmt: skip
        self.environment.pop("LADING_SBATCH_TEMPLATES", None)
        self.calls = folder / "calls"
        self._count_calls()

    def _count_calls(self) -> None:
        """Put shims before Slurm's programs, which note each call."""
        shims = self.folder / "shims"
        shims.mkdir()
        for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun"):
            shim = shims / name
            shim.write_text(
                f'#!/bin/sh\necho "$(date +%s.%N) {name} $*" >> {self.calls}\nexec {shutil.which(name)} "$@"\n'
            )
            shim.chmod(0o755)
        self.environment["PATH"] = f"{shims}:{self.environment['PATH']}"

    def called(self) -> Counter[str]:
        lines = self._noted_calls()
        return Counter("test-only" if "--test-only" in line else line.split()[1] for line in lines)

    def call_times(self, program: str) -> list[float]:
        """Return when one of Slurm's programs was called, in seconds."""
        return [float(line.split()[0]) for line in self._noted_calls() if line.split()[1] == program]

    def _noted_calls(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            server = subprocess.Popen(
                [COMMAND, "serve", "--host", self.cluster.address,
                 "--port", "0", "--plain-http", "--database", str(self.folder / "lading.db")],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.server = server
        log_file = self.folder / "server.log"
        until(lambda: "Lading serves at" in log_file.read_text(), 30.0, "the server listens")

    def stop(self) -> None:
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(30)

    def lading(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip

    def submit(self, document) -> str:
        path = self.folder / "workflow.json"
        path.write_text(json.dumps(document))
        outcome = self.lading("submit-workflow", str(path), "--format", "json")
        assert outcome.returncode == 0, outcome.stderr
        return str(json.loads(outcome.stdout)["_key"])

    def listed(self, *arguments: str):
        outcome = self.lading(*arguments, "--format", "json")
        assert outcome.returncode == 0, outcome.stderr
        (rows,) = json.loads(outcome.stdout).values()
        return rows


@contextmanager
def serving(cluster, folder: Path) -> Iterator[Host]:
    """Serve for the length of the context."""
    made = Host(cluster, folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def document(jobs, config=None, **scheduler):
    return {
        "name": "on_slurm",
        "jobs": [{"resource_requirements": "small", **job} for job in jobs],
        "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "10m", "runtime": "P0DT1M"}],
        "schedulers": {
            "slurm_schedulers": [
                {"name": "nodes", "account": "science", "nodes": 1, "cpus": 8, "mem": "1G", "walltime": "00:10:00",
                 "max_allocations": 1, **scheduler}
            ]
        },
        "config": {"compute_node_expiration_buffer_seconds": 5, **(config or {})},
    }  # fmt: skip
