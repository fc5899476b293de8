"""The DOT language of Graphviz, as far as names are put into it."""

from __future__ import annotations


def quoted(text: str) -> str:
    r"""Return a string of DOT that shows a text as it is.

    In labels a backslash begins an escape (`\N` is the node's name) and an ampersand an entity of HTML:
    those of a name itself are meant literally.
    """
    escaped = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("\r", "").replace("\n", "\\n")
    return f'"{escaped}"'
