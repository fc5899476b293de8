"""JSON and JSON5: one reader, strict where the name says .json."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import json5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.errors import BadInput
from lading.toolkit.specfile import Format, load

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4
        )
    ),
    max_leaves=15,
)


def read(text: str, format_: Format = "json") -> Any:
    return load(text, format_, "flow").plain()


def refusal(text: str, format_: Format = "json") -> str:
    with pytest.raises(BadInput) as caught:
        load(text, format_, "flow")
    return str(caught.value)


def attempt(text: str) -> tuple[Any, str]:
    try:
        return read(text), ""
    except BadInput as error:
        return None, str(error)


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_what_json_writes_is_read_by_both(value: object, is_ascii: bool, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    assert read(text) == value
    assert read(text, "json5") == value


@given(VALUES)
def test_what_json5_writes_is_read(value: object) -> None:
    assert read(json5.dumps(value, trailing_commas=True, indent=2), "json5") == value


@given(st.text(alphabet="{}[]:,\"\\ \n0123456789.eE+-truefalsn/*'abu", max_size=30))
def test_strict_reading_agrees_with_the_standard_library(text: str) -> None:
    # The alphabet has no capitals: Infinity and NaN, which the standard library takes, do not arise.
    try:
        expected = json.loads(text)
        is_json = True
    except ValueError:
        expected, is_json = None, False
    found, reason = attempt(text)
    if is_json and not any(word in reason for word in ("twice", "64 bits", "not finite", "surrogate", "NUL")):
        assert (found, reason) == (expected, "")
    else:
        assert reason


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    formats: tuple[Format, ...] = ("json", "json5")
    for format_ in formats:
        with suppress(BadInput):
            load(text, format_, "flow")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("// why\n{a: 1, /* so */ 'b': [2,],}", {"a": 1, "b": [2]}),
        ("{$x_1: +1, é: .5, z: 2., h: 0xFF, n: -0x10}", {"$x_1": 1, "é": 0.5, "z": 2.0, "h": 255, "n": -16}),
        (r"'it\'s \x41 \u00e9 \q \v'", "it's A é q \v"),
        ('"one \\\ntwo \\\r\nthree"', "one two three"),
        (r"{\u0061b: 1}", {"ab": 1}),
        ("\ufeff[1]", [1]),
        ("/* a */ // b\n null // c", None),
        ('"\U0001f600"', "\U0001f600"),
    ],
)
def test_json5(text: str, value: object) -> None:
    assert read(text, "json5") == value


def test_escaped_halves_of_a_character_are_joined() -> None:
    assert read(r'"\ud83d\ude00 \ud83d\ude00"') == "\U0001f600 \U0001f600"


@pytest.mark.parametrize("format_", ["json", "json5"])
def test_values_and_names_know_their_places(format_: Format) -> None:
    root = load('{\n  "jobs": [\r\n    {"name": "a",\n     "command":\n       "run"}\n  ]}', format_, "flow")
    command = root.find(("jobs", 0, "command"))
    assert (command.line, command.column) == (5, 8)
    assert (command.key_line, command.key_column) == (4, 6)
    job = root.find(("jobs", 0))
    assert (job.line, job.column) == (3, 5)


def test_places_after_json5_comments() -> None:
    root = load("// one\n{ /* two\n */ a: [ // three\n 1] }", "json5", "flow")
    assert (root.find(("a", 0)).line, root.find(("a", 0)).column) == (4, 2)
    assert (root.find(("a",)).key_line, root.find(("a",)).key_column) == (3, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "flow:1:1: This is not JSON: expected a value, the text ends."),
        ("{", "flow:1:2: This is not JSON: expected a field's name in double quotes, the text ends."),
        ("[1, 2", "flow:1:6: This is not JSON: expected ',' or ']' (for the '[' of line 1), the text ends."),
        ('{"a" 1}', "flow:1:6: This is not JSON: expected ':' after the field's name 'a', found '1' in '{\"a\" 1}'."),
        ('{"a": 1\n "b": 2}', "flow:2:2: This is not JSON: expected ',' or '}' (for the '{' of line 1), found '\"' in"),
        ('{"a": 1,}', "flow:1:8: A comma before '}' is not JSON; remove it, or name the file .json5."),
        ("[1 , ]", "flow:1:4: A comma before ']' is not JSON; remove it, or name the file .json5."),
        ("{a: 1}", "flow:1:2: This is not JSON: expected a field's name in double quotes, found 'a' in '{a: 1}'."),
        ("[1] // x", "flow:1:5: This is not JSON: expected nothing more after the document, found '/' in '[1] // x'. Comments"),
        ("['a']", "flow:1:2: This is not JSON: expected a value, found \"'\" in \"['a']\". Comments and single quotes are JSON5"),
        ("[tru]", "flow:1:2: This is not JSON: expected a value, found 'tru' in '[tru]'."),
        ("[01]", "flow:1:2: This is not JSON: expected a value, found '01' in '[01]'."),
        ("[NaN]", "flow:1:2: This is not JSON: expected a value, found 'NaN' in '[NaN]'."),
        ('["a\n"]', "flow:1:2: The text that starts here has no closing quote on its line."),
        ('["a\tb"]', "flow:1:4: This is not JSON: expected the control character written as \\u0009, found '\\t' in"),
        (r'["\x41"]', "flow:1:3: This is not JSON: expected an escape such as"),
        (r'["\u12"]', "flow:1:3: This is not JSON: expected hexadecimal digits after \\u, found"),
        ('{"a": 1,\n "a": 2}', "flow:2:2: The field 'a' stands twice in one object, first at line 1."),
        ('["\\ud800"]', "flow:1:2: The text has a lone surrogate (U+D800) at position 1; accepted is valid UTF-8 without NUL."),
        ('["x\\u0000"]', "flow:1:2: The text has a NUL character at position 2"),
        ('{"\\u0000": 1}', "flow:1:2: The text has a NUL character at position 1"),
        ("[9223372036854775808]", "flow:1:2: The whole number does not fit into 64 bits"),
        ("[" + "9" * 5_000 + "]", "flow:1:2: The whole number does not fit into 64 bits"),
        ("[1e999]", "flow:1:2: The number inf is not finite"),
        ("[" * 65 + "]" * 65, "flow:1:65: The document is nested deeper than 64 levels."),
        ("[" * 100_000, "flow:1:65: The document is nested deeper than 64 levels."),
    ],
)  # fmt: skip
def test_refusals_name_place_and_reason(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "flow:1:2: The number nan is not finite"),
        ("[-Infinity]", "flow:1:2: The number -inf is not finite"),
        ("[1] /* open", "flow:1:5: This is not JSON5: expected nothing more after the document, found '/' in '[1] /* open'. The comment that starts here is not closed."),
        ("[,]", "flow:1:2: This is not JSON5: expected a value, found ',' in '[,]'."),
        ("{1a: 2}", "flow:1:2: This is not JSON5: expected a field's name, found '1a' in '{1a: 2}'."),
        ("{a: 1, 'a': 2}", "flow:1:8: The field 'a' stands twice in one object, first at line 1."),
        ("['open]", "flow:1:2: The text that starts here has no closing quote on its line."),
        (r"['\1']", "flow:1:3: This is not JSON5: expected an escape"),
        ("[0x]", "flow:1:2: This is not JSON5: expected a value, found '0x' in '[0x]'."),
        ("[0x" + "F" * 5_000 + "]", "flow:1:2: The whole number does not fit into 64 bits"),
    ],
)  # fmt: skip
def test_json5_refusals(text: str, message: str) -> None:
    assert refusal(text, "json5").startswith(message)
