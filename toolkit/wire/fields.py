"""Types of single values on the wire: what converts, what is refused, and with which words.

Conversion is that of the published API: text that looks like a number or a boolean is one. What a
database or another program could not hold is refused here, at the border: NUL, lone surrogates,
integers over 64 bits, numbers that are not finite, nesting deeper than 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from lading.toolkit.domain.values import (
    INTEGER_MAX,
    INTEGER_MIN,
    parse_duration,
    parse_memory,
    parse_walltime,
    standard_duration,
    text_fault,
)
from lading.toolkit.errors import BadInput

NESTING_MAX: Final = 64
_SAFE_INTEGER: Final = 2**53


def refuse(kind: str, message: str) -> PydanticCustomError:
    """Make the error of one value; braces in the message would be read as placeholders."""
    return PydanticCustomError(kind, "{message}", {"message": message})


def check_border(value: Any, depth: int = 0) -> Any:
    """Return a free-form JSON value unchanged, or refuse what cannot be stored."""
    if depth > NESTING_MAX:
        raise refuse("nesting", f"nested deeper than {NESTING_MAX} levels")
    if isinstance(value, str):
        return _passing_text(value)
    if isinstance(value, dict):
        for name, item in value.items():
            _passing_text(name)
            check_border(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_border(item, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise refuse("finite", "is not a finite number")
    elif isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
        raise refuse("integer", f"does not fit into 64 bits ({INTEGER_MIN} to {INTEGER_MAX})")
    return value


def plain_number(value: float) -> int | float:
    """Return a number that has no fraction as an integer, so that it is printed as one."""
    return int(value) if value.is_integer() and abs(value) < _SAFE_INTEGER else value


def _passing_text(value: str) -> str:
    if (fault := text_fault(value)) is not None:
        raise refuse("text", f"{fault}; accepted is valid UTF-8 text without NUL")
    return value


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise refuse("number", f"{str(value).lower()} is a boolean; accepted is a number")
    return value


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise refuse("boolean", f"{str(value)[:64]!r} is not a boolean; accepted are true and false")


def _readable(parse: Callable[[str], object]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            parse(text)
        except BadInput as error:
            raise refuse("value", str(error)) from None
        return text

    return check


def _duration(text: str) -> str:
    """Return the ISO 8601 text of a duration: other readers know no other."""
    try:
        return standard_duration(text)
    except BadInput as error:
        raise refuse("value", str(error)) from None


def _seconds(value: Any) -> Any:
    """Read a duration that is given as seconds or as text with units."""
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except BadInput as error:
            raise refuse("value", str(error)) from None
    return _not_boolean(value)


# Bounds come before the functions: behind them they would be missing from the published schema.
PossiblyEmptyText = Annotated[str, Strict(), AfterValidator(_passing_text)]
TextOrNull = Annotated[
    str,
    Strict(),
    AfterValidator(_passing_text),
    BeforeValidator(lambda value: "" if value is None else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]
"""Where the published API accepts null for an empty text; it never answers null."""
Text = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_passing_text)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Integer = Annotated[int, Field(ge=INTEGER_MIN, le=INTEGER_MAX), BeforeValidator(_not_boolean)]
Natural = Annotated[int, Field(ge=0, le=INTEGER_MAX), BeforeValidator(_not_boolean)]
Positive = Annotated[int, Field(ge=1, le=INTEGER_MAX), BeforeValidator(_not_boolean)]
Retries = Annotated[int, Field(ge=0, le=1_000), BeforeValidator(_not_boolean)]
Number = Annotated[
    float, Field(allow_inf_nan=False), BeforeValidator(_not_boolean), AfterValidator(plain_number)
]
Amount = Annotated[
    float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_not_boolean), AfterValidator(plain_number)
]
PositiveNumber = Annotated[
    float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_not_boolean), AfterValidator(plain_number)
]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_seconds)]
Memory = Annotated[Text, AfterValidator(_readable(parse_memory))]
Duration = Annotated[Text, AfterValidator(_duration)]
Walltime = Annotated[Text, AfterValidator(_readable(parse_walltime))]
Object = Annotated[dict[str, Any], BeforeValidator(check_border)]
