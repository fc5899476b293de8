"""How answers are printed: one Protocol, with a table, CSV, JSON and a quiet list of keys.

Data goes to standard output, everything else to standard error, so that a pipe sees only data.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, Protocol, TextIO

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

# Names and commands come from other people: they must not drive the reader's terminal.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STATUS_STYLES: Final = {
    "done": "green",
    "submitted": "cyan",
    "active": "cyan",
    "failed": "bold red",
    "canceled": "yellow",
    "terminated": "red",
    "lost": "red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its title, and where its value is in a row."""

    title: str
    source: str | Callable[[Row], object]
    right: bool = False

    def value(self, row: Row) -> object:
        """Return what a row holds in this column; None where it holds nothing."""
        return row.get(self.source) if isinstance(self.source, str) else self.source(row)


class Output(Protocol):
    """Prints the answer of one command."""

    def rows(self, plural: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Print a list; in JSON it is `{plural: [...]}` with whole documents."""
        ...

    def document(self, document: Row) -> None:
        """Print one document."""
        ...

    def done(self, message: str, document: Row) -> None:
        """Say that something was done; in JSON print the document instead."""
        ...


class TableOutput:
    """For people."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = console_of(stream or sys.stdout)

    def rows(self, plural: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Print a table, or say that there is nothing."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(column.value(row), is_row=True) for column in columns))
        if table.row_count:
            self._console.print(table)
        else:
            note(f"No {plural.replace('_', ' ')}.")

    def document(self, document: Row) -> None:
        """Print fields and values, one a line."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in document.items():
            table.add_row(Text(name), _part(value))
        self._console.print(table)

    def done(self, message: str, document: Row) -> None:
        """Print the sentence."""
        del document
        click.echo(clean(message))


class CsvOutput:
    """For spreadsheets: a header, then the same columns as the table."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def rows(self, plural: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Print a header and a line per row."""
        del plural
        rows = _begun(rows)
        writer = csv.writer(self._stream, lineterminator="\n")
        writer.writerow(column.title for column in columns)
        for row in rows:
            writer.writerow(as_text(column.value(row)) for column in columns)

    def document(self, document: Row) -> None:
        """Print one header of names and one line of values."""
        writer = csv.writer(self._stream, lineterminator="\n")
        writer.writerow(document)
        writer.writerow(as_text(value) for value in document.values())

    def done(self, message: str, document: Row) -> None:
        """Print the document that was acted on."""
        del message
        self.document(document)


class JsonOutput:
    """For programs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def rows(self, plural: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Print `{plural: [...]}`, item by item: a list of a million jobs is never held whole."""
        del columns
        rows = _begun(rows)
        self._stream.write(f'{{"{plural}": [')
        separator = "\n"
        for row in rows:
            self._stream.write(f"{separator}  {json_text(row)}")
            separator = ",\n"
        self._stream.write("]}\n" if separator == "\n" else "\n]}\n")

    def document(self, document: Row) -> None:
        """Print an indented document."""
        self._stream.write(json_text(document, indent=2) + "\n")

    def done(self, message: str, document: Row) -> None:
        """Print the document that was acted on."""
        del message
        self.document(document)


class QuietOutput:
    """For shell loops: keys, one a line."""

    def rows(self, plural: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Print the key of each row, or its first column where rows have no keys."""
        del plural
        for row in rows:
            click.echo(clean(as_text(row.get("_key") or columns[0].value(row))))

    def document(self, document: Row) -> None:
        """Print the key."""
        self.rows("", [Column("", "")], [document])

    def done(self, message: str, document: Row) -> None:
        """Print the key, if there is one."""
        del message
        if document.get("_key"):
            self.document(document)


def output_of(style: str, *, quiet: bool = False) -> Output:
    """Return the renderer for `--format` and `--quiet`."""
    if quiet:
        return QuietOutput()
    if style == "json":
        return JsonOutput()
    return CsvOutput() if style == "csv" else TableOutput()


def console_of(stream: TextIO) -> Console:
    """Return a console that keeps whole lines where nobody looks at a screen."""
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=stream, highlight=False, width=10_000, soft_wrap=True)


def examples(*lines: str) -> str:
    """Return the text at the end of a command's help; its first character keeps click from wrapping it."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def note(message: str) -> None:
    """Tell a person something beside the data, on standard error."""
    click.echo(clean(message), err=True)


def clean(text: str) -> str:
    """Return a text without control characters other than tab and line feed."""
    return _CONTROL.sub("�", text)


def as_text(value: object) -> str:
    """Return a value as a cell shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    return json_text(value)


def json_text(value: object, *, indent: int = 0) -> str:
    """Return JSON text on one line, or indented."""
    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode("utf-8")


def _begun(rows: Iterable[Row]) -> Iterator[Row]:
    """Fetch the first row, so that a request that is refused has printed nothing yet."""
    iterator = iter(rows)
    first = list(islice(iterator, 1))
    return chain(first, iterator)


def _part(value: object) -> Text | Table:
    """Return a field's value: texts of a list one a line, documents of a list as a table in the table."""
    if not isinstance(value, list):
        return _cell(value)
    if all(isinstance(item, str) for item in value):
        # Of none nothing is shown.
        return _cell("\n".join(value))
    if not all(isinstance(item, Mapping) for item in value):
        return _cell(value)
    names = list(dict.fromkeys(name for item in value for name in item))
    if "name" in names:
        # People know it by that; JSON has the ids.
        names = [name for name in names if not name.endswith("_id")]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for item in value:
        table.add_row(*(_cell(item.get(name)) for name in names))
    return table


def _cell(value: object, *, is_row: bool = False) -> Text:
    text = clean(as_text(value))
    first, _, rest = text.strip().partition("\n")
    if is_row and rest:
        # A script of fifty lines as a command would hide the other rows; JSON and CSV have it whole.
        text = f"{first} …"
    return Text(text, style=_STATUS_STYLES.get(text, ""))
