"""The transport through pyslurm, in a child process. It observes and cancels; it submits for configs that want it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lading.schedulers.slurm.description import description_of
from lading.schedulers.slurm.listing import Job, Partition
from lading.schedulers.slurm.programs import Programs, clean_environment
from lading.schedulers.slurm.pyslurm_process import PyslurmProcess, PyslurmUnusable
from lading.schedulers.slurm.script import Script
from lading.schedulers.slurm.transport import NodeSize, Site
from lading.toolkit.errors import PermanentError, TransientError

_ASK_SECONDS: Final = 120.0
"""libslurm gives up by itself after a few message timeouts (10 s, at busy sites 100 s)."""
_START_SECONDS: Final = 90.0
"""Loading it, from a busy file system."""


class Pyslurm:
    """Asks pyslurm; what that cannot do, the site's programs do where they are."""

    def __init__(self, python: Path | None = None) -> None:
        self._python = python or Path(sys.executable)
        self._process = PyslurmProcess(self._python)
        self._programs = Programs()

    def description(self) -> str:
        """Say what it is, and its version. Raises a BackendError where it cannot be used."""
        return f"asked by pyslurm {self._process.call('version', _START_SECONDS)}"

    def site(self) -> Site:
        """Ask the controller for its configuration."""
        facts = self._ask("site")
        return Site(
            cluster=facts["cluster"] or "cluster",
            minimum_age_seconds=float(facts["minimum_age_seconds"] or 300),
            largest_array=int(facts["largest_array"] or 1001),
            version=facts["version"] or "unknown",
            has_accounting=str(facts["accounting"] or "").endswith("slurmdbd"),
        )

    def partitions(self) -> Sequence[Partition]:
        """Ask the controller."""
        return [_partition(facts) for facts in self._ask("partitions")]

    def node_sizes(self, partition: str) -> Sequence[NodeSize]:
        """Ask the controller for all nodes."""
        wanted = set(partition.split(",")) if partition else None
        return [
            NodeSize(node["cpus"], node["mebibytes"] * 2**20)
            for node in self._ask("nodes")
            if node["cpus"] and node["mebibytes"] and (wanted is None or wanted & set(node["partitions"]))
        ]

    def jobs(self) -> Sequence[Job]:
        """Ask the controller, which sends all jobs; the child picks this user's."""
        return [job for facts in self._ask("jobs", uid=os.getuid()) for job in _jobs(facts)]

    def records(self, numbers: Collection[str]) -> Sequence[Job]:
        """Ask the accounting."""
        asked = sorted(int(number) for number in numbers)
        # A task that ran has a record of its own, which the one of the others may still hold: it comes last.
        found = sorted(self._ask("records", numbers=asked), key=lambda facts: -len(facts["tasks"]))
        return [job for facts in found for job in _jobs(facts)]

    def records_named(self, name: str) -> Sequence[Job]:
        """Ask the accounting."""
        return [
            job for facts in self._ask("records_named", name=name, uid=os.getuid()) for job in _jobs(facts)
        ]

    def test(self, script: Script, config: Mapping[str, Any]) -> None:
        """See whether pyslurm can carry the script; it has no trial submission. sbatch is asked for its own."""
        if config.get("submit") == "pyslurm":
            description_of(script, config, {})
        else:
            self._programs.test(script, config)

    def submit(self, script: Script, config: Mapping[str, Any], *, held: Sequence[int] = ()) -> str:
        """Submit by a child of this call alone, which holds the descriptors as long as it lives."""
        if config.get("submit") != "pyslurm":
            return self._programs.submit(script, config, held=held)
        fields = description_of(script, config, _job_environment(script))
        process = PyslurmProcess(self._python, held=held)
        try:
            return str(process.call("submit", _ASK_SECONDS, fields=fields))
        finally:
            process.close()

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ask the controller; tasks that share a record are left to scancel."""
        shared = self._ask("cancel", jobs=list(jobs))
        if shared:
            self._check_scancel(shared)
            self._programs.cancel(shared)

    def take_back(self, jobs: Sequence[str]) -> None:
        """Leave it to scancel, which asks the controller to choose; without it one that starts just now is ended."""
        if shutil.which("scancel"):
            self._programs.take_back(jobs)
            return
        shared = self._ask("take_back", jobs=list(jobs))
        if shared:
            self._check_scancel(shared)

    def _ask(self, name: str, /, **arguments: Any) -> Any:
        try:
            return self._process.call(name, _ASK_SECONDS, **arguments)
        except PyslurmUnusable:
            raise
        except PermanentError as error:
            # A question cannot be refused for good: what Slurm does not answer today it may tomorrow.
            raise TransientError(str(error)) from error

    @staticmethod
    def _check_scancel(shared: Sequence[str]) -> None:
        if shutil.which("scancel") is None:
            raise PermanentError(
                f"The tasks {', '.join(shared)} wait in one record with others: pyslurm cannot end them alone, "
                "and there is no scancel here."
            )


def _job_environment(script: Script) -> dict[str, str]:
    """Return what sbatch would hand to the job, and say of it: pyslurm adds nothing by itself."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("Umask:")), "0022")
    return clean_environment(os.environ) | {
        "SLURM_JOB_NAME": script.name,
        "SLURM_SUBMIT_DIR": str(Path.cwd()),
        "SLURM_SUBMIT_HOST": os.uname().nodename,
        # What a job writes would be as open as the node's daemon has it.
        "SLURM_UMASK": mask,
    }


def _jobs(facts: Mapping[str, Any]) -> Iterator[Job]:
    for identity in _identities(facts):
        reason = str(facts.get("reason") or "")
        yield Job(
            identity=identity,
            state=str(facts["state"] or "").upper(),
            reason="" if reason == "None" else reason,
            left_seconds=None if facts.get("left_seconds") is None else float(facts["left_seconds"]),
            start=str(facts.get("start") or ""),
            nodes=str(facts["nodes"] or ""),
            exit_code=str(facts["exit_code"]),
            name=str(facts["name"] or ""),
            earlier_states=tuple(facts.get("earlier_states") or ()),
        )


def _identities(facts: Mapping[str, Any]) -> list[str]:
    if not facts["tasks"]:
        return [str(facts["number"])]
    return [f"{facts['array']}_{task}" for task in facts["tasks"]]


def _partition(facts: Mapping[str, Any]) -> Partition:
    def names(member: str) -> tuple[str, ...] | None:
        return None if facts[member] is None else tuple(facts[member])

    minutes = facts["max_minutes"]
    return Partition(
        name=facts["name"],
        is_default=facts["is_default"],
        is_up=facts["state"] == "UP",
        state=facts["state"] or "UNKNOWN",
        max_seconds=None if minutes is None else minutes * 60.0,
        max_nodes=facts["max_nodes"],
        total_nodes=facts["total_nodes"],
        max_cpus_per_node=facts["max_cpus_per_node"],
        allow_accounts=names("allow_accounts"),
        deny_accounts=names("deny_accounts") or (),
        allow_qos=names("allow_qos"),
        total_cpus=facts["total_cpus"],
    )
