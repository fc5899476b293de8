"""The error envelope of the HTTP API, turned into the errors of `lading.toolkit.errors`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from lading.toolkit.errors import (
    BadInput,
    Conflict,
    Forbidden,
    LadingError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Violation,
)

_LONGEST_TEXT: Final = 2_000
_BY_STATUS: Final[dict[int, type[LadingError]]] = {
    400: BadInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: BadInput,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(status: int, body: bytes, request: str) -> LadingError:
    """Return the error that an answer with that HTTP status stands for."""
    envelope = _envelope(body)
    message = envelope.get("errorMessage")
    if not isinstance(message, str) or not message:
        message = f"{request} was answered with HTTP {status}: {_excerpt(body)}"
    kind = _by_code().get(str(envelope.get("type")), _BY_STATUS.get(status, LadingError))
    if issubclass(kind, BadInput):
        return kind(message, _violations(envelope.get("violations")))
    if status >= 500 and kind is LadingError:
        message = f"The server failed while it handled {request} (HTTP {status}): {message}"
    return kind(message)


def _by_code() -> dict[str, type[LadingError]]:
    table: dict[str, type[LadingError]] = {}
    waiting: list[type[LadingError]] = [LadingError]
    while waiting:
        kind = waiting.pop()
        table[kind.code] = kind
        waiting += kind.__subclasses__()
    del table[LadingError.code]
    return table


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _violations(items: object) -> list[Violation]:
    if not isinstance(items, list):
        return []
    try:
        return msgspec.convert(items, type=list[Violation])
    except msgspec.ValidationError:
        return []


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:_LONGEST_TEXT].decode("utf-8", errors="replace").split())
    return text[:200] or "no text"
