"""What a memory size, a duration, a wall time and a text are, and what is refused.

One strict reading for every border (files, HTTP, command line), because a size or a time that two
parts read differently kills jobs: the lenient readers of this field take `1.5g` for 5 GiB and
`P0DT1m` for no time at all.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil
from typing import Final

from lading.toolkit.errors import BadInput, Violation

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
"""Integers outside of 64 bits are refused at the border: a database column cannot hold them."""

DURATION_MAX: Final = 36_500 * 86_400
"""The longest accepted duration in seconds: a century."""

MEMORY_ACCEPTED: Final = (
    "a whole number of bytes, or one followed by k, m, g or t (powers of 1024), such as '512m'"
)
DURATION_ACCEPTED: Final = (
    "ISO 8601 with weeks, days, hours, minutes, seconds ('PT2H30M'), or '2h30m', '90s', '1d12h'"
)
WALLTIME_ACCEPTED: Final = "[DAYS-]HOURS:MINUTES:SECONDS, such as '04:00:00' or '1-12:00:00'"

_MEMORY_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# The numbers are spelled [0-9] since \d also takes the digits of other scripts.
_MEMORY: Final = re.compile(r"([0-9]+)\s*([kmgt]?)", re.IGNORECASE)
_LOOSE_MEMORY: Final = re.compile(
    r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([kmgt]?)(?:i?b|bytes)?\s*", re.IGNORECASE
)

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_ISO_DURATION: Final = re.compile(
    rf"P(?=[0-9T])(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?=[0-9])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.IGNORECASE,
)
_SHORT_DURATION: Final = re.compile(
    rf"(?=[0-9])(?:{_NUMBER}w)?(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.IGNORECASE
)
_CALENDAR_DURATION: Final = re.compile(
    rf"P(?=[^T]*[YM])(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T[0-9.HMS]*)?",
    re.IGNORECASE,
)
_BARE_NUMBER: Final = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?\s*")
_WALLTIME: Final = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-5]?[0-9]):([0-5]?[0-9])")
_UNIT_SECONDS: Final = (604_800, 86_400, 3_600, 60, 1)
_MICROSECONDS: Final = 1_000_000
# Longer texts are never sizes or times; the interpreter refuses to convert numbers of 4300 digits.
_LONGEST_TEXT: Final = 64


def parse_memory(text: str) -> int:
    """Return the bytes that a memory size such as `512m` or `4g` stands for."""
    match = _MEMORY.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise _refusal(
            f"{text[:_LONGEST_TEXT]!r} is not a memory size.", text, MEMORY_ACCEPTED, _mend_memory(text)
        )
    number, unit = match.groups()
    size = int(number) * _MEMORY_UNITS[unit.lower()]
    if size > INTEGER_MAX:
        raise _refusal(f"{text!r} is more memory than 64 bits of bytes can say.", text, MEMORY_ACCEPTED, None)
    return size


def format_memory(size: int) -> str:
    """Return bytes as the shortest text that `parse_memory` reads back exactly."""
    for unit in "tgmk":
        if size and size % _MEMORY_UNITS[unit] == 0:
            return f"{size // _MEMORY_UNITS[unit]}{unit}"
    return str(size)


def parse_duration(text: str) -> float:
    """Return the seconds of an ISO 8601 duration or of the short form `1d2h30m10s`."""
    match = _match_duration(text)
    if match is None:
        raise _bad_duration(text)
    seconds = sum(
        (
            Fraction(number) * unit
            for number, unit in zip(match.groups(), _UNIT_SECONDS, strict=True)
            if number
        ),
        Fraction(0),
    )
    if seconds > DURATION_MAX:
        raise _refusal(f"{text!r} is longer than a century.", text, DURATION_ACCEPTED, None)
    # Rounded to microseconds, so that format_duration and this function are inverses.
    return round(seconds * _MICROSECONDS) / _MICROSECONDS


def format_duration(seconds: float) -> str:
    """Return seconds as ISO 8601 text with all its parts, such as `P0DT2H0M0S`."""
    whole, micro = divmod(round(seconds * _MICROSECONDS), _MICROSECONDS)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    fraction = f".{micro:06d}".rstrip("0") if micro else ""
    return f"P{days}DT{hour}H{minute}M{second}{fraction}S"


def standard_duration(text: str) -> str:
    """Return the ISO 8601 text of a duration, unchanged where it is upper-case ISO already."""
    seconds = parse_duration(text)
    is_standard = text.isupper() and _ISO_DURATION.fullmatch(text) is not None
    return text if is_standard else format_duration(seconds)


def parse_walltime(text: str) -> int:
    """Return the seconds of a Slurm wall time `[DAYS-]HOURS:MINUTES:SECONDS`."""
    match = _WALLTIME.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise _refusal(
            f"{text[:_LONGEST_TEXT]!r} is not a wall time.", text, WALLTIME_ACCEPTED, _mend_walltime(text)
        )
    seconds = sum(
        (
            Fraction(number) * unit
            for number, unit in zip(match.groups(), _UNIT_SECONDS[1:], strict=True)
            if number
        ),
        Fraction(0),
    )
    if seconds > DURATION_MAX:
        raise _refusal(f"{text!r} is longer than a century.", text, WALLTIME_ACCEPTED, None)
    return int(seconds)


def format_walltime(seconds: int) -> str:
    """Return whole seconds as Slurm's `[DAYS-]HH:MM:SS`."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{days}-{clock}" if days else clock


def text_fault(text: str) -> str | None:
    """Say what forbids a text to pass the border, or None: NUL and lone surrogates are forbidden."""
    # isascii is a flag lookup; most texts are ASCII and have no surrogates to look for.
    if "\0" in text:
        return f"has a NUL character at position {text.index(chr(0)) + 1}"
    if not text.isascii():
        for position, character in enumerate(text, start=1):
            if "\ud800" <= character <= "\udfff":
                return f"has a lone surrogate (U+{ord(character):04X}) at position {position}"
    return None


def check_text(text: str, field: str = "text") -> str:
    """Return the text if databases and other programs can hold it: valid UTF-8 without NUL."""
    fault = text_fault(text)
    if fault is None:
        return text
    accepted = "valid UTF-8 text without NUL"
    raise BadInput.of(
        [Violation(field, f"The value {fault}; accepted is {accepted}.", ascii(text), accepted)]
    )


def check_integer(value: int, field: str = "number") -> int:
    """Return the integer if it fits into 64 bits."""
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return value
    accepted = f"a whole number from {INTEGER_MIN} to {INTEGER_MAX}"
    raise BadInput.of(
        [Violation(field, f"The number does not fit into 64 bits; accepted is {accepted}.", None, accepted)]
    )


def _refusal(message: str, value: str, accepted: str, suggestion: str | None) -> BadInput:
    return BadInput.of([Violation("", f"{message} Accepted is {accepted}.", value, accepted, suggestion)])


def _match_duration(text: str) -> re.Match[str] | None:
    if len(text) > _LONGEST_TEXT:
        return None
    return _ISO_DURATION.fullmatch(text) or _SHORT_DURATION.fullmatch(text)


def _mend_memory(text: str) -> str | None:
    """Guess what was meant by a size such as `1.5g` or `10GB`: never less than was written."""
    match = _LOOSE_MEMORY.fullmatch(text)
    if match is None or len(text) > _LONGEST_TEXT:
        return None
    number, unit = Fraction(match[1]), match[2].lower()
    if number.denominator == 1:
        return f"{number.numerator}{unit}"
    finer = {"t": "g", "g": "m", "m": "k", "k": "", "": ""}[unit]
    return f"{ceil(number * _MEMORY_UNITS[unit] / _MEMORY_UNITS[finer])}{finer}"


def _mend_walltime(text: str) -> str | None:
    try:
        return format_walltime(ceil(parse_duration(text)))
    except BadInput:
        return None


def _bad_duration(text: str) -> BadInput:
    if len(text) > _LONGEST_TEXT:
        return _refusal(
            f"The text that starts with {text[:20]!r} is not a duration.", text, DURATION_ACCEPTED, None
        )
    if text.lstrip()[:1] == "-" or text.upper().startswith("P-"):
        return _refusal(f"{text!r} is negative.", text, DURATION_ACCEPTED, None)
    if _BARE_NUMBER.fullmatch(text):
        number = text.strip()
        message = f"{text!r} has no unit: write '{number}s' for seconds or '{number}m' for minutes."
        return _refusal(message, text, DURATION_ACCEPTED, None)
    if _CALENDAR_DURATION.fullmatch(text):
        months = re.fullmatch(rf"P{_NUMBER}M", text, re.IGNORECASE)
        message = f"{text!r} counts years or months, whose length is not fixed: count days or weeks."
        return _refusal(message, text, DURATION_ACCEPTED, f"PT{months[1]}M" if months else None)
    return _refusal(f"{text!r} is not a duration.", text, DURATION_ACCEPTED, _mend_duration(text))


def _mend_duration(text: str) -> str | None:
    """Guess what was meant by a time such as `04:00:00` or `1h 30m`."""
    if _WALLTIME.fullmatch(text):
        return format_duration(parse_walltime(text))
    squeezed = re.sub(r"\s+", "", text)
    return squeezed if _match_duration(squeezed) else None
