"""The tree that every specification is read from, whatever it was written in.

A node knows where it stood in its file, so that a refusal can point there. A document that arrived
over HTTP has no places; everything else is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Final, TypeAlias

from lading.toolkit.domain.values import INTEGER_MAX, INTEGER_MIN, text_fault
from lading.toolkit.errors import BadInput, Violation

Scalar: TypeAlias = str | int | float | bool | None
Step: TypeAlias = str | int
"""One step of a way through a tree: a field's name, or an index counted from 0."""

MAX_NESTING: Final = 64
"""Lists and mappings inside of each other; deeper documents are attacks on recursive readers."""


# Not frozen only for the sake of speed: a file of 100 000 jobs has millions of nodes, and a frozen
# dataclass takes three times as long to make. Nobody assigns to a node.
@dataclass(slots=True, eq=False)
class Node:
    """One value of a document, with its place counted from 1, or None where places are unknown."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int | None = None
    column: int | None = None
    key_line: int | None = None
    """Where the field's name stands, if this is the value of a field."""
    key_column: int | None = None

    @classmethod
    def from_plain(cls, value: object) -> Node:
        """Build a tree of plain dicts, lists and scalars, and refuse what the border rule forbids."""
        violations: list[Violation] = []
        node = _build(value, (), violations)
        if violations:
            raise BadInput.of(violations)
        return node

    def plain(self) -> object:
        """Return the value as plain dicts, lists and scalars."""
        value = self.value
        if isinstance(value, dict):
            return {name: child.plain() for name, child in value.items()}
        if isinstance(value, list):
            return [child.plain() for child in value]
        return value

    def find(self, way: tuple[Step, ...]) -> Node:
        """Return the node at the end of a way, or the last one that exists on it."""
        node = self
        for step in way:
            child = node._child(step)
            if child is None:
                break
            node = child
        return node

    def _child(self, step: Step) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(step) if isinstance(step, str) else None
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def children(self) -> Iterator[Node]:
        """Yield the nodes directly below."""
        if isinstance(self.value, dict):
            yield from self.value.values()
        elif isinstance(self.value, list):
            yield from self.value


def path_text(way: tuple[Step, ...]) -> str:
    """Return a way as a person writes it: `jobs[3].env.PATH`."""
    text = ""
    for step in way:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if step and step.isprintable() else ascii(step)
            text += f".{name}" if text else name
    return text


def scalar_fault(value: Scalar) -> str | None:
    """Say why the border rule forbids a scalar, or None."""
    if isinstance(value, str):
        fault = text_fault(value)
        return None if fault is None else f"The text {fault}; accepted is valid UTF-8 without NUL."
    if isinstance(value, float) and not isfinite(value):
        return f"The number {value} is not finite; accepted are finite numbers."
    if isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
        return f"The whole number does not fit into 64 bits; accepted is {INTEGER_MIN} to {INTEGER_MAX}."
    return None


def describe(value: object) -> str:
    """Name a value in a message, cut to a length that a line can hold."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, str):
        return f"the text {clip(value)!r}"
    return f"the number {value}"


def clip(text: str, length: int = 60) -> str:
    """Return a text cut to at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _build(value: object, way: tuple[Step, ...], violations: list[Violation]) -> Node:
    if len(way) > MAX_NESTING:
        violations.append(_violation(way, f"The document is nested deeper than {MAX_NESTING} levels.", None))
        return Node(None)
    if isinstance(value, dict):
        children = {}
        for name, child in value.items():
            fault = scalar_fault(name)
            if fault is not None or not isinstance(name, str):
                violations.append(
                    _violation(way, f"A field's name is refused: {fault or describe(name)}", ascii(name))
                )
            else:
                children[name] = _build(child, (*way, name), violations)
        return Node(children)
    if isinstance(value, list | tuple):
        return Node([_build(child, (*way, index), violations) for index, child in enumerate(value)])
    if not isinstance(value, str | int | float | None):
        # TOML has dates and times of its own.
        message = (
            f"The value {clip(str(value))} is a {type(value).__name__}; put it into quotes to make it a text."
        )
        violations.append(_violation(way, message, str(value)))
        return Node(None)
    fault = scalar_fault(value)
    if fault is not None:
        violations.append(_violation(way, fault, ascii(value) if isinstance(value, str) else None))
        return Node(None)
    return Node(value)


def _violation(way: tuple[Step, ...], message: str, value: object) -> Violation:
    return Violation(path_text(way), message, value)
