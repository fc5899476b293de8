"""Pages that are made from code are up to date."""

from __future__ import annotations

import runpy

from tests.lib.repository import ROOT


def test_states_page_says_what_the_code_does():
    page = runpy.run_path(str(ROOT / "docs" / "states.py"))["page"]
    assert (ROOT / "docs" / "states.md").read_text() == page(), "run `make docs`"
