"""The tables of the console: what their columns hold, and how new rows replace old ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text
from textual.widgets import DataTable

from lading.toolkit.cli.output import Column, Row, as_text, clean
from lading.toolkit.domain.states import JobStatus

WORKFLOW_COLUMNS: Final = (Column("key", "_key"), Column("workflow", "name"), Column("user", "user"))
JOB_COLUMNS: Final = (
    Column("key", "_key"),
    Column("job", "name"),
    Column("status", "status"),
    Column("command", "command"),
)
STATUS_COLORS: Final[dict[str, str]] = {
    JobStatus.DONE: "green",
    JobStatus.SUBMITTED: "cyan",
    JobStatus.SUBMITTED_PENDING: "cyan",
    JobStatus.READY: "blue",
    JobStatus.CANCELED: "yellow",
    JobStatus.TERMINATED: "red",
}
_CELL_CHARACTERS: Final = 160


class Rows(DataTable[Text]):
    """A table whose cursor stays on its row when the rows are read anew."""

    def __init__(self, columns: Sequence[Column], *, id: str) -> None:  # noqa: A002 - textual's word
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._columns = columns
        self._shown: list[Row] = []

    def on_mount(self) -> None:
        """Make the columns."""
        for column in self._columns:
            self.add_column(column.title)

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        return self._shown[self.cursor_row] if 0 <= self.cursor_row < len(self._shown) else None

    def show(self, rows: Sequence[Row]) -> None:
        """Replace the rows; nothing moves if nothing changed."""
        if list(rows) == self._shown:
            return
        chosen, line, top = self.chosen, self.cursor_row, self.scroll_y
        self.clear()
        self._shown = list(rows)
        for row in rows:
            self.add_row(*(_cell(column, row) for column in self._columns))
        if chosen is not None and "_key" in chosen:
            keys = [row.get("_key") for row in rows]
            line = keys.index(chosen["_key"]) if chosen["_key"] in keys else line
        self.move_cursor(row=line, scroll=False)
        self.scroll_to(y=top, animate=False)


def _cell(column: Column, row: Row) -> Text:
    value = clean(as_text(column.value(row)))
    # A script of fifty lines as a command would hide the other rows.
    first, _, rest = value.strip().partition("\n")
    text = first[:_CELL_CHARACTERS] + (" …" if rest or len(first) > _CELL_CHARACTERS else "")
    style = STATUS_COLORS.get(text, "") if column.source == "status" else ""
    return Text(text, style=style, justify="right" if column.right else "left")
