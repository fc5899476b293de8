"""Users without any rights at a prompt of the login node."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lib.repository import ROOT

PASSWORD = "password-of-a-database"
"""In the environment of the server; no business of jobs and of Slurm."""
_LADING = "from lading.toolkit.cli.main import run; run()"


@dataclass(frozen=True)
class User:
    """Somebody at a prompt of the login node."""

    name: str
    home: Path
    environment: dict[str, str]
    python: Path

    def call(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.home, env=self.environment, input=stdin, user=self.name,
            group=pwd.getpwnam(self.name).pw_gid, extra_groups=[], umask=0o022,
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip

    def run(self, *command: str, stdin: str = "") -> str:
        outcome = self.call(*command, stdin=stdin)
        assert outcome.returncode == 0, f"{command}: {outcome.stderr}"
        return outcome.stdout

    def lading(self, *arguments: str) -> Any:
        return json.loads(self.command(*arguments, "--format", "json"))

    def words(self, *arguments: str) -> list[str]:
        return [str(self.python), "-P", "-c", _LADING, *arguments]

    def command(self, *arguments: str) -> str:
        return self.run(*self.words(*arguments))

    def refused(self, *arguments: str) -> str:
        """Return what a command says that has to be refused."""
        outcome = self.call(*self.words(*arguments))
        assert outcome.returncode == 2, outcome.stdout + outcome.stderr
        return outcome.stderr


@contextmanager
def at_home(name: str, python: Path) -> Iterator[User]:
    """Give that user a home which everybody may enter: what is private is so by itself."""
    home = Path(tempfile.mkdtemp(prefix="lading-home-", dir="/tmp"))
    home.chmod(0o755)
    shutil.chown(home, name)
    environment = {
        **{name: os.environ[name] for name in ("PATH", "SLURM_CONF")},
        "HOME": str(home), "PGPASSWORD": PASSWORD, "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": str(python.parent.parent / "lib"),
        "PYTHONPATH": f"{ROOT / 'src'}:{sysconfig.get_path('purelib')}",
    }  # fmt: skip
    try:
        yield User(name, home, environment, python)
    finally:
        # A test that failed shows them; those that pass keep them to themselves.
        for log in sorted(home.glob("**/*.log")):
            sys.stdout.write(f"--- {log.relative_to(home)}\n{log.read_text()[-6000:]}\n")
        shutil.rmtree(home)
