"""Server-sent events: the text format, decoded line by line."""

from __future__ import annotations

from typing import Any

import msgspec

from lading.toolkit.errors import LadingError


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a workflow."""

    sequence: int
    """Its number within the workflow: pass it as `after` to continue from there."""
    document: dict[str, Any]


class EventDecoder:
    """Feed it lines; it returns an event whenever one is complete."""

    def __init__(self) -> None:
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, line: str) -> Event | None:
        """Take one line without its end."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "id":
                self._id = value
            return None
        if not self._data:
            return None
        text, self._data = "\n".join(self._data), []
        try:
            document = msgspec.json.decode(text, type=dict[str, Any])
            return Event(sequence=int(self._id or ""), document=document)
        except (msgspec.DecodeError, ValueError) as error:
            raise LadingError(
                f"The server sent an event that this client does not understand: {error}."
            ) from error
