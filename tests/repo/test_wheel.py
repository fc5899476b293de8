"""What people install is what is in the repository: nothing forgotten, nothing doubled."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.lib.repository import FOLDERS, ROOT, tracked_files


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    source = tmp_path_factory.mktemp("source")
    for path in tracked_files():
        # A copy of what is tracked: an untracked file lying about must not get in, nor an old build/.
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, source / path, follow_symlinks=False)
    outcome = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def expected_names() -> set[str]:
    package = {f"lading/{path}" for path in tracked_files() if path.parts[0] in FOLDERS}
    return package | {"lading/__init__.py", "lading/py.typed"}


def test_wheel_holds_every_tracked_file_of_the_package(wheel_names):
    assert expected_names() - wheel_names == set()


def test_wheel_holds_nothing_else(wheel_names):
    assert {name for name in wheel_names if ".dist-info/" not in name} - expected_names() == set()


def test_links_in_src_resolve():
    for folder in FOLDERS:
        link = ROOT / "src" / "lading" / folder
        assert link.is_symlink(), f"{link} is not a link; check out with core.symlinks=true"
        target = link.readlink()
        assert target == Path("../..", folder)
        assert link.resolve() == ROOT / folder
        assert (link / "__init__.py").samefile(ROOT / folder / "__init__.py")


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in tracked_files() if path.parts[0] in FOLDERS and path.suffix == ".py"}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []
