"""A program that lives on from job to job: each of its jobs waits for the one before, and asks for the next."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Sequence
from typing import Final

from lading.schedulers.slurm.admission import admit
from lading.schedulers.slurm.listing import read_config
from lading.schedulers.slurm.programs import Programs, ask
from lading.schedulers.slurm.script import Script, directive, extra_options, one_line, options_of_config
from lading.toolkit.backends import Service, ServiceJob
from lading.toolkit.errors import PermanentError

NOTICE_SECONDS: Final = 60
"""Before the time limit Slurm sends TERM; it may come up to a minute earlier."""
_SIZES: Final = ("cpus", "ntasks_per_node", "extra", "exclusive")
_FORMAT: Final = "%i|%T|%r"
_WAITING: Final = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "SPECIAL_EXIT"})
_PROGRAMS: Final = Programs()
"""Also where jobs of workflows are submitted by pyslurm: a service is asked for once in days."""
_DISCARD_PORT: Final = 9


class ServiceJobs:
    """What a backend of Slurm knows of services."""

    def check_service(self, service: Service) -> None:
        """Compare with the partition's limits and let sbatch test it, without submitting anything."""
        # By sbatch, whatever the config's jobs of workflows are submitted by.
        config = {name: value for name, value in service.config.items() if name != "submit"}
        admit(_PROGRAMS, config, [_script_of(service)])

    def submit_service(self, service: Service) -> str:
        """Call sbatch. One whose answer was lost may leave a second job: it waits its turn and does no harm."""
        return _PROGRAMS.submit(_script_of(service), service.config)

    def service_jobs(self, name: str) -> Sequence[ServiceJob]:
        """Ask squeue."""
        text = ask(["squeue", "-h", "-u", str(os.getuid()), "-n", name, "-o", _FORMAT])
        jobs = []
        for line in text.splitlines():
            number, _, rest = line.partition("|")
            state, _, reason = rest.partition("|")
            jobs.append(ServiceJob(number.strip(), state in _WAITING, reason))
        return jobs

    def cancel_service(self, name: str, *, only_waiting: bool = False) -> None:
        """Call scancel."""
        states = ["--state=PENDING"] if only_waiting else []
        ask(["scancel", "--quiet", "--me", f"--name={name}", *states])

    def own_address(self) -> str:
        """Return the address of the interface towards slurmctld: all nodes and login nodes are there."""
        facts = read_config(ask(["scontrol", "show", "config"]))
        name, _, address = facts.get("SlurmctldHost[0]", "").partition("(")
        controller = address.rstrip(")") or name
        try:
            [(family, kind, protocol, _, place), *_] = socket.getaddrinfo(
                controller, _DISCARD_PORT, type=socket.SOCK_DGRAM
            )
            with socket.socket(family, kind, protocol) as probe:
                # Nothing is sent: the kernel only chooses the way.
                probe.connect(place)
                return str(probe.getsockname()[0])
        except OSError as error:
            raise PermanentError(
                f"--host: the network of slurmctld ({controller or 'unknown'}) cannot be told from here "
                f"({error.strerror or error}); name the address or 0.0.0.0."
            ) from error


def _script_of(service: Service) -> Script:
    return Script(service.name, service_script(service), (0,))


def service_script(service: Service) -> str:
    """Return what sbatch gets: one small node, and options that make the jobs a chain."""
    config = dict(service.config)
    nodes = config.get("nodes")
    if nodes not in {None, 1}:
        raise PermanentError(f"nodes: {nodes} is not accepted for a server; accepted: 1.")
    config["nodes"] = 1
    words = options_of_config(config)
    if config.get("exclusive"):
        words.append("--exclusive")
    if not any(config.get(field) for field in _SIZES):
        words.append("--cpus-per-task=1")
        words += [] if config.get("mem") else ["--mem=2G"]
    log = one_line("log", service.log).replace("%", "%%")
    # After `extra`: of two options of one name Slurm takes the last.
    words += [
        *extra_options(config.get("extra")),
        f"--output={log}",
        "--open-mode=append",
        "--dependency=singleton",
        # The next one is in the queue already; put back, this one would have it wait for minutes.
        "--no-requeue",
        f"--signal=B:TERM@{NOTICE_SECONDS}",
        f"--chdir={one_line('working_directory', service.working_directory)}",
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {directive(word)}" for word in words)]
    lines += [one_line("set_up", line) for line in config.get("set_up") or ()]
    # In the shell's place: Slurm's TERM reaches the program itself.
    lines.append(f"exec {shlex.join(one_line('command', word) for word in service.command)}")
    return "\n".join(lines) + "\n"
