"""Every example, those in the documents included, is a specification that is accepted as it stands."""

from __future__ import annotations

import re

import pytest

from lading.toolkit.specfile import read_file
from tests.lib.repository import ROOT

EXAMPLES = sorted(path for path in (ROOT / "docs" / "examples").iterdir() if path.is_file())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_accepted(path, tmp_path):
    # From an empty folder: an example must need no file that a reader does not have.
    assert read_file(path, directory=tmp_path).jobs


def test_example_of_the_readme_is_accepted(tmp_path):
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```", (ROOT / "README.md").read_text())
    path = tmp_path / "workflow.yaml"
    # The later ones are additions to the first.
    path.write_text("".join(blocks))
    assert [job.name for job in read_file(path, directory=tmp_path).jobs] == ["measure", "evaluate"]
