"""One line a record: for people on a terminal, JSON otherwise; secrets never.

Every process logs through the standard library, with facts bound by `extra={...}`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAMES: Final = re.compile(r"token|secret|password|authorization", re.IGNORECASE)
_SECRET_TEXTS: Final = (
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]+"), r"\1 ***"),
    (re.compile(r"(?i)\b(\w*(?:token|secret|password))([\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+"), r"\1\2***"),
    (re.compile(r"(://[^\s:/@]+:)[^\s@/]+@"), r"\1***@"),
)
# A line break or an escape sequence in a job's name must not forge a record or drive a terminal.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def redact(text: str) -> str:
    """Return the text without bearer tokens, passwords in addresses and `token=...` values."""
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


def configure_logging(level: str = "info", stream: TextIO | None = None, *, style: str = "auto") -> None:
    """Send all records to a stream (standard error by default); style is auto, human or json."""
    target = stream or sys.stderr
    human = style == "human" or (style == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # These two tell every request and every slow callback at INFO and DEBUG.
    for name in ("aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class JsonFormatter(logging.Formatter):
    """Write a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON text without a line break."""
        document: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_facts(record),
        }
        if record.exc_info:
            document["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(document, default=str, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """Write a record as a line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, text and facts; an exception follows on lines of its own."""
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        message = _CONTROL.sub("�", redact(record.getMessage()) + facts)
        line = f"{_utc(record)[11:19]} {record.levelname.lower():7} {message}"
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        return line


def _utc(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, value in vars(record).items():
        if name in _STANDARD_FIELDS:
            continue
        if _SECRET_NAMES.search(name):
            facts[name] = "***"
        else:
            facts[name] = redact(value) if isinstance(value, str) else value
    return facts
