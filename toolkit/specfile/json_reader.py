"""JSON and JSON5 text to a tree with places: one reader, strict for `.json`."""

from __future__ import annotations

import re
from typing import Final

from lading.toolkit.domain.tree import MAX_NESTING, Node, Scalar, clip
from lading.toolkit.errors import BadInput
from lading.toolkit.specfile.faults import Faults, Places

_STRICT_BLANK: Final = re.compile(r"[ \t\n\r]*")
_LOOSE_BLANK: Final = re.compile(r"(?:[\s\ufeff]+|//[^\n\r\u2028\u2029]*|/\*[\s\S]*?\*/)*")
# What stands between values in nearly all places, in one match each: half of the reading time.
_COMMA: Final = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_KEY: Final = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
_STRICT_TEXT: Final = re.compile(r'"([^"\\\x00-\x1f]*)"')
_LOOSE_TEXT: Final = re.compile(r'"([^"\\\n\r]*)"|\'([^\'\\\n\r]*)\'')
_STRICT_RUN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_LOOSE_RUN: Final = {'"': re.compile(r'[^"\\\n\r]*'), "'": re.compile(r"[^'\\\n\r]*")}
_STRICT_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LOOSE_NUMBER: Final = re.compile(
    r"[+-]?(?:(0[xX][0-9a-fA-F]+)|(?:(?:0|[1-9][0-9]*)(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?|(Infinity|NaN))"
)
_WORD: Final = re.compile(r"(?:[$\w\u200c\u200d]|\\u[0-9a-fA-F]{4})+")
_WORD_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_HEXADECIMAL: Final = {"u": re.compile(r"[0-9a-fA-F]{4}"), "x": re.compile(r"[0-9a-fA-F]{2}")}
_STRICT_ESCAPES: Final = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_LOOSE_ESCAPES: Final = {
    **_STRICT_ESCAPES,
    "'": "'",
    "v": "\v",
    "0": "\0",
    "\n": "",
    "\r": "",
    "\u2028": "",
    "\u2029": "",
}
_CONSTANTS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}
_NUMBER_START: Final = frozenset("+-.0123456789IN")


class _Reader:
    def __init__(self, text: str, source: str, *, is_strict: bool) -> None:
        self.text = text
        self.at = 0
        self.is_strict = is_strict
        self.kind = "JSON" if is_strict else "JSON5"
        self.blank = _STRICT_BLANK if is_strict else _LOOSE_BLANK
        self.simple_text = _STRICT_TEXT if is_strict else _LOOSE_TEXT
        self.places = Places(text)
        self.faults = Faults(source)

    def document(self) -> Node:
        """Read the one value of the text."""
        self.skip()
        root = self.value(1)
        self.skip()
        if self.at < len(self.text):
            raise self.unexpected("nothing more after the document")
        self.faults.finish()
        return root

    def value(self, depth: int) -> Node:
        """Read the value at the present offset."""
        start = self.at
        character = self.text[start : start + 1]
        line, column = self.places.at(start)
        if character == '"' or (character == "'" and not self.is_strict):
            text = self.quoted()
            checked = text if text.isascii() and "\0" not in text else self.faults.check(text, line, column)
            return Node(checked, line, column)
        if character in ("{", "["):
            if depth > MAX_NESTING:
                raise self.faults.syntax(
                    f"The document is nested deeper than {MAX_NESTING} levels.", line, column
                )
            self.at += 1
            contents = self.object(depth, start) if character == "{" else self.array(depth, start)
            return Node(contents, line, column)
        if character and character in _NUMBER_START:
            number = self.number()
            return Node(self.faults.check(number, line, column), line, column)
        word = _WORD.match(self.text, start)
        if word is not None and word[0] in _CONSTANTS:
            self.at = word.end()
            return Node(_CONSTANTS[word[0]], line, column)
        raise self.unexpected("a value")

    def object(self, depth: int, start: int) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        self.skip()
        while not self.take("}"):
            line, column = self.places.at(self.at)
            name = self.key()
            if not name.isascii() or "\0" in name:
                self.faults.check(name, line, column)
            node = self.value(depth + 1)
            node.key_line, node.key_column = line, column
            if name in fields:
                first = fields[name].key_line
                self.faults.add(
                    f"The field {clip(name)!r} stands twice in one object, first at line {first}.",
                    line,
                    column,
                )
            else:
                fields[name] = node
            self.separator("}", start)
        return fields

    def array(self, depth: int, start: int) -> list[Node]:
        items: list[Node] = []
        self.skip()
        while not self.take("]"):
            items.append(self.value(depth + 1))
            self.separator("]", start)
        return items

    def separator(self, closing: str, start: int) -> None:
        """Step over the comma after an element, or stay before the closing bracket."""
        comma = _COMMA.match(self.text, self.at)
        if comma is None:
            self.skip()
            comma = _COMMA.match(self.text, self.at)
        if comma is not None:
            comma_at = comma.start() + comma[0].index(",")
            self.at = comma.end()
            if not self.is_strict:
                self.skip()
            elif self.text.startswith(closing, self.at):
                line, column = self.places.at(comma_at)
                message = f"A comma before '{closing}' is not JSON; remove it, or name the file .json5."
                raise self.faults.syntax(message, line, column, ",")
        elif not self.text.startswith(closing, self.at):
            line, _ = self.places.at(start)
            raise self.unexpected(f"',' or '{closing}' (for the '{self.text[start]}' of line {line})")

    def key(self) -> str:
        """Read a field's name and the colon after it."""
        match = _KEY.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            if not self.is_strict:
                self.skip()
            return match[1]
        name = self.name()
        self.skip()
        if not self.take(":"):
            raise self.unexpected(f"':' after the field's name {clip(name)!r}")
        self.skip()
        return name

    def name(self) -> str:
        character = self.text[self.at : self.at + 1]
        if character == '"' or (character == "'" and not self.is_strict):
            return self.quoted()
        word = None if self.is_strict else _WORD.match(self.text, self.at)
        if word is None or character.isdigit():
            raise self.unexpected("a field's name" + (" in double quotes" if self.is_strict else ""))
        self.at = word.end()
        return _WORD_ESCAPE.sub(lambda match: chr(int(match[1], 16)), word[0])

    def quoted(self) -> str:
        """Read a text in quotes."""
        match = self.simple_text.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return str(match[match.lastindex or 1])
        start = self.at
        quote = self.text[start]
        run = _STRICT_RUN if self.is_strict else _LOOSE_RUN[quote]
        parts: list[str] = []
        self.at += 1
        while True:
            piece = run.match(self.text, self.at)
            if piece is not None:
                parts.append(piece[0])
                self.at = piece.end()
            character = self.text[self.at : self.at + 1]
            if character == quote:
                self.at += 1
                return _join_surrogates("".join(parts))
            if character != "\\":
                line, column = self.places.at(start)
                if character in ("", "\n", "\r"):
                    message = "The text that starts here has no closing quote on its line."
                    raise self.faults.syntax(message, line, column, self.places.line_text(line))
                raise self.unexpected(f"the control character written as \\u{ord(character):04x}")
            parts.append(self.escape())

    def escape(self) -> str:
        """Read one escape sequence, which starts at the present offset."""
        character = self.text[self.at + 1 : self.at + 2]
        pattern = _HEXADECIMAL.get(character)
        if pattern is not None and (character == "u" or not self.is_strict):
            digits = pattern.match(self.text, self.at + 2)
            if digits is None:
                raise self.unexpected(f"hexadecimal digits after \\{character}")
            self.at = digits.end()
            return chr(int(digits[0], 16))
        escapes = _STRICT_ESCAPES if self.is_strict else _LOOSE_ESCAPES
        following = self.text[self.at + 2 : self.at + 3]
        is_octal = character.isdigit() and (character != "0" or following.isdigit())
        if character == "" or is_octal or (self.is_strict and character not in escapes):
            raise self.unexpected('an escape such as \\n, \\" or \\u00e9')
        self.at += 3 if (character, following) == ("\r", "\n") else 2
        return escapes.get(character, character)

    def number(self) -> int | float:
        pattern = _STRICT_NUMBER if self.is_strict else _LOOSE_NUMBER
        match = pattern.match(self.text, self.at)
        if match is None or _WORD.match(self.text, match.end()):
            raise self.unexpected("a value")
        self.at = match.end()
        text = match[0]
        if not self.is_strict and match[1]:
            # 40 digits are far beyond 64 bits already: refused by the border rule.
            return int(text[:40], 16)
        if match.lastindex is None:
            return int(text[:40])
        return float(text)

    def skip(self) -> None:
        match = self.blank.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def take(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False

    def unexpected(self, wanted: str) -> BadInput:
        """Make the error for the present offset."""
        line, column = self.places.at(self.at)
        found = self.text[self.at : self.at + 1]
        word = _WORD.match(self.text, self.at)
        if word is not None:
            found = clip(word[0], 40)
        hint = ""
        if self.is_strict and self.text.startswith(("//", "/*", "'"), self.at):
            hint = " Comments and single quotes are JSON5: name the file .json5."
        elif self.text.startswith("/*", self.at):
            hint = " The comment that starts here is not closed."
        what = f"found {found!r} in {self.places.line_text(line)!r}" if found else "the text ends"
        return self.faults.syntax(
            f"This is not {self.kind}: expected {wanted}, {what}.{hint}", line, column, found
        )


def read_json(text: str, source: str, *, is_strict: bool) -> Node:
    """Read JSON (strict) or JSON5 text; raise BadInput with the places of what is wrong with it."""
    return _Reader(text, source, is_strict=is_strict).document()


def _join_surrogates(text: str) -> str:
    """Join the halves of characters that were escaped as two; a half alone stays, to be refused."""
    if text.isascii():
        return text
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if _has_pair(text) else text
    )


def _has_pair(text: str) -> bool:
    return re.search(r"[\ud800-\udbff][\udc00-\udfff]", text) is not None
