"""Graphs in XGMML, the XML form in which graph programs exchange them, as DOT text."""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

from lading.toolkit.errors import BadInput


def dot_of_xgmml(path: Path) -> str:
    """Return the nodes and edges of a file as a DOT graph. Raises BadInput naming the line that is wrong."""
    reader = _Reader(path)
    reader.read()
    lines = ["digraph {", *reader.nodes, *reader.edges, "}"]
    return "\n".join(lines) + "\n"


class _Reader:
    def __init__(self, path: Path) -> None:
        self.nodes: list[str] = []
        self.edges: list[str] = []
        self._path = path
        self._is_graph = False
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._begin
        # A document type can make a small file grow without end; no graph needs one.
        self._parser.StartDoctypeDeclHandler = self._refuse_entities

    def read(self) -> None:
        try:
            self._parser.Parse(self._path.read_bytes(), True)
        except expat.ExpatError as error:
            raise BadInput(
                f"{self._path}, line {error.lineno}: {expat.ErrorString(error.code)}; accepted is XGMML."
            ) from None
        if not self._is_graph:
            raise BadInput(f"{self._path} has no element `graph`; accepted is XGMML.")

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        # Prefixes of name spaces differ from program to program.
        element = name.rpartition(":")[2]
        if element == "graph":
            self._is_graph = True
        elif element == "node":
            key = self._required(element, "id", attributes)
            label = attributes.get("label") or key
            self.nodes.append(f"  {_quoted(key)} [label={_quoted(label)}];")
        elif element == "edge":
            ends = [_quoted(self._required(element, end, attributes)) for end in ("source", "target")]
            label = f" [label={_quoted(attributes['label'])}]" if attributes.get("label") else ""
            self.edges.append(f"  {' -> '.join(ends)}{label};")

    def _required(self, element: str, name: str, attributes: dict[str, str]) -> str:
        if name not in attributes:
            line = self._parser.CurrentLineNumber
            raise BadInput(f"{self._path}, line {line}: this {element} has no attribute `{name}`.")
        return attributes[name]

    def _refuse_entities(self, name: str, system: str | None, public: str | None, has_subset: int) -> None:
        del name, system, public
        if has_subset:
            raise BadInput(
                f"{self._path}: entities are not accepted; write the graph without <!DOCTYPE … [ ]>."
            )


def _quoted(text: str) -> str:
    r"""Return a DOT string that shows a text as it is: \N, &amp; and their like are meant literally."""
    escaped = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
