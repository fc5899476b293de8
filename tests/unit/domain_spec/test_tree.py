"""Trees: the border rule, places, ways."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lading.toolkit.domain.tree import Node, describe, path_text
from lading.toolkit.errors import BadInput


def test_plain_values_go_in_and_come_out() -> None:
    value = {"a": [1, 2.5, True, None, "x"], "b": {"c": {}}}
    assert Node.from_plain(value).plain() == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"a": ["x\0"]},
            "a[0]: The text has a NUL character at position 2; accepted is valid UTF-8 without NUL.",
        ),
        ({"a": "\udc00"}, "a: The text has a lone surrogate (U+DC00) at position 1"),
        ({"a": float("nan")}, "a: The number nan is not finite; accepted are finite numbers."),
        ({"a": 2**63}, "a: The whole number does not fit into 64 bits"),
        ({"a": {"b\0": 1}}, "a: A field's name is refused: The text has a NUL character at position 2"),
        ({1: 2}, "A field's name is refused: the number 1"),
        ({"a": dt.date(2024, 5, 2)}, "a: The value 2024-05-02 is a date; put it into quotes"),
    ],
)
def test_the_border_rule(value: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        Node.from_plain(value)
    assert str(caught.value).startswith(message)


def test_nesting_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(63):
        value = [value]
    assert Node.from_plain(value).plain() == value
    with pytest.raises(BadInput, match="The document is nested deeper than 64 levels"):
        Node.from_plain([[value]])


def test_a_way_ends_at_the_last_node_that_exists() -> None:
    root = Node.from_plain({"jobs": [{"name": "a"}]})
    assert root.find(("jobs", 0, "name")).value == "a"
    assert root.find(("jobs", 0, "none", "deeper")) is root.find(("jobs", 0))
    assert root.find(("jobs", 7)) is root.find(("jobs",))


VALUES: list[Any] = [{}, [], None, True, "x", 4]


def test_ways_and_values_as_people_write_them() -> None:
    assert path_text(("jobs", 3, "env", "A")) == "jobs[3].env.A"
    assert path_text(("a\nb",)) == r"'a\nb'"
    assert [describe(value) for value in VALUES] == [
        "a mapping", "a list", "nothing (null)", "the boolean true", "the text 'x'", "the number 4",
    ]  # fmt: skip
    assert len(describe("x" * 10_000)) < 100
