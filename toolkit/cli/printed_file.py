"""A file printed to standard output piece by piece, also while another process writes it."""

from __future__ import annotations

import codecs
import sys
from collections import deque
from pathlib import Path
from typing import IO, Final

import click

from lading.toolkit.errors import BadInput

POLL_SECONDS: Final = 0.25
"""Between two looks for what was added."""
_CHUNK_BYTES: Final = 64 * 1024


class PrintedFile:
    """One file, printed piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        # Bytes are printed as they are into a pipe; a character may end in the next piece.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def open(self, *, must_exist: bool) -> None:
        """Open it, unless that was done; one that is not there yet may be tried again."""
        if self._file is not None:
            return
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            if must_exist:
                raise BadInput(_unreadable(self.path, "it is not there")) from None
        except OSError as error:
            raise BadInput(_unreadable(self.path, str(error.strerror))) from error

    def print_tail(self, lines: int) -> None:
        """Print its last lines."""
        if self._file is None:
            return
        _write(b"".join(deque(self._file, maxlen=lines)), self._decoder)

    def print_new(self) -> bool:
        """Print what was added, and return whether there was anything."""
        if self._file is None:
            return False
        found = False
        while piece := self._file.read(_CHUNK_BYTES):
            found = True
            _write(piece, self._decoder)
        return found

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()


def _write(piece: bytes, decoder: codecs.IncrementalDecoder) -> None:
    if sys.stdout.isatty():
        click.echo(decoder.decode(piece), nl=False)
    else:
        click.echo(piece, nl=False)


def _unreadable(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read on this machine: {reason}. Job output lies on the node's file system; "
        "read it on a machine that shares that folder."
    )
