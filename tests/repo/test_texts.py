"""What no tracked file may say or be."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lib.repository import ROOT, texts, tracked_files

MAX_LINES = 500
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
# Spelled so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE = re.compile(
    r"(?<![\w.])/(work|root)/|/home/(?!USER\b|user\b|you\b)\w"
    r"|\b(files\.pythonhosted|pypi\.(org|python)|deb\.debian|registry\.npmjs)\b"
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")


def found(pattern: re.Pattern[str], *, but: tuple[str, ...] = ()) -> list[str]:
    """List FILE:LINE of every match."""
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in texts()
        if str(path) not in but
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_marked_unfinished():
    assert found(UNFINISHED) == []


def test_no_path_or_registry_of_one_machine():
    assert found(MACHINE, but=("tests/repo/test_texts.py",)) == []


def test_no_file_is_long():
    long = {
        str(path): lines
        for path, text in texts()
        if path.suffix in {".py", ".sql", ".sh"} and (lines := text.count("\n")) > MAX_LINES
    }
    assert long == {}


def test_no_module_is_vague():
    assert [str(path) for path in tracked_files() if path.suffix == ".py" and path.stem in VAGUE] == []


def test_no_file_stands_empty():
    may = {"py.typed", "__init__.py"}
    assert [str(path) for path, text in texts() if not text.strip() and path.name not in may] == []


def test_links_in_documents_resolve():
    broken = []
    for path, text in texts():
        if path.suffix != ".md":
            continue
        for match in LINK.finditer(re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)):
            target = match[1] or match[2]
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (ROOT / path.parent / name).resolve() if name else ROOT / path
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{path}: {target}")
    assert broken == []


def anchors(file: Path) -> set[str]:
    """Name the headings of a page as its links do."""
    headings = re.findall(r"(?m)^#+\s+(.*?)\s*$", file.read_text())
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}
