"""What stands in front of the tables for a moment: a question, and what a job wrote."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from lading.toolkit.cli.output import clean

_TAIL_BYTES: Final = 64 * 1024


class Question(ModalScreen[bool]):
    """A question that is answered with yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "dismiss(True)", "Yes"),
        ("n", "dismiss(False)", "No"),
        ("escape", "dismiss(False)", "No"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Show the question in the middle of the screen."""
        with Vertical(classes="dialog"):
            yield Static(Text(clean(self._text)), classes="question")
            yield Static(Text.assemble(("y", "bold"), " yes    ", ("n", "bold"), " no"))


class Logs(ModalScreen[None]):
    """The last lines of what a job wrote."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,l", "dismiss", "Close")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """Show the text, scrolled to its end."""
        with VerticalScroll(classes="logs") as view:
            view.border_title = Text(clean(self._title)).markup
            yield Static(Text(clean(self._text)))
        yield Footer()

    def on_mount(self) -> None:
        """Begin where the newest line is."""
        self.query_one(VerticalScroll).scroll_end(animate=False)


def tail_of(path: Path) -> str:
    """Return the last 64 KiB of a file, or why it cannot be read here."""
    try:
        if path.exists() and not path.is_file():
            # Whoever opens a pipe waits for its writer.
            return "It is not a regular file.\n"
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"It cannot be read on this machine: {error.strerror}.\n"
