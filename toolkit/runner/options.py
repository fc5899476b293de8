"""The command line that guardian and runner share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What a node was started with; None means: as found on the machine."""

    node_file: Path
    cpus: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    max_parallel_jobs: int | None = None
    time_limit_seconds: float | None = None
    log_file: Path | None = None
    lock_file: Path | None = None
    record_file: Path | None = None
    cpu_affinity_cpus_per_job: int | None = None

    def arguments(self) -> list[str]:
        """Return the command line that gives these options again."""
        pairs = {
            "--node-file": self.node_file,
            "--cpus": self.cpus,
            "--memory-bytes": self.memory_bytes,
            "--gpus": self.gpus,
            "--max-parallel-jobs": self.max_parallel_jobs,
            "--time-limit-seconds": self.time_limit_seconds,
            "--cpu-affinity-cpus-per-job": self.cpu_affinity_cpus_per_job,
            "--log-file": self.log_file,
        }
        return [word for name, value in pairs.items() if value is not None for word in (name, str(value))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    path = _absolute_path
    parser.add_argument("--node-file", type=path, required=True, help="0600 file that opens registration")
    parser.add_argument("--cpus", type=_positive, help="CPUs to use (default: those of the machine)")
    parser.add_argument("--memory-bytes", type=_positive, help="memory to hand out, in bytes")
    parser.add_argument("--gpus", type=_count, help="GPUs to use")
    parser.add_argument("--max-parallel-jobs", type=_positive, help="never run more jobs than this at once")
    parser.add_argument(
        "--cpu-affinity-cpus-per-job",
        type=_positive,
        help="bind each job to a group of so many CPUs of one NUMA node; jobs count groups as CPUs",
    )
    parser.add_argument("--time-limit-seconds", type=_seconds, help="leave after this many seconds")
    parser.add_argument("--log-file", type=path, help="append the log there (default: stderr)")
    parser.add_argument("--lock-file", type=path, help="held for life; a second runner on it exits with 75")
    parser.add_argument("--record-file", type=path, help="written once running: pid, start_ticks, boot_id")


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; exits with code 2 and a message when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -P -m lading.toolkit.runner",
        description="Run the jobs of one workflow on this node until nothing is left to do.",
    )
    add_arguments(parser)
    return Options(**vars(parser.parse_args(arguments)))


def from_namespace(namespace: argparse.Namespace) -> Options:
    """Return the options among those of a larger parser."""
    return Options(**{name: getattr(namespace, name) for name in Options.__slots__})


def _absolute_path(text: str) -> Path:
    # The working directory changes with every job that is started.
    return Path(text).absolute()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
