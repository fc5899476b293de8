"""From a file, or its text, to a tree and to a specification."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias, assert_never

from lading.toolkit.domain.spec import Specification
from lading.toolkit.domain.spec_reader import read_specification
from lading.toolkit.domain.tree import Node
from lading.toolkit.domain.values import text_fault
from lading.toolkit.errors import BadInput, Violation
from lading.toolkit.specfile.faults import Faults, Places, located
from lading.toolkit.specfile.json_reader import read_json
from lading.toolkit.specfile.toml_reader import read_toml
from lading.toolkit.specfile.yaml_reader import read_yaml

Format: TypeAlias = Literal["yaml", "json", "json5", "toml"]

FORMATS: Final[dict[str, Format]] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".json5": "json5",
    ".toml": "toml",
}


def format_of(name: str) -> Format:
    """Return the format that a file's name says it has."""
    suffix = Path(name).suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    accepted = ", ".join(FORMATS)
    found = f"ends in {suffix!r}" if suffix else "has no suffix"
    message = f"The name of the specification {name!r} {found}; accepted are {accepted}."
    raise BadInput.of([Violation("", message, name, accepted)])


def load(text: str, format: Format, source: str) -> Node:  # noqa: A002 - the word of the field
    """Read a text into a tree; `source` names it in errors. Raise BadInput with all places."""
    text = text.removeprefix("\ufeff")
    fault = text_fault(text)
    if fault is not None:
        raise _unreadable_character(text, fault, source)
    with _collection_paused():
        match format:
            case "yaml":
                return read_yaml(text, source)
            case "json" | "json5":
                return read_json(text, source, is_strict=format == "json")
            case "toml":
                return read_toml(text, source)
            case _:
                assert_never(format)


def load_file(path: Path) -> Node:
    """Read a file into a tree, in the format that its name says."""
    format_ = format_of(path.name)
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"The specification cannot be read: {error.strerror or error}."
        raise located([Violation("", message, str(path))], str(path)) from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"The file is not UTF-8: byte 0x{content[error.start]:02x} cannot be decoded."
        raise located([Violation("", message, line=line)], str(path)) from None
    return load(text, format_, str(path))


def read_file(path: Path, *, directory: Path | None, may_have_no_jobs: bool = False) -> Specification:
    """Read and check a whole specification; relative paths in it start at `directory`.

    Without a directory its input files are not looked for.
    The text of the error has one line `FILE:LINE:COLUMN: FIELD: REASON` for each violation.
    """
    root = load_file(path)
    try:
        with _collection_paused():
            return read_specification(
                root,
                exists=None if directory is None else lambda name: _exists(directory / name),
                null_is_absent=True,
                may_have_no_jobs=may_have_no_jobs,
            )
    except BadInput as error:
        raise located(error.violations, str(path)) from None


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Keep the garbage collector from walking a growing tree again and again: a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name too long, or a folder that may not be searched: no job could read it either.
        return False


def _unreadable_character(text: str, fault: str, source: str) -> BadInput:
    offset = next(
        index
        for index, character in enumerate(text)
        if character == "\0" or "\ud800" <= character <= "\udfff"
    )
    line, column = Places(text).at(offset)
    return Faults(source).syntax(f"The text {fault}; accepted is valid UTF-8 without NUL.", line, column)
