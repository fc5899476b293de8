"""Slurm's programs: started with a clean environment, given a time, their errors told apart."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from lading.schedulers.slurm.listing import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    Job,
    Partition,
    leading_number,
    read_config,
    read_node_sizes,
    read_partitions,
    read_sacct,
    read_squeue,
)
from lading.schedulers.slurm.refusals import error_of
from lading.schedulers.slurm.script import Script
from lading.schedulers.slurm.transport import NodeSize, Site
from lading.toolkit.errors import PermanentError, TransientError

logger = logging.getLogger("lading.slurm")

_KEPT: Final = frozenset({"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"})
_SECRETS: Final = frozenset({"PGPASSWORD", "PGPASSFILE"})
_ASK_SECONDS: Final = 120.0
"""A query gives up by itself after a few message timeouts of Slurm (10 s, at busy sites 100 s)."""
_SUBMIT_SECONDS: Final = 600.0
"""sbatch repeats by itself while the controller is full, for minutes."""
_HISTORY_SECONDS: Final = 400 * 86_400
"""Without -S sacct's window begins today at midnight: what ended before would seem never to have been."""
_GONE: Final = re.compile(
    r"invalid job id|already (finished|completing|completed)|no active jobs match", re.IGNORECASE
)
_ANSWER: Final = re.compile(r"(\d+)(?:;\S+)?")


class Programs:
    """The transport of every site and version: sbatch, squeue, sacct, scancel, scontrol, sinfo."""

    def description(self) -> str:
        """Say what it is."""
        return "asked by its commands"

    def site(self) -> Site:
        """Ask scontrol."""
        facts = read_config(ask(["scontrol", "show", "config"]))
        return Site(
            cluster=facts.get("ClusterName", "cluster"),
            minimum_age_seconds=float(leading_number(facts.get("MinJobAge", ""), 300)),
            largest_array=leading_number(facts.get("MaxArraySize", ""), 1001),
            version=facts.get("SLURM_VERSION", "unknown"),
            has_accounting=facts.get("AccountingStorageType", "").endswith("slurmdbd"),
        )

    def partitions(self) -> Sequence[Partition]:
        """Ask scontrol."""
        return read_partitions(ask(["scontrol", "show", "partition", "-o"]))

    def node_sizes(self, partition: str) -> Sequence[NodeSize]:
        """Ask sinfo."""
        command = ["sinfo", "-h", "-N", "-o", "%c|%m"]
        if partition:
            command += ["-p", partition]
        return [NodeSize(cpus, mebibytes * 2**20) for cpus, mebibytes in read_node_sizes(ask(command))]

    def jobs(self) -> Sequence[Job]:
        """Ask squeue, by user: that alone is filtered where the queue is.

        For a list of ids the whole cluster's queue would be sent here.
        """
        command = ["squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", SQUEUE_FORMAT]
        return read_squeue(ask(command))

    def records(self, numbers: Collection[str]) -> Sequence[Job]:
        """Ask sacct."""
        return _recorded("-j", ",".join(sorted(numbers)))

    def records_named(self, name: str) -> Sequence[Job]:
        """Ask sacct."""
        return _recorded("--name", name, "-u", str(os.getuid()))

    def test(self, script: Script, config: Mapping[str, Any]) -> None:
        """Ask sbatch what it would do."""
        if config.get("submit") == "pyslurm":
            raise PermanentError(
                "submit: 'pyslurm' is only possible with the setting slurm_transport = \"pyslurm\" where "
                "this config's submitter runs; accepted here: 'sbatch'."
            )
        outcome = call(["sbatch", "--test-only"], text=script.text)
        if outcome.returncode != 0:
            raise error_of("sbatch", outcome.stderr or outcome.stdout)

    def submit(self, script: Script, config: Mapping[str, Any], *, held: Sequence[int] = ()) -> str:
        """Call sbatch, which holds the descriptors as long as it lives."""
        del config
        # A script's own line would be outranked by these words: the name is what it is found by.
        command = ["sbatch", "--parsable", f"--job-name={script.name}"]
        outcome = call(command, text=script.text, seconds=_SUBMIT_SECONDS, held=held)
        printed = outcome.stdout.strip()
        answer = _ANSWER.fullmatch(printed.splitlines()[-1]) if printed else None
        if answer is not None:
            return answer.group(1)
        if outcome.returncode == 0:
            raise TransientError(f"sbatch answered no job number: {printed[:200]!r}.")
        raise error_of("sbatch", outcome.stderr or outcome.stdout)

    def cancel(self, jobs: Sequence[str]) -> None:
        """End them in one call of scancel, which says nothing of those that have ended."""
        try:
            _part(jobs, "canceled")
        except PermanentError as error:
            # A site's plugin may refuse all changes; better gone without a trace than not canceled.
            logger.warning("Tasks that wait are canceled as they are: %s", error)
        ask(["scancel", "--quiet", *jobs])

    def take_back(self, jobs: Sequence[str]) -> None:
        """Let the controller choose: between a look at the queue and a plain scancel one could start."""
        _part(jobs, "taken_back")
        _tell_each(["scancel", "--state=PENDING", *jobs])


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what Slurm's programs, and through them all jobs, may inherit.

    Our settings and tokens are not theirs. SLURM_* and SBATCH_* of a job that we run in ourselves would
    silently decide what the new one gets.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in _KEPT
        or not (name.startswith(("LADING_", "SLURM_", "SBATCH_", "SLURMD_")) or name in _SECRETS)
    }


def ask(arguments: Sequence[str], *, seconds: float = _ASK_SECONDS) -> str:
    """Run a program that changes nothing, or that may be repeated; return what it prints.

    Raises TransientError for weather, another BackendError for a refusal.
    """
    outcome = call(arguments, seconds=seconds)
    if outcome.returncode != 0:
        raise error_of(arguments[0], outcome.stderr or outcome.stdout)
    return outcome.stdout


def call(
    arguments: Sequence[str],
    *,
    seconds: float = _ASK_SECONDS,
    text: str | None = None,
    held: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program with `text` as its input; the descriptors `held` stay open as long as it lives."""
    environment = clean_environment(os.environ)
    # Messages are compared with English texts; times are read as ISO.
    environment |= {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
    try:
        return subprocess.run(
            list(arguments),
            input=text or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
            env=environment,
            pass_fds=tuple(held),
        )
    except FileNotFoundError as error:
        raise PermanentError(f"There is no {arguments[0]} here: is Slurm's client installed?") from error
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{arguments[0]} did not answer within {seconds:.0f} s.") from error
    except OSError as error:
        raise TransientError(f"{arguments[0]} cannot be started now: {error}") from error


def _recorded(*selection: str) -> list[Job]:
    start = time.strftime("%Y-%m-%d", time.localtime(time.time() - _HISTORY_SECONDS))
    command = ["sacct", "-D", "-X", "-n", "-P", "-S", start, f"--format={SACCT_FORMAT}", *selection]
    return read_sacct(ask(command))


def _part(jobs: Sequence[str], comment: str) -> None:
    """Give each of these tasks a record of its own, which any change does; this one harms none that runs.

    Tasks that wait share one. Of it scancel by state would end all (seen in 22.05), and one that is canceled
    out of it is gone without a trace, in queue and accounting.
    """
    tasks = [job for job in jobs if "_" in job]
    if tasks:
        _tell_each(["scontrol", "update", f"jobid={','.join(tasks)}", f"comment={comment}"])


def _tell_each(command: Sequence[str]) -> None:
    """Run a program that does what it can for each of its jobs; those that are over are no error."""
    outcome = call(command)
    complaints = [line for line in outcome.stderr.splitlines() if line.strip()]
    others = [line for line in complaints if not _GONE.search(line)]
    if outcome.returncode != 0 and (others or not complaints):
        raise error_of(command[0], "\n".join(others))
