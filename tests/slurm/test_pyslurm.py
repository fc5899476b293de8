"""A real pyslurm against a real Slurm, in a root of their own: the backend's tests are run there, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lib.repository import ROOT

pytestmark = pytest.mark.slurm

SCRIPT = Path(__file__).with_name("pyslurm_root.sh")
RUNS = {
    # Slurm's programs of a later release than the machine's own.
    "commands": ["test_transports.py"],
    "pyslurm": ["test_transports.py", "test_conformance.py", "test_backend.py", "pyslurm_cases.py"],
    "submits": ["test_conformance.py", "test_backend.py", "test_refusals.py"],
}


@pytest.fixture(scope="module")
def root() -> Path:
    """Find the root; skip, with the reason, where there is none. On CI it was built before."""
    if os.geteuid() != 0:
        pytest.skip("pyslurm: its root can be entered by root alone")
    path = Path(
        subprocess.run(["bash", SCRIPT, "path"], capture_output=True, text=True, check=True).stdout.strip()
    )
    if not path.exists():
        pytest.skip(f"pyslurm: there is no {path}; make it: {SCRIPT.relative_to(ROOT)} build")
    return path


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("transport", RUNS)
def test_the_backend_in_a_root_with_pyslurm(root: Path, transport: str):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    if transport == "submits":
        command += ["-m", "not sbatch"]
    command += [f"tests/slurm/{name}" for name in RUNS[transport]]
    outcome = subprocess.run(
        ["bash", SCRIPT, "enter", *command],
        cwd=ROOT,
        env=os.environ | {"SLURM_LAB_TRANSPORT": transport},
        capture_output=True,
        text=True,
        check=False,
    )
    said = outcome.stdout + outcome.stderr
    assert outcome.returncode == 0, said[-12_000:]
    assert " passed" in said
