"""A workflow on two allocations of a real Slurm, and the means to break whatever carries it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lading.toolkit.runner.processes import read_process
from tests.faults.lab import NUM_JOBS, Lab
from tests.lib.waiting import until
from tests.slurm.conftest import SCRIPT, Cluster

LEASE_SECONDS = 15.0
LENGTHS = tuple(3 + number * 37 % 71 / 10 for number in range(NUM_JOBS))
"""Seconds: 3 to 10, mixed, the same in every test."""
NUM_CPUS = 48
"""Of each allocation; a node has 64, so each is on a node of its own."""
UNDER_WAY = 20
"""Ends after which both allocations are in the middle of their work."""


class SlurmLab(Lab):
    """A server on the cluster's host that asks this cluster for two allocations at most."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        super().__init__(folder)

    def start_server(self) -> None:
        before = _inode(self.server_file)
        self.server = self.begin_lading(
            "serve", "--host", self.cluster.address, "--port", "0", "--plain-http",
            "--database", self.database, "--server-file", str(self.server_file),
        )  # fmt: skip
        until(lambda: _inode(self.server_file) not in {None, before}, 60.0, "the server listens")

    def submitter_pid(self) -> int | None:
        found = self.processes(lambda words, marks: b"lading.toolkit.submitter" in words)
        return found[0] if found else None

    def _environment(self) -> dict[str, str]:
        homes = {f"XDG_{name}_HOME": str(self.folder / name.lower()) for name in ("STATE", "CONFIG", "CACHE")}
        return {**super()._environment(), **self.cluster.environment, **homes}

    def specification(
        self,
        seconds: Iterable[float] = LENGTHS,
        *,
        name: str = "faults",
        schedulers: Sequence[Mapping[str, Any]] | None = None,
        linger: str = "",
        most_jobs: int = NUM_CPUS,
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Describe the 200 jobs; those with `linger` are asked to end and take that long over it."""
        document = super().specification(seconds, name=name, schedulers=())
        scheduler = {
            "name": "nodes", "account": "science", "nodes": 1, "cpus": NUM_CPUS, "mem": "4G",
            "max_parallel_jobs": most_jobs, "walltime": "00:20:00", "max_allocations": 2, "set_up": [f"export {self._mark()}"],
        }  # fmt: skip
        document["schedulers"] = {"slurm_schedulers": list(schedulers or [scheduler])}
        document["config"] |= {
            "lease_seconds": LEASE_SECONDS, "compute_node_expiration_buffer_seconds": 0, **(config or {}),
        }  # fmt: skip
        small = {"name": "small", "num_cpus": 1, "memory": "10m", "runtime": "P0DT1M"}
        document["resource_requirements"] = [small]
        for job in document["jobs"]:
            job["resource_requirements"] = "small"
            if linger:
                job |= {"command": f"{job['command']} {linger}", "supports_termination": True}
        return document

    def _mark(self) -> str:
        return f"FAULT_LAB={self.folder}"

    # ---- the run -----------------------------------------------------------------------------

    def begin(self, **given: Any) -> str:
        """Submit the jobs; return the workflow when both allocations are in the middle of them."""
        workflow = self.submit(self.specification(**given))
        until(lambda: len(self.allocations()) == 2, 120.0, "both allocations run", pause=0.3)
        self.await_ends(UNDER_WAY, 120.0)
        assert len(self.guardians()) == 2, "one runner on each node"
        return workflow

    def finish(self, workflow: str, *, lost: str | None, seconds: float = 240.0) -> None:
        """See the run to its end and hold it to the promises; `lost`: the one cause by which attempts ended early.

        None: no attempt was lost at all.
        """
        self.await_completion(workflow, seconds)
        self.check(workflow, again=() if lost is None else None)
        causes = self.causes(workflow)
        assert set(causes) - {"exit"} == ({lost} if lost else set()), causes

    def causes(self, workflow: str) -> Counter[str]:
        return Counter(attempt.cause or "open" for own in self.attempts(workflow).values() for attempt in own)

    # ---- what carries it ---------------------------------------------------------------------

    def allocations(self) -> dict[str, str]:
        """Return the Slurm job that runs on each node."""
        lines = self.cluster.run("squeue", "-h", "-t", "running", "-p", "main", "-o", "%N %i").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def runner_on(self, node: str) -> int:
        [pid] = [pid for pid in self.runners() if _is_on(pid, node)]
        return pid

    def guardian_on(self, node: str) -> int:
        [pid] = [pid for pid in self.guardians() if _is_on(pid, node)]
        return pid

    def is_stopped(self, node: str) -> bool:
        """Tell whether the runner's process of a node is stopped."""
        line = read_process(self.runner_on(node))
        return line is not None and line.state == "T"

    def node_states(self, workflow: str) -> Counter[str]:
        """Count the compute nodes in each state."""
        with self.client() as client:
            return Counter(str(node["state"]) for node in client.list_compute_nodes(workflow))

    def num_allocations(self, workflow: str) -> int:
        """Count the allocations that were ever asked for."""
        with self.client() as client:
            return len(list(client.list_allocations(workflow)))

    def note_logs(self) -> None:
        super().note_logs()
        for path in [*self.output.glob("slurm_*.out"), *self.folder.glob("**/submitter.log")]:
            sys.stdout.write(f"--- {path.name}\n{path.read_text()[-6000:]}\n")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _is_on(pid: int, node: str) -> bool:
    return f"SLURMD_NODENAME={node}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def daemon_pid(cluster: Cluster, name: str) -> int:
    """Return the process of a daemon by the name of its file: `slurmctld`, `slurmd.n1`."""
    return int((cluster.folder / "run" / f"{name}.pid").read_text())


def plug(cluster: Cluster, node: str, position: str) -> None:
    """Put a node's cable `up` or `down`."""
    subprocess.run(["ip", "link", "set", f"{cluster.bridge}-{node}", position], check=True)


def mend(cluster: Cluster) -> None:
    """Put right whatever a test has broken, and leave no job behind."""
    for node in ("n1", "n2", "n3"):
        plug(cluster, node, "up")
    started = subprocess.run(
        ["bash", SCRIPT, "start", cluster.folder], capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    ids = [line.split()[0] for line in cluster.queue()]
    if ids:
        cluster.run("scancel", "--quiet", *ids)
        until(lambda: not cluster.queue(), 120, f"Slurm has ended {ids}", pause=0.1)


@contextmanager
def running_slurm_lab(cluster: Cluster, folder: Path) -> Iterator[SlurmLab]:
    """Run a server for the length of the context; the cluster is whole again afterwards."""
    lab = SlurmLab(cluster, folder)
    os.environ.pop("LADING_SBATCH_TEMPLATES", None)
    try:
        lab.start_server()
        yield lab
    finally:
        lab.note_logs()
        lab.clear()
        mend(cluster)
