"""The rules of tests/conftest.py hold: they are what makes a green CI mean something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.lib.repository import ROOT

SKIPS = "import pytest\ndef test_it(): pytest.skip('no such thing here')\n"
SKIPS_AS_MODULE = "import pytest\npytest.skip('no such thing here', allow_module_level=True)\n"
EXPECTS_FAILURE = "import pytest\n@pytest.mark.xfail(reason='no such thing here')\ndef test_it(): assert 0\n"
SECOND_COPY = "def test_it():\n    import toolkit\n"
LOOKS_AROUND = (
    "import os\n"
    "def test_it():\n"
    "    assert [name for name in os.environ if name.startswith('LADING_')] == []\n"
    "    assert 'lading-tests-' in os.environ['XDG_STATE_HOME']\n"
)


def outcome(folder: Path, text: str, **environment: str) -> tuple[int, str]:
    """Run a test file of that text under our rules; return exit code and output."""
    file = folder / "test_it.py"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-ra"]
    command += ["-c", os.devnull, "--rootdir", str(folder), str(file)]
    # Ours may have been told of a server of its own.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LADING_")}
    run = subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("text", [SKIPS, SKIPS_AS_MODULE, EXPECTS_FAILURE], ids=["skip", "module", "xfail"])
def test_nothing_is_skipped_on_ci(tmp_path, text):
    code, output = outcome(tmp_path, text, CI="true")
    assert code != 0
    assert "Nothing may be skipped on CI" in output
    assert "no such thing here" in output


def test_a_skip_elsewhere_prints_its_reason(tmp_path):
    code, output = outcome(tmp_path, SKIPS, CI="")
    assert code == 0
    assert "no such thing here" in output


def test_a_second_copy_of_our_modules_fails_the_session(tmp_path):
    code, output = outcome(tmp_path, SECOND_COPY)
    assert code == 1
    assert "imported past the package" in output


def test_the_environment_of_the_developer_decides_nothing(tmp_path):
    code, output = outcome(tmp_path, LOOKS_AROUND, LADING_SERVER_URL="http://127.0.0.1:9", LADING_OUTPUT="x")
    assert code == 0, output


async def test_databases_are_apart(postgres_databases):
    first = postgres_databases.create()
    connection = await asyncpg.connect(first)
    await connection.execute("CREATE TABLE thing (id BIGINT)")
    await connection.close()
    copy, empty = postgres_databases.create(template=first), postgres_databases.create()
    try:
        counts = []
        for url in (copy, empty):
            connection = await asyncpg.connect(url)
            query = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'thing'"
            counts.append(await connection.fetchval(query))
            await connection.close()
        assert counts == [1, 0]
    finally:
        for url in (first, copy, empty):
            postgres_databases.drop(url)
