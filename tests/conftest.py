"""What holds for every test: a clean environment, honest skips, one copy of each module."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lib import postgres

ON_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
"""There everything that a test needs is installed: a skipped test is a failed one."""

SECOND_COPIES = ("toolkit", "api", "schedulers", "sbatch_templates")

for _name in os.environ.keys() - {postgres.ADMIN_URL_VARIABLE}:
    # A developer's own server, token or settings must decide nothing here.
    if _name.startswith("LADING_"):
        del os.environ[_name]
_home = tempfile.TemporaryDirectory(prefix="lading-tests-", ignore_cleanup_errors=True)
for _name in ("CONFIG", "STATE", "CACHE", "DATA"):
    os.environ[f"XDG_{_name}_HOME"] = str(Path(_home.name, _name.lower()))


@pytest.fixture(scope="session")
def postgres_admin_url() -> Iterator[str]:
    """Start one PostgreSQL server for the session, or take the one that the environment names.

    Skips, with the reason, what needs it where there is none; on CI that is a failure.
    """
    given = os.environ.get(postgres.ADMIN_URL_VARIABLE)
    if given:
        yield given
        return
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres.running_server())
        except postgres.Unavailable as error:
            pytest.skip(f"PostgreSQL: {error}")
        yield url


@pytest.fixture(scope="session")
def postgres_databases(postgres_admin_url: str) -> postgres.Databases:
    """Make databases on the session's PostgreSQL server; one can be the template of others."""
    return postgres.Databases(postgres_admin_url)


@pytest.fixture
def postgres_url(postgres_databases: postgres.Databases) -> Iterator[str]:
    """Give the test an empty PostgreSQL database of its own."""
    url = postgres_databases.create()
    yield url
    postgres_databases.drop(url)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip on CI, and there also an expected failure, into a failure."""
    del item, call
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a module that skips itself on CI into a failure."""
    del collector
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if ON_CI and (report.skipped or hasattr(report, "wasxfail")):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else None
        reason = reason or f"expected to fail: {getattr(report, 'wasxfail', '')}"
        # Without the mark: a report that carries it is counted as an expected failure whatever else it says.
        vars(report).pop("wasxfail", None)
        report.outcome = "failed"
        report.longrepr = f"Nothing may be skipped on CI: {reason}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Check that nothing was imported past the package `lading`."""
    _home.cleanup()
    copies = [name for name in SECOND_COPIES if name in sys.modules]
    if copies:
        # `import toolkit` works from the root of the repository, with a second copy of every enum.
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        sys.stderr.write(f"\nimported past the package `lading`: {', '.join(copies)}\n")
