"""What .importlinter cannot say by itself: that its lists are complete."""

from __future__ import annotations

import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

from tests.lib.repository import ROOT

CONTRACTS = ConfigParser()
CONTRACTS.read(ROOT / ".importlinter")


def listed(contract: str, option: str) -> set[str]:
    lines = CONTRACTS[f"importlinter:contract:{contract}"][option].splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def modules_of(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if path.suffix == ".py" and path.stem != "__init__"}


def test_handlers_are_kept_from_all_of_storage_but_its_vocabulary():
    storage = {f"lading.api.storage.{name}" for name in modules_of(ROOT / "api" / "storage")}
    assert listed("handlers", "forbidden_modules") == storage - {"lading.api.storage.statements"}


def test_the_domain_is_kept_from_every_package_that_we_depend_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["server"]
    wanted += project["optional-dependencies"]["slurm"]
    wanted += project["optional-dependencies"]["tui"]
    names = {Requirement(text).name.lower() for text in wanted}
    modules = {
        module
        for module, distributions in packages_distributions().items()
        if not module.startswith("_") and any(name.lower() in names for name in distributions)
    }
    assert modules - listed("domain", "forbidden_modules") == set()


def test_no_contract_has_an_exception():
    assert [name for name in CONTRACTS.sections() if "ignore_imports" in CONTRACTS[name]] == []
