"""The border: bytes of a request become checked values, or a refusal that names what is wrong.

Accepted is valid UTF-8 without NUL and lone surrogates, integers within 64 bits, finite numbers,
nesting up to 64, no key twice. The bodies of `sync` arrive thousands of times a second and skip the
walk over the tree unless their bytes look suspicious.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from pydantic import BaseModel, ValidationError

from lading.api.routing import KIBIBYTE, Query, Route
from lading.toolkit.errors import BadInput, TooLarge, Violation

DEEPEST = 64
HOT_SUFFIX = "/sync"
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
PIECE_SECONDS = 60.0
"""A client that sends nothing of its body for so long has lost its turn."""
_IN_THREAD_FROM = 256 * KIBIBYTE
"""A larger body is decoded beside the event loop: heartbeats of nodes must not wait behind it."""
_SUSPICIOUS = re.compile(rb"\\u0000|\d{19}")
_INTEGER = re.compile(r"([+-]?[0-9]{1,40})(?:\.0*)?")
_MOST_QUERY_FIELDS = 100
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the whole body; TooLarge as soon as it exceeds `limit` bytes, also when it is chunked."""
    length = request.content_length
    if length is not None and length > limit:
        raise too_large(limit)
    if not request.body_exists:
        return b""
    pieces = []
    size = 0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PIECE_SECONDS) as patience:
            while piece := await request.content.readany():
                size += len(piece)
                if size > limit:
                    raise too_large(limit)
                pieces.append(piece)
                patience.reschedule(loop.time() + PIECE_SECONDS)
    except TimeoutError:
        raise BadInput(f"Nothing more of the body came for {PIECE_SECONDS:.0f} s.") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def too_large(limit: int) -> TooLarge:
    """Return the refusal of a body over `limit` bytes."""
    return TooLarge(f"The body is larger than the {limit} bytes that this path accepts.")


async def decode_body(route: Route, body: bytes) -> Any:
    """Return an instance of the route's body model, made from the bytes of a request."""
    if route.body is None:
        return None
    content = body or b"{}"
    if len(content) > _IN_THREAD_FROM:
        return await asyncio.to_thread(_decode, route, content)
    return _decode(route, content)


def _decode(route: Route, content: bytes) -> Any:
    model = route.body
    if isinstance(model, type) and issubclass(model, msgspec.Struct):
        return _decode_struct(model, content, is_hot=route.path.endswith(HOT_SUFFIX))
    tree = decode_json(content)
    if model is dict:
        if not isinstance(tree, dict):
            raise BadInput(f"The body is {_kind(tree)}; accepted is a JSON object.")
        return tree
    if isinstance(model, type) and issubclass(model, BaseModel):
        try:
            return model.model_validate(tree)
        except ValidationError as error:
            raise BadInput.of([_violation(item) for item in error.errors(include_url=False)]) from None
    return tree


@lru_cache(maxsize=256)
def _decoder(model: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(model)


def _decode_struct(model: type[msgspec.Struct], content: bytes, *, is_hot: bool) -> Any:
    if not is_hot or _SUSPICIOUS.search(content):
        decode_json(content)
    try:
        return _decoder(model).decode(content)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        path = place.strip("`").removeprefix("$").removeprefix(".")
        raise BadInput.of([Violation(path or "body", message)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The strict reader has better words for the same fault; what it lets pass is refused here.
        decode_json(content)
        raise BadInput("The body is not valid JSON.") from None


def decode_json(content: bytes) -> Any:
    """Decode JSON under the border rule; BadInput names the field that breaks it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"The body is not valid UTF-8: byte {error.start} is wrong.") from None
    try:
        tree = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        # Python refuses to read an integer of thousands of digits.
        raise BadInput("The body has an integer beyond 64 bits, which is not accepted.") from None
    _check(tree, "", 1)
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadInput(f"The body has the key {_shown(name)} twice in one object.")
            seen.add(name)
    return members


def _refuse_constant(name: str) -> Any:
    raise BadInput(f"The body has the number {name}; accepted are finite numbers.")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _check(value: Any, path: str, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value, path)
    elif kind is dict:
        if depth > DEEPEST:
            raise _too_deep()
        for name, member in value.items():
            _check_text(name, path)
            _check(member, f"{path}.{name}" if path else name, depth + 1)
    elif kind is list:
        if depth > DEEPEST:
            raise _too_deep()
        for index, member in enumerate(value):
            _check(member, f"{path}[{index}]", depth + 1)
    elif kind is int:
        if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            raise _refused(path, f"{_shown(value)} is an integer beyond 64 bits, which is not accepted.")
    elif kind is float and not math.isfinite(value):
        raise _refused(path, "the number is too large; accepted are finite numbers.")


def _check_text(text: str, path: str) -> None:
    if text.isascii():
        if "\0" in text:
            raise _refused(path, f"{_shown(text)} contains a NUL character, which is not accepted.")
        return
    if "\0" in text:
        raise _refused(path, f"{_shown(text)} contains a NUL character, which is not accepted.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _refused(
            path, f"{_shown(text)} contains half of a surrogate pair, which is not accepted."
        ) from None


def _refused(path: str, message: str) -> BadInput:
    return BadInput.of([Violation(path.encode("ascii", "backslashreplace").decode() or "body", message)])


def _too_deep() -> BadInput:
    return BadInput(f"The body is nested more than {DEEPEST} levels deep, which is not accepted.")


def _shown(value: object) -> str:
    """Return a value as a message can show it: ASCII, and not for pages."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _violation(item: Any) -> Violation:
    path = ""
    for part in item["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    given = item["input"]
    # A missing field's input is the whole object around it: too much to repeat.
    value = given if isinstance(given, str | int | float | bool) else None
    message = item["msg"].removeprefix("Value error, ")
    shown = f"{_shown(value)}: {message}" if value is not None else message
    return Violation(path or "body", shown.rstrip(".") + ".", value)


def decode_query(parameters: tuple[Query, ...], target: str) -> Mapping[str, Any]:
    """Return the declared parameters, converted, defaults filled in; unknown ones are ignored."""
    if not parameters:
        return {}
    values: dict[str, Any] = {parameter.name: parameter.default for parameter in parameters}
    text = target.partition("?")[2].partition("#")[0]
    if not text:
        return values
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise BadInput("The query is not percent-encoded UTF-8.") from None
    except ValueError:
        raise BadInput(f"The query has more than {_MOST_QUERY_FIELDS} parameters.") from None
    given = dict(pairs)
    for parameter in parameters:
        if parameter.name in given:
            values[parameter.name] = _convert(parameter, given[parameter.name])
    return values


def _convert(parameter: Query, text: str) -> Any:
    if parameter.type is str:
        if "\0" in text:
            raise _refused(parameter.name, f"{_shown(text)} contains a NUL character.")
        return text
    if parameter.type is bool:
        lowered = text.lower()
        if lowered in _TRUE or lowered in _FALSE:
            return lowered in _TRUE
        raise _refused(parameter.name, f"{_shown(text)} is not accepted; accepted are true and false.")
    try:
        number = _integer(text) if parameter.type is int else float(text) if "_" not in text else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    least = parameter.minimum
    if not math.isfinite(number) or (least is not None and number < least):
        wanted = "an integer" if parameter.type is int else "a number"
        bound = f" of at least {least:g}" if least is not None else ""
        raise _refused(parameter.name, f"{_shown(text)} is not accepted; accepted is {wanted}{bound}.")
    return number


def _integer(text: str) -> int:
    """Read `3`, and `3.0` as the generated clients write it."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    number = int(match[1])
    if not SMALLEST_INTEGER <= number <= LARGEST_INTEGER:
        raise ValueError(text)
    return number
