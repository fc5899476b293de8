"""What is wrong with a text that cannot be read as a tree, and where."""

from __future__ import annotations

from bisect import bisect_right
from re import compile as compile_pattern
from typing import Final

from lading.toolkit.domain.tree import Scalar, Step, clip, path_text, scalar_fault
from lading.toolkit.errors import BadInput, Violation

_LINE_END: Final = compile_pattern(r"\r\n|\n|\r")
_MOST_FAULTS: Final = 100


class Places:
    """The lines of a text: from an offset to a line and column, counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def at(self, offset: int) -> tuple[int, int]:
        """Return the line and the column of the character at an offset."""
        index = bisect_right(self._starts, offset) - 1
        return index + 1, offset - self._starts[index] + 1

    def character(self, line: int, column: int) -> str:
        """Return the character at a place, or an empty text beyond the end."""
        start = self._starts[line - 1] + column - 1 if 0 < line <= len(self._starts) else len(self._text)
        return self._text[start : start + 1]

    def line_text(self, line: int) -> str:
        """Return one line without its end, cut to what a message can hold."""
        if not 0 < line <= len(self._starts):
            return ""
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self._text)
        return clip(self._text[start:end].strip(), 80)


class Faults:
    """Collect what is wrong with a document that can still be read to its end."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._violations: list[Violation] = []

    def add(
        self, message: str, line: int, column: int, way: tuple[Step, ...] = (), value: object = None
    ) -> None:
        """Note one fault; the reader goes on."""
        self._violations.append(Violation(path_text(way), message, value, line=line, column=column))
        if len(self._violations) >= _MOST_FAULTS:
            raise self.error()

    def check(self, value: Scalar, line: int, column: int) -> Scalar:
        """Return a scalar that passes the border rule, or note why it does not and return None."""
        fault = scalar_fault(value)
        if fault is None:
            return value
        self.add(fault, line, column, value=ascii(value) if isinstance(value, str) else None)
        return None

    def syntax(self, message: str, line: int, column: int, value: object = None) -> BadInput:
        """Make the error that ends the reading: what follows cannot be understood."""
        self._violations.append(Violation("", message, value, line=line, column=column))
        return self.error()

    def finish(self) -> None:
        """Raise if anything was noted."""
        if self._violations:
            raise self.error()

    def error(self) -> BadInput:
        """Return one error of everything that was noted."""
        return located(self._violations, self.source)


def located(violations: list[Violation] | tuple[Violation, ...], source: str) -> BadInput:
    """Make one error whose text has a line `SOURCE:LINE:COLUMN: PATH: MESSAGE` for each violation."""
    return BadInput("\n".join(describe_place(violation, source) for violation in violations), violations)


def describe_place(violation: Violation, source: str) -> str:
    """Return a violation as compilers print it, so that editors can jump to it."""
    place = source
    if violation.line is not None:
        place += f":{violation.line}"
        if violation.column is not None:
            place += f":{violation.column}"
    return f"{place}: {violation}"
