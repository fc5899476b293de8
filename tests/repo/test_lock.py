"""The lock answers what pyproject.toml asks for, by hash, from no particular place."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.lib.repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
WANTED = {
    "run": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["server"],
        *GROUPS["build"],
        *PROJECT["build-system"]["requires"],
    ],
}
WANTED["dev"] = [*WANTED["run"], *GROUPS["dev"]]


def locked(name: str) -> dict[str, tuple[Version, int]]:
    """Read a lock: name -> (version, number of hashes)."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    found: dict[str, tuple[Version, int]] = {}
    for entry in re.split(r"(?m)^(?=\S)", text):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry)
        if match:
            hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
            found[canonicalize_name(match[1])] = (Version(match[2]), len(hashes))
    return found


@pytest.mark.parametrize("name", ["run", "dev"])
def test_lock_satisfies_the_project(name):
    versions = locked(name)
    for text in WANTED[name]:
        requirement = Requirement(text)
        version, _ = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"`make lock`: {text}, but {version} is locked"


@pytest.mark.parametrize("name", ["run", "dev"])
def test_lock_has_hashes_and_no_addresses(name):
    assert [package for package, (_, hashes) in locked(name).items() if not hashes] == []
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert "://" not in text
    assert re.search(r"(?m)^\s*(-i|-f|--(extra-)?index-url|--find-links)\b", text) is None


def test_development_runs_what_people_run():
    run, dev = locked("run"), locked("dev")
    assert {name: dev.get(name) for name in run} == run
