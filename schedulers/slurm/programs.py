"""Slurm's programs: started with a clean environment, given a time, their errors told apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from lading.schedulers.slurm.refusals import error_of
from lading.toolkit.errors import PermanentError, TransientError

_KEPT: Final = frozenset({"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"})
_SECRETS: Final = frozenset({"PGPASSWORD", "PGPASSFILE"})
_ASK_SECONDS: Final = 120.0
"""A query gives up by itself after a few message timeouts of Slurm (10 s, at busy sites 100 s)."""


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
