"""YAML 1.2: plain words are what they look like, every value knows its place."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lading.toolkit.errors import BadInput
from lading.toolkit.specfile import load
from lading.toolkit.specfile.yaml_reader import MAX_ALIASED, resolve


def read(text: str) -> Any:
    return load(text, "yaml", "flow.yaml").plain()


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        load(text, "yaml", "flow.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "word", ["no", "yes", "on", "off", "y", "12:30", "04:00:00", "0777", "007", "1_000", "0b11", "2024-01-01", "1.2.3",
             "=", "+", "-x", ".", "e5", "0x", "0o8", "nUlL", "1e", "inf", "nan", "Infinity"],
)  # fmt: skip
def test_words_stay_texts(word: str) -> None:
    assert read(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0", 0), ("12", 12), ("-3", -3), ("+4", 4), ("0o14", 12), ("0x1F", 31), ("1.5", 1.5), (".5", 0.5), ("-1.", -1.0),
        ("1e3", 1000.0), ("6.02E+23", 6.02e23), ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ],
)  # fmt: skip
def test_numbers_booleans_and_null_are_resolved(word: str, value: object) -> None:
    found = read(f"a: {word}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_quotes_make_texts() -> None:
    assert read("a: ['1', \"true\", '', '~']") == {"a": ["1", "true", "", "~"]}


def test_block_texts_and_comments() -> None:
    assert read("# why\na: |\n  one\n  two\nb: >-\n  three\n  four\n") == {
        "a": "one\ntwo\n",
        "b": "three four",
    }


def test_an_empty_document_is_null() -> None:
    assert read("") is None
    assert read("# only a comment\n") is None


def test_keys_are_texts_as_they_are_written() -> None:
    assert read("{1: a, true: b, null: c, 0777: d}") == {"1": "a", "true": "b", "null": "c", "0777": "d"}


def test_values_and_names_know_their_places() -> None:
    root = load("jobs:\n  - name: a\n    command:\n      run it\n", "yaml", "flow.yaml")
    command = root.find(("jobs", 0, "command"))
    assert (command.line, command.column) == (4, 7)
    assert (command.key_line, command.key_column) == (3, 5)
    job = root.find(("jobs", 0))
    assert (job.line, job.column) == (2, 5)


def test_anchors_and_aliases() -> None:
    assert read("a: &x {n: [1, 2]}\nb: *x\nc: [*x, *x]\n") == {
        "a": {"n": [1, 2]},
        "b": {"n": [1, 2]},
        "c": [{"n": [1, 2]}, {"n": [1, 2]}],
    }


def test_an_aliased_value_has_a_name_of_its_own_in_each_mapping() -> None:
    root = load("a: &x 1\nb: *x\n", "yaml", "flow.yaml")
    assert (root.find(("a",)).key_line, root.find(("b",)).key_line) == (1, 2)


def test_aliases_cannot_stand_for_billions() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert refusal("\n".join(lines)) == (
        f"flow.yaml:6:45: The aliases stand for more than {MAX_ALIASED} values; write a smaller document."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "flow.yaml:3:1: The field 'a' stands twice in one mapping, first at line 1."),
        ("a: &x {b: *x}", "flow.yaml:1:11: The alias '*x' stands inside of the value that it repeats."),
        ("a: *x", "flow.yaml:1:4: The alias '*x' has no anchor '&x' before it."),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "flow.yaml:3:3: The merge key '<<' is not accepted (YAML 1.2 has none); repeat the fields."),
        ("a: !!str 5", "flow.yaml:1:4: The tag 'tag:yaml.org,2002:str' is not accepted; quotes make a text, plain numbers are numbers."),
        ("a: !python/object:os.system x", "flow.yaml:1:4: The tag '!python/object:os.system' is not accepted;"),
        ("!x {a: 1}", "flow.yaml:1:1: The tag '!x' is not accepted;"),
        ("a: 1\n---\nb: 2\n", "flow.yaml:2:1: A second document starts here; a specification is one document."),
        ("a: .nan", "flow.yaml:1:4: The number nan is not finite; accepted are finite numbers."),
        ("a: -.inf", "flow.yaml:1:4: The number -inf is not finite"),
        ("a: 1e999", "flow.yaml:1:4: The number inf is not finite"),
        ("a: 9223372036854775808", "flow.yaml:1:4: The whole number does not fit into 64 bits"),
        ("a: " + "9" * 5_000, "flow.yaml:1:4: The whole number does not fit into 64 bits"),
        ("a: 0x" + "F" * 5_000, "flow.yaml:1:4: The whole number does not fit into 64 bits"),
        ('a: "x\\0y"', "flow.yaml:1:4: The text has a NUL character at position 2; accepted is valid UTF-8 without NUL."),
        ("a: x\0y", "flow.yaml:1:5: The text has a NUL character at position 5"),
        ("a: 1\nb: \ud800", "flow.yaml:2:4: The text has a lone surrogate (U+D800) at position 9"),
        ("? [a, b]\n: 1\n", "flow.yaml:1:3: A field's name must be a text, not a list or a mapping."),
        ("a: b: c", "flow.yaml:1:5: This is not YAML: mapping values are not allowed"),
        ("jobs:\n\t- a", "flow.yaml:2:1: This is not YAML: a tab cannot indent, use blanks"),
        ("a: [1, 2\nb: 3\n", "flow.yaml:2:2: This is not YAML: "),
        ("a: 'open", "flow.yaml:1:9: This is not YAML: found unexpected end of stream (while scanning a quoted scalar), at \"a: 'open\"."),
        ("a: \x07", "flow.yaml:1:4: This is not YAML: "),
        ("[" * 65 + "]" * 65, "flow.yaml:1:65: The document is nested deeper than 64 levels."),
    ],
)  # fmt: skip
def test_refusals_name_place_and_reason(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_nesting_counts_through_aliases() -> None:
    deep = "[" * 40 + "]" * 40
    assert "nested deeper than 64 levels" in refusal(f"- &x {deep}\n- {'[' * 30}*x{']' * 30}\n")


def test_64_levels_are_accepted() -> None:
    assert read("[" * 64 + "]" * 64)


def test_faults_that_do_not_end_the_reading_come_together() -> None:
    text = refusal("a: 1\na: 2\nb: !x 3\nc: .nan\n")
    assert [line.split(":")[1] for line in text.splitlines()] == ["2", "3", "4"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_json_is_yaml(value: object) -> None:
    # Escaped halves of characters beyond 16 bits are not joined by YAML: written as they are.
    text = json.dumps(value, ensure_ascii=False)
    assume(text.isprintable())
    assert read(text) == value


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadInput):
        load(text, "yaml", "flow.yaml")


@given(st.from_regex(r"[-+.0-9eExo_:a-f]{1,12}", fullmatch=True))
def test_a_word_is_its_text_or_a_number(word: str) -> None:
    value = resolve(word)
    assert value == word or isinstance(value, int | float)
