"""The repository as git knows it: the subject of the tests in tests/repo."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("toolkit", "api", "schedulers", "sbatch_templates")
"""Top-level folders that are mapped into the package `lading`."""


@cache
def tracked_files() -> tuple[Path, ...]:
    """List the tracked files that exist, relative to the root; links are not followed."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: it cannot be told which files belong here", allow_module_level=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    paths = (Path(name) for name in listed.split("\0") if name)
    return tuple(path for path in paths if (ROOT / path).is_file() or (ROOT / path).is_symlink())


def text_of(path: Path) -> str | None:
    """Return the content of a tracked text file; None for links and binary files."""
    if (ROOT / path).is_symlink():
        return None
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def texts() -> list[tuple[Path, str]]:
    """Return every tracked text file with its content."""
    found = ((path, text_of(path)) for path in tracked_files())
    return [(path, text) for path, text in found if text is not None]
