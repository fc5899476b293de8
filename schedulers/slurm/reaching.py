"""Whether a node reaches the server: one short job that calls back and says what happened."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lading.schedulers.slurm.programs import call
from lading.schedulers.slurm.refusals import error_of
from lading.schedulers.slurm.script import directive, one_line, options_of_config, quoted
from lading.toolkit.errors import TransientError

_PROGRAM: Final = """
import ssl, sys, urllib.request
# Only whether it answers is asked; no token is sent, so nothing depends on who answers.
context = ssl._create_unverified_context()
try:
    with urllib.request.urlopen(sys.argv[1], timeout=20, context=context) as answer:
        print("reached", answer.status)
except OSError as error:
    print("failed", error)
"""


def call_from_node(config: dict[str, object], url: str, folder: Path, seconds: float) -> tuple[bool, str]:
    """Run a job of this config that asks the server for a sign of life; return (reached, what it said).

    `folder` lies on the file system that nodes share; `seconds` bound the wait in Slurm's queue.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-probe-", dir=folder) as place:
        output = Path(place) / "said"
        script = _script(options_of_config(config), output, url)
        command = ["sbatch", "--wait", "--parsable", "--job-name=lading-probe"]
        try:
            outcome = call(command, text=script, seconds=seconds)
        except TransientError:
            call(["scancel", "--quiet", "--name=lading-probe", "--me"])
            return False, f"the job did not end within {seconds:.0f} s; is the partition busy?"
        said = output.read_text(encoding="utf-8", errors="replace").strip() if output.exists() else ""
        if not said and outcome.returncode != 0:
            raise error_of("sbatch", outcome.stderr or outcome.stdout)
        return said.startswith("reached"), said or "the job wrote nothing: is this folder on the nodes, too?"


def _script(options: Sequence[str], output: Path, url: str) -> str:
    name = one_line("output", output).replace("%", "%%")
    words = [*options, f"--output={name}", "--time=2"]
    lines = ["#!/bin/bash", *(f"#SBATCH {directive(word)}" for word in words)]
    # The program has several lines; it is ours, and one word all the same.
    lines.append(f"exec {quoted(sys.executable)} -c {shlex.quote(_PROGRAM)} {quoted(url)}")
    return "\n".join(lines) + "\n"
