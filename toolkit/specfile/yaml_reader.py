"""YAML 1.2 text to a tree: what a plain word looks like is what it is.

PyYAML scans and parses; what its constructor would do (YAML 1.1: `no` is false, `12:30` is 750,
merge keys, tags that make objects) is done here instead, by the core schema of YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from lading.toolkit.domain.tree import MAX_NESTING, Node, Scalar, clip
from lading.toolkit.specfile.faults import Faults, Places

MAX_ALIASED: Final = 1_000_000
"""Nodes that aliases may add to a document: a few lines of aliases can stand for billions."""

# libyaml is ten times faster; a PyYAML built without it still works.
_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_START: Final = frozenset("+-.0123456789")
# Stricter than the core schema in one point: 0777 stays a text, since its reader may mean octal.
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_HEXADECIMAL: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(slots=True)
class _Anchored:
    """What an anchor stands for, and what each alias to it adds."""

    node: Node
    size: int
    height: int


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self.faults = Faults(source)
        self.places = Places(text)
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_PARSER))
        self.anchors: dict[str, _Anchored] = {}
        self.open_anchors: set[str] = set()
        self.made = 0
        self.aliased = 0

    def document(self) -> Node:
        """Read the one document of the text."""
        root = Node(None, 1, 1)
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    message = "A second document starts here; a specification is one document."
                    raise self.faults.syntax(message, *_place(event))
                root, _ = self.node(next(self.events), 1)
        self.faults.finish()
        return root

    def node(self, event: Any, depth: int) -> tuple[Node, int]:
        """Read the node that starts with this event; return it with its height."""
        line, column = _place(event)
        if isinstance(event, AliasEvent):
            return self.alias(event, depth)
        anchor = event.anchor
        before = self.made + self.aliased
        self.made += 1
        if anchor is not None:
            self.open_anchors.add(anchor)
        self.refuse_tag(event, line, column)
        if isinstance(event, ScalarEvent):
            value = resolve(event.value) if event.implicit[0] else event.value
            node, height = Node(self.faults.check(value, line, column), line, column), 0
        elif depth > MAX_NESTING:
            raise self.faults.syntax(
                f"The document is nested deeper than {MAX_NESTING} levels.", line, column
            )
        elif isinstance(event, SequenceStartEvent):
            node, height = self.sequence(line, column, depth)
        else:
            node, height = self.mapping(line, column, depth)
        if anchor is not None:
            self.open_anchors.discard(anchor)
            self.anchors[anchor] = _Anchored(node, self.made + self.aliased - before, height)
        return node, height

    def sequence(self, line: int, column: int, depth: int) -> tuple[Node, int]:
        items: list[Node] = []
        height = 0
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            node, below = self.node(event, depth + 1)
            items.append(node)
            height = max(height, below)
        return Node(items, line, column), height + 1

    def mapping(self, line: int, column: int, depth: int) -> tuple[Node, int]:
        fields: dict[str, Node] = {}
        height = 0
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            name = self.key(event, depth)
            key_line, key_column = _place(event)
            node, below = self.node(next(self.events), depth + 1)
            height = max(height, below)
            if name is None:
                continue
            if node.key_line is not None:
                # An alias: one value below two names, each with a place of its own.
                node = Node(node.value, node.line, node.column)
            node.key_line, node.key_column = key_line, key_column
            if name in fields:
                first = fields[name].key_line
                message = f"The field {clip(name)!r} stands twice in one mapping, first at line {first}."
                self.faults.add(message, key_line, key_column)
            else:
                fields[name] = node
        return Node(fields, line, column), height + 1

    def key(self, event: Any, depth: int) -> str | None:
        """Return a field's name as it is written, or note why it is none and return None."""
        line, column = _place(event)
        if isinstance(event, AliasEvent):
            name = self.alias(event, depth)[0].value
        elif isinstance(event, ScalarEvent):
            self.refuse_tag(event, line, column)
            name = event.value
            if name == "<<" and event.implicit[0]:
                message = "The merge key '<<' is not accepted (YAML 1.2 has none); repeat the fields."
                self.faults.add(message, line, column, value=name)
                return None
            if event.anchor is not None:
                self.anchors[event.anchor] = _Anchored(Node(name, line, column), 1, 0)
        else:
            name = None
            self.node(event, depth + 1)
        if not isinstance(name, str):
            self.faults.add("A field's name must be a text, not a list or a mapping.", line, column)
            return None
        checked = self.faults.check(name, line, column)
        return checked if isinstance(checked, str) else None

    def alias(self, event: Any, depth: int) -> tuple[Node, int]:
        """Return the node that an alias stands for, shared, and count what it adds."""
        line, column = _place(event)
        name = event.anchor
        if name in self.open_anchors:
            raise self.faults.syntax(
                f"The alias '*{name}' stands inside of the value that it repeats.", line, column
            )
        anchored = self.anchors.get(name)
        if anchored is None:
            raise self.faults.syntax(f"The alias '*{name}' has no anchor '&{name}' before it.", line, column)
        self.aliased += anchored.size
        if self.aliased > MAX_ALIASED:
            message = f"The aliases stand for more than {MAX_ALIASED} values; write a smaller document."
            raise self.faults.syntax(message, line, column)
        if depth - 1 + anchored.height > MAX_NESTING:
            raise self.faults.syntax(
                f"The document is nested deeper than {MAX_NESTING} levels.", line, column
            )
        return anchored.node, anchored.height

    def refuse_tag(self, event: Any, line: int, column: int) -> None:
        if event.tag is not None:
            message = (
                f"The tag {clip(event.tag)!r} is not accepted; quotes make a text, plain numbers are numbers."
            )
            self.faults.add(message, line, column, value=event.tag)

    def explain(self, error: yaml.YAMLError) -> Exception:
        """Turn PyYAML's complaint into ours, with the line that it is about."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "the text is not YAML"
        context = getattr(error, "context", None)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else self.unreadable(error)
        if "cannot start any token" in problem and self.places.character(line, column) == "\t":
            problem = "a tab cannot indent, use blanks"
        where = self.places.line_text(line)
        near = f", at {where!r}" if where else ""
        message = f"This is not YAML: {problem}{f' ({context})' if context else ''}{near}."
        return self.faults.syntax(message, line, column, where or None)

    def unreadable(self, error: yaml.YAMLError) -> tuple[int, int]:
        position = getattr(error, "position", 0)
        return self.places.at(position if isinstance(position, int) else 0)


def read_yaml(text: str, source: str) -> Node:
    """Read YAML 1.2 text; raise BadInput with the places of everything that is wrong with it."""
    reader = _Reader(text, source)
    try:
        return reader.document()
    except yaml.YAMLError as error:
        raise reader.explain(error) from None


def resolve(text: str) -> Scalar:
    """Return what a plain (unquoted) word stands for in the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INTEGER.fullmatch(text):
        # Far beyond 64 bits already: refused by the border rule, without converting 5 000 digits.
        return int(text[:40])
    if _OCTAL.fullmatch(text):
        return int(text[2:42], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:42], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _place(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1
