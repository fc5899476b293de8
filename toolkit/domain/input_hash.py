"""What makes a finished job out of date: a number over everything that its result depends on.

torc folds revisions into 32 bits, so that a PUT which changes nothing counts as a change, and two
different inputs may collide. Here contents count, and the hash is a strong one cut to 63 bits, which
still fits the integer field of torc's clients.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class JobInputs:
    """The parts of the hash; lists hold (key, content) and are put in order here."""

    command: str
    invocation_script: str | None = None
    user_data_consumed: list[tuple[str, str]] = field(default_factory=list)
    """Content: the JSON text that is stored."""
    user_data_stored: list[tuple[str, str]] = field(default_factory=list)
    files_needed: list[tuple[str, str]] = field(default_factory=list)
    """Content: path and modification time."""


def input_hash(inputs: JobInputs) -> int:
    """Return a positive integer below 2**63, never 0: a stored 0 means that there is no hash."""
    text = json.dumps(
        [
            inputs.command,
            inputs.invocation_script,
            _ordered(inputs.user_data_consumed),
            _ordered(inputs.user_data_stored),
            _ordered(inputs.files_needed),
        ],
        separators=(",", ":"),
        ensure_ascii=True,
    )
    digest = hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) or 1


def _ordered(parts: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [list(part) for part in sorted(parts)]


def differences(before: int, inputs: JobInputs) -> bool:
    """Tell whether a job's inputs are other ones than those it ran with; unknown ones are not."""
    return before != 0 and before != input_hash(inputs)
