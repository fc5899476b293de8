"""All that is wrong with one specification, each with its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final, TypeAlias

from lading.toolkit.domain.tree import Node, Step, clip, path_text
from lading.toolkit.errors import BadInput, Violation

Way: TypeAlias = tuple[Step, ...]

MOST_VIOLATIONS: Final = 200
"""More help nobody; a wrong word in each of 100 000 jobs must not make a message of 30 MB."""

_MOST_CANDIDATES: Final = 2_000
_MOST_LISTED: Final = 8


class Report:
    """Collect violations; places are looked up in the tree only when something is wrong."""

    def __init__(self, root: Node, *, null_is_absent: bool) -> None:
        self.root = root
        self.null_is_absent = null_is_absent
        self.violations: list[Violation] = []

    def add(
        self,
        way: Way,
        message: str,
        *,
        value: object = None,
        accepted: str | None = None,
        suggestion: str | None = None,
        at_name: bool = False,
    ) -> None:
        """Note one violation at the value that a way leads to, or at the name of that field."""
        node = self.root.find(way)
        value = clip(value, 200) if isinstance(value, str) else value
        line, column = (node.key_line, node.key_column) if at_name else (node.line, node.column)
        self.violations.append(Violation(path_text(way), message, value, accepted, suggestion, line, column))
        if len(self.violations) >= MOST_VIOLATIONS:
            more = f"There may be more: reading stopped after {MOST_VIOLATIONS} violations."
            self.violations.append(Violation("", more))
            raise BadInput.of(self.violations)

    def adopt(self, way: Way, error: BadInput) -> None:
        """Note what a parser of single values refused."""
        for violation in error.violations:
            self.add(
                way,
                violation.message,
                value=violation.value,
                accepted=violation.accepted,
                suggestion=violation.suggestion,
            )

    def finish(self) -> None:
        """Raise one error of everything that was noted, in the order of the document."""
        if self.violations:
            raise BadInput.of(
                sorted(self.violations, key=lambda violation: (violation.line or 0, violation.column or 0))
            )

    def place(self, way: Way) -> str:
        """Return a way with its line, if that is known: `jobs[3] (line 17)`."""
        line = self.root.find(way).line
        return path_text(way) if line is None else f"{path_text(way)} (line {line})"

    def item(self, way: Way, name: str) -> Way:
        """Return the way to the last element of a list that is, or names, `name`."""
        found = way
        for index, child in enumerate(self.root.find(way).children()):
            value = child.value
            given = value["name"].value if isinstance(value, dict) and "name" in value else value
            if given == name:
                found = (*way, index)
        return found


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that a mistyped word most probably means, or None."""
    candidates = list(names)
    if len(candidates) > _MOST_CANDIDATES:
        # Comparing with 100 000 names takes seconds: keep those that a typing error can reach.
        candidates = [name for name in candidates if abs(len(name) - len(word)) <= 1 and name[:2] == word[:2]]
    matches = get_close_matches(word, candidates[:_MOST_CANDIDATES], n=1, cutoff=0.6)
    if matches:
        return matches[0]
    folded = word.casefold()
    return next((name for name in candidates if name.casefold() == folded), None)


def listing(names: Collection[str], kind: str) -> str:
    """Return the accepted names if they are few, else how many there are."""
    if not names:
        return f"none: the document has no {kind}"
    if len(names) > _MOST_LISTED:
        return f"the names of the {len(names)} {kind} of the document"
    return ", ".join(repr(name) for name in names)
