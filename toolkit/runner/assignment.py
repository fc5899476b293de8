"""From a claimed job to a process: command line, environment, files."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from lading.toolkit.runner.events import Assignment
from lading.toolkit.runner.hosts import step_environment
from lading.toolkit.runner.messages import Launch
from lading.toolkit.wire.extensions import ClaimedJob


class UnusableCommand(Exception):
    """The command line cannot be taken apart."""


@dataclass(frozen=True, slots=True)
class Place:
    """What all jobs of a node share."""

    workflow: str
    output_directory: str
    working_directory: str
    gpu_variable: str = "CUDA_VISIBLE_DEVICES"
    assigns_gpus: bool = False
    """False on a node without GPUs: the variable is left as it is."""
    server_file: str | None = None
    num_cpus: int = 1
    """Of the node."""
    hosts: tuple[str, ...] = ()
    """The nodes that its runner hands out, its own first; none outside of Slurm."""
    allocation: tuple[str, ...] = ()
    """All nodes of the Slurm allocation."""
    name: str = ""
    """Of the node, in file names."""

    @property
    def stdio_directory(self) -> Path:
        return Path(self.output_directory, "job-stdio")


def launch_of(assignment: Assignment, place: Place) -> Launch:
    """Return what the guardian starts for a job. Raises UnusableCommand."""
    job = assignment.job
    stdout, stderr = _streams(job, place)
    launch: Launch = {
        "id": job.attempt_id,
        "argv": split_command(job.command, job.invocation_script),
        "env": _environment(assignment, place),
        "cwd": os.path.join(place.working_directory, job.workdir or ""),  # noqa: PTH118 - keeps './'
        "stdout": stdout,
        "stderr": stderr,
        "outputs": [(file.key, file.path) for file in job.output_files],
    }
    if assignment.hosts:
        launch["hosts"] = list(assignment.hosts)
    if assignment.cpus:
        launch["cpus"] = list(assignment.cpus)
    return launch


def split_command(command: str, invocation_script: str | None) -> list[str]:
    """Split as a shell would, without one: no variables, no pipes, no wildcards."""
    try:
        return [*shlex.split(invocation_script or ""), *shlex.split(command)]
    except ValueError as error:
        raise UnusableCommand(f"The command {command!r} cannot be split: {error}.") from None


def _environment(assignment: Assignment, place: Place) -> dict[str, str]:
    job = assignment.job
    # With binding, a CPU of the job's request is a whole group.
    num_cpus = str(len(assignment.cpus) or job.num_cpus)
    environment = {
        "TORC_WORKFLOW_KEY": place.workflow,
        "TORC_JOB_KEY": job.job_key,
        "LADING_WORKFLOW": place.workflow,
        "LADING_JOB": job.job_key,
        "LADING_JOB_NAME": job.name,
        "LADING_RUN_ID": str(job.run_id),
        "LADING_ATTEMPT": str(job.number),
        "LADING_CPUS": num_cpus,
        "OMP_NUM_THREADS": num_cpus,
    }
    if place.server_file is not None:
        # Where a program of the job's owner finds the server; a path, and its content is the owner's.
        environment["LADING_SERVER_FILE"] = place.server_file
    environment |= _steps(assignment, place)
    # A job of several nodes has all GPUs of each.
    if place.assigns_gpus and not assignment.hosts:
        # Empty for a job that asked for none: it must not disturb those that did.
        environment[place.gpu_variable] = ",".join(assignment.gpus)
    return environment | job.env


def _steps(assignment: Assignment, place: Place) -> dict[str, str]:
    """Return what srun and mpirun of a job in a Slurm allocation go by."""
    if not place.hosts:
        return {}
    hosts = assignment.hosts or place.hosts[:1]
    path = hostfile_of(assignment, place)
    slots = place.num_cpus if assignment.hosts else max(1, assignment.job.num_cpus)
    is_part = set(hosts) != set(place.allocation)
    return {
        **step_environment(hosts, slots, path if is_part else None),
        "LADING_HOSTFILE": str(path),
    }


def hostfile_of(assignment: Assignment, place: Place) -> Path:
    """Return where a job finds its nodes; jobs of one node share the file of their runner."""
    job = assignment.job
    if not assignment.hosts:
        return place.stdio_directory / f"node_{place.name}.hosts"
    return place.stdio_directory / f"{job.job_key}_{job.run_id}_{job.number}.hosts"


def _streams(job: ClaimedJob, place: Place) -> tuple[str | None, str | None]:
    """Return the paths of stdout and stderr: torc's names, with the attempt's number from the second on."""
    name = f"{job.job_key}_{job.run_id}" + (f"_{job.number}" if job.number > 1 else "")
    if "/" in name or "\0" in name:
        raise UnusableCommand(f"The job's key {job.job_key!r} cannot be part of a file name.")
    output = str(place.stdio_directory / f"{name}.o")
    match job.stdout:
        case "none":
            return None, None
        case "merge":
            return output, None
        case "separate":
            return output, str(place.stdio_directory / f"{name}.e")
