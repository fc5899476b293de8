from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from tests.unit.cli.conftest import Invoke

NAMES = ["plain", 'say "hi"', r"\N \l back\slash", "<b>&amp;</b>", "a -> b; }", "Ünïcödé 日本"]


def xgmml(names: list[str]) -> str:
    nodes = "".join(f"<node id={quoteattr(f'n/{name}')} label={quoteattr(name)}/>\n" for name in names)
    edge = f"<edge source={quoteattr(f'n/{names[0]}')} target={quoteattr(f'n/{names[1]}')} label='then'/>"
    return f"<?xml version='1.0'?>\n<graph xmlns='http://www.cs.rpi.edu/XGMML'>\n{nodes}{edge}\n</graph>\n"


def test_any_name_becomes_a_node_of_that_name(lading: Invoke, work: Path, monkeypatch: pytest.MonkeyPatch):
    (work / "g.xgmml").write_text(xgmml(NAMES), encoding="utf-8")
    monkeypatch.setenv("PATH", "")
    result = lading("graphs", "plot-xgmml", "g.xgmml")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == ["g.dot"]
    text = (work / "g.dot").read_text(encoding="utf-8")
    for name in NAMES:
        shown = name.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
        assert f'"n/{shown}" [label="{shown}"];' in text
    assert '"n/plain" -> "n/say \\"hi\\"" [label="then"];' in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<graph><node/></graph>", ["line 1", "node", "`id`"]),
        ("<graph>\n<edge source='a'/></graph>", ["line 2", "edge", "`target`"]),
        ("<graph>\n<node id='a'>", ["line 2", "XGMML"]),
        ("<html/>", ["`graph`"]),
        ("", ["line 1"]),
        ('<!DOCTYPE g [<!ENTITY a "b">]><graph/>', ["entities"]),
    ],
)
def test_what_is_no_graph_is_refused(lading: Invoke, work: Path, text: str, words: list[str]):
    (work / "g.xgmml").write_text(text)
    result = lading("graphs", "plot-xgmml", "g.xgmml", "-k")
    assert result.exit_code == 2
    assert not result.stdout
    assert [word for word in words if word not in result.stderr] == []
    assert sorted(path.name for path in work.iterdir()) == ["g.xgmml"]
