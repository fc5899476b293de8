"""TOML text to a tree. TOML's reader keeps no places: refusals name the field instead."""

from __future__ import annotations

import re
import tomllib
from typing import Final

from lading.toolkit.domain.tree import MAX_NESTING, Node
from lading.toolkit.errors import BadInput
from lading.toolkit.specfile.faults import Faults, Places, located

_PLACE: Final = re.compile(r"(.*) \(at line ([0-9]+), column ([0-9]+)\)", re.DOTALL)


def read_toml(text: str, source: str) -> Node:
    """Read TOML text; raise BadInput with what is wrong with it."""
    places = Places(text)
    faults = Faults(source)
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.fullmatch(str(error))
        if match is None:
            line, column = places.at(len(text.rstrip()))
            problem = str(error).removesuffix(" (at end of document)")
        else:
            problem, line, column = match[1], int(match[2]), int(match[3])
        where = places.line_text(line)
        message = f"This is not TOML: {problem[:1].lower()}{problem[1:]}{f', at {where!r}' if where else ''}."
        raise faults.syntax(message, line, column, where or None) from None
    except RecursionError:
        raise faults.syntax(f"The document is nested deeper than {MAX_NESTING} levels.", 1, 1) from None
    except ValueError:
        # The interpreter refuses to convert numbers of thousands of digits.
        raise faults.syntax("A number of the document does not fit into 64 bits.", 1, 1) from None
    try:
        return Node.from_plain(plain)
    except BadInput as error:
        raise located(error.violations, source) from None
