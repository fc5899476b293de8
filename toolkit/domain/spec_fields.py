"""How each kind of value in a specification is read, and what is refused.

A reader takes a node and returns the value, or notes a violation and returns INVALID. Text that
looks like a number or a boolean is converted where one is wanted, as the torc API does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lading.toolkit.domain.spec_report import Report, Way, nearest
from lading.toolkit.domain.tree import Node, clip, describe
from lading.toolkit.domain.values import parse_duration, parse_memory, parse_walltime, standard_duration
from lading.toolkit.errors import BadInput

INVALID: Final = object()
"""What a reader returns when it noted a violation: the field counts as absent."""

MOST: Final = 2**31 - 1
"""The largest count of anything: what a 32-bit column holds."""

Reader: TypeAlias = Callable[[Node, Way, Report], Any]

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,2})?")
_NEEDS_SHELL_READING: Final = re.compile(r"['\"\\]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Rule:
    """One field: how it is read, and whether it may be absent or null."""

    read: Reader
    is_required: bool = False
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file named by a job, whose path is appended to the command after `argument` and `=`."""

    name: str
    argument: str


def read_fields(node: Node, way: Way, report: Report, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Read a mapping by its rules; return the fields that were given and are right."""
    given = node.value
    if not isinstance(given, dict):
        report.add(way, f"Expected a mapping of fields, found {describe(given)}.", accepted="a mapping")
        return {}
    values: dict[str, Any] = {}
    for name, child in given.items():
        rule = rules.get(name)
        if rule is None:
            _refuse_unknown(name, (*way, name), report, rules)
        elif child.value is None:
            if not (rule.is_nullable or report.null_is_absent):
                report.add((*way, name), "The field is null; give it a value or leave it out.", at_name=True)
        else:
            value = rule.read(child, (*way, name), report)
            if value is not INVALID:
                values[name] = value
    for name, rule in rules.items():
        if rule.is_required and (name not in given or (given[name].value is None and report.null_is_absent)):
            report.add((*way, name), f"The field {name!r} is missing; it is required here.")
    return values


def _refuse_unknown(name: str, way: Way, report: Report, rules: Mapping[str, Rule]) -> None:
    known = [rule for rule in rules if not rule.startswith("_")]
    report.add(
        way,
        f"There is no field {clip(name)!r} here.",
        value=name,
        accepted=", ".join(known),
        suggestion=nearest(name, known),
        at_name=True,
    )


def text(*, may_be_empty: bool = False, is_line: bool = False) -> Reader:
    """Make a reader of texts; a line has no line breaks and no control characters."""

    def read(node: Node, way: Way, report: Report) -> Any:
        value = node.value
        if not isinstance(value, str):
            hint = "; put it into quotes" if isinstance(value, bool | int | float) else ""
            report.add(
                way,
                f"Expected a text, found {describe(value)}{hint}.",
                value=_shown(value),
                accepted="a text",
            )
            return INVALID
        if not value and not may_be_empty:
            report.add(way, "The text is empty; leave the field out if there is nothing to say.", value=value)
            return INVALID
        if is_line and _CONTROL.search(value):
            message = f"{clip(value)!r} has a line break or another control character; accepted is one line of text."
            report.add(way, message, value=value, accepted="one line of text")
            return INVALID
        return value

    return read


def choice(*accepted: str) -> Reader:
    """Make a reader of one word out of a few."""
    listed = ", ".join(accepted)

    def read(node: Node, way: Way, report: Report) -> Any:
        value = node.value
        if isinstance(value, str) and value in accepted:
            return value
        suggestion = nearest(value, accepted) if isinstance(value, str) else None
        message = f"Expected one of {listed}, found {describe(value)}."
        report.add(way, message, value=_shown(value), accepted=listed, suggestion=suggestion)
        return INVALID

    return read


def boolean(node: Node, way: Way, report: Report) -> Any:
    """Read true or false."""
    value = node.value
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    report.add(
        way, f"Expected true or false, found {describe(value)}.", value=_shown(value), accepted="true, false"
    )
    return INVALID


def integer(minimum: int, maximum: int = MOST) -> Reader:
    """Make a reader of whole numbers."""
    accepted = f"a whole number from {minimum} to {maximum}"

    def read(node: Node, way: Way, report: Report) -> Any:
        value = node.value
        is_whole_text = isinstance(value, str) and _INTEGER.fullmatch(value) is not None
        if isinstance(value, str | float) and (
            is_whole_text or (isinstance(value, float) and value.is_integer())
        ):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        report.add(
            way, f"Expected {accepted}, found {describe(value)}.", value=_shown(value), accepted=accepted
        )
        return INVALID

    return read


def number(minimum: float = 0, *, is_exclusive: bool = False) -> Reader:
    """Make a reader of finite numbers of at least, or of more than, a minimum."""
    accepted = f"a number {'greater than' if is_exclusive else 'of at least'} {minimum}"

    def read(node: Node, way: Way, report: Report) -> Any:
        value = node.value
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value) if _INTEGER.fullmatch(value) else float(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            is_number
            and isinstance(value, int | float)
            and (value > minimum if is_exclusive else value >= minimum)
        ):
            return value
        report.add(
            way, f"Expected {accepted}, found {describe(value)}.", value=_shown(value), accepted=accepted
        )
        return INVALID

    return read


def memory(node: Node, way: Way, report: Report) -> Any:
    """Read a memory size greater than zero; the text is kept as it is written."""
    value = node.value
    if not isinstance(value, str):
        message = f"Expected a memory size in quotes, such as '512m', found {describe(value)}."
        report.add(way, message, value=_shown(value), accepted="a text such as '512m'")
        return INVALID
    return _parsed(node, way, report, value, parse_memory)


def duration(node: Node, way: Way, report: Report) -> Any:
    """Read a duration greater than zero; the text is kept, as ISO 8601 for readers of torc's documents."""
    seconds = _duration_seconds(node, way, report)
    return INVALID if seconds is INVALID or not isinstance(node.value, str) else standard_duration(node.value)


def duration_seconds(node: Node, way: Way, report: Report) -> Any:
    """Read a duration greater than zero as seconds."""
    return _duration_seconds(node, way, report)


def walltime(node: Node, way: Way, report: Report) -> Any:
    """Read a Slurm wall time greater than zero; the text is kept as it is written."""
    value = node.value
    if not isinstance(value, str):
        message = f"Expected a wall time in quotes, such as '04:00:00', found {describe(value)}."
        report.add(way, message, value=_shown(value), accepted="a text such as '04:00:00'")
        return INVALID
    return _parsed(node, way, report, value, parse_walltime)


def command(node: Node, way: Way, report: Report) -> Any:
    """Read a command line that can be split into words as a shell would."""
    value = text(may_be_empty=True)(node, way, report)
    if value is INVALID:
        return INVALID
    if not value.strip():
        report.add(way, "The command is blank; give a program and its arguments.", value=value)
        return INVALID
    # Most commands have nothing to unquote; splitting 100 000 of them takes seconds.
    if _NEEDS_SHELL_READING.search(value):
        try:
            words = shlex.split(value)
        except ValueError as error:
            problem = (
                "a quote is not closed" if "quotation" in str(error) else "the last backslash escapes nothing"
            )
            report.add(
                way, f"The command {clip(value)!r} cannot be split into words: {problem}.", value=value
            )
            return INVALID
        if not words[0]:
            report.add(way, f"The command {clip(value)!r} names an empty program.", value=value)
            return INVALID
    return value


def items(read_item: Reader, what: str) -> Reader:
    """Make a reader of lists; elements that are wrong stay INVALID, so that indexes hold."""

    def read(node: Node, way: Way, report: Report) -> Any:
        value = node.value
        if isinstance(value, list):
            return [read_item(child, (*way, index), report) for index, child in enumerate(value)]
        suggestion = f"[{value}]" if isinstance(value, str) and len(value) <= 60 else None
        message = f"Expected a list of {what}, found {describe(value)}."
        report.add(way, message, value=_shown(value), accepted=f"a list of {what}", suggestion=suggestion)
        return INVALID

    return read


def names(what: str) -> Reader:
    """Make a reader of lists of names; a name given twice counts once."""
    read_list = items(text(is_line=True), what)

    def read(node: Node, way: Way, report: Report) -> Any:
        values = read_list(node, way, report)
        return (
            values
            if values is INVALID
            else list(dict.fromkeys(name for name in values if name is not INVALID))
        )

    return read


def file_references(node: Node, way: Way, report: Report) -> Any:
    """Read a list of file names; `{name: F, cli_arg: --in}` also appends `--in=PATH` to the command."""
    values = items(_file_reference, "names of files")(node, way, report)
    return values if values is INVALID else [value for value in values if value is not INVALID]


def mapping(read_value: Reader, what: str) -> Reader:
    """Make a reader of mappings from names to values."""

    def read(node: Node, way: Way, report: Report) -> Any:
        given = node.value
        if not isinstance(given, dict):
            report.add(way, f"Expected a mapping of {what}, found {describe(given)}.", accepted="a mapping")
            return INVALID
        values: dict[str, Any] = {}
        for name, child in given.items():
            if not name or "=" in name or _CONTROL.search(name):
                message = f"The name {clip(name)!r} is refused: it must not be empty, nor have '=' or control characters."
                report.add((*way, name), message, value=name, at_name=True)
                continue
            value = read_value(child, (*way, name), report)
            if value is not INVALID:
                values[name] = value
        return values

    return read


def variable(node: Node, way: Way, report: Report) -> Any:
    """Read the value of an environment variable: a text, or a whole number as its digits."""
    value = node.value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(may_be_empty=True)(node, way, report)


def free_object(node: Node, way: Way, report: Report) -> Any:
    """Read a JSON object that is only carried."""
    if isinstance(node.value, dict):
        return node.plain()
    message = f"Expected a mapping (a JSON object), found {describe(node.value)}."
    report.add(way, message, value=_shown(node.value), accepted="a mapping")
    return INVALID


def ignored(node: Node, way: Way, report: Report) -> Any:
    """Read a field that exported documents have and that says nothing about a new workflow."""
    text(may_be_empty=True)(node, way, report)
    return INVALID


def part(rules: Mapping[str, Rule]) -> Reader:
    """Make a reader of mappings with rules of their own."""

    def read(node: Node, way: Way, report: Report) -> Any:
        return read_fields(node, way, report, rules)

    return read


def _file_reference(node: Node, way: Way, report: Report) -> Any:
    if not isinstance(node.value, dict):
        return _LINE(node, way, report)
    given = read_fields(node, way, report, _FILE_REFERENCE)
    if "name" not in given:
        return INVALID
    return FileReference(given["name"], given["cli_arg"]) if "cli_arg" in given else given["name"]


def _duration_seconds(node: Node, way: Way, report: Report) -> Any:
    value = node.value
    if isinstance(value, bool | list | dict) or value is None:
        message = f"Expected a duration, such as 'PT2H30M' or '2h30m', found {describe(value)}."
        report.add(way, message, value=_shown(value), accepted="a text such as '2h30m'")
        return INVALID
    return _parsed(node, way, report, str(value), parse_duration, is_kept=False)


def _parsed(
    node: Node, way: Way, report: Report, value: str, parse: Callable[[str], float], *, is_kept: bool = True
) -> Any:
    try:
        amount = parse(value)
    except BadInput as error:
        report.adopt(way, error)
        return INVALID
    if amount <= 0:
        message = f"{value!r} is nothing; accepted is more than zero."
        report.add(way, message, value=value, accepted="more than zero")
        return INVALID
    return node.value if is_kept else amount


def _shown(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else None


_LINE: Final = text(is_line=True)
_FILE_REFERENCE: Final = {
    "name": Rule(_LINE, is_required=True),
    "cli_arg": Rule(_LINE),
}
