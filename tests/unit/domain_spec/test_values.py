"""Memory sizes, durations, wall times and texts: one strict reading each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain import values
from lading.toolkit.errors import BadInput

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", KIB),
        ("512m", 512 * MIB),
        ("4g", 4 * GIB),
        ("4 G", 4 * GIB),
        ("2T", 2 * TIB),
    ],
)
def test_memory_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert values.parse_memory(text) == size


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("1.5g", "1536m"),
        ("0.1t", "103g"),
        ("1.5", "2"),
        ("10GB", "10g"),
        ("10 GiB", "10g"),
        (" 4g ", "4g"),
        ("4g\n", "4g"),
        ("", None),
        ("-1g", None),
        ("4gg", None),
        ("1e3", None),
        ("٣g", None),
        ("many", None),
        ("9" * 5_000, None),
    ],
)
def test_memory_that_other_readers_take_is_refused_with_what_was_meant(
    text: str, suggestion: str | None
) -> None:
    with pytest.raises(BadInput, match="is not a memory size") as caught:
        values.parse_memory(text)
    assert caught.value.violations[0].suggestion == suggestion


def test_memory_beyond_64_bits_is_refused() -> None:
    assert values.parse_memory(str(values.INTEGER_MAX)) == values.INTEGER_MAX
    with pytest.raises(BadInput, match="more memory than 64 bits"):
        values.parse_memory("8388608t")


@given(st.integers(0, values.INTEGER_MAX))
def test_memory_text_is_read_back_exactly(size: int) -> None:
    assert values.parse_memory(values.format_memory(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("P0DT1M", 60),
        ("P0DT1m", 60),
        ("P1W", 7 * 86_400),
        ("P1DT2H3M4.5S", 93_784.5),
        ("PT1.5H", 5_400),
        ("2h30m", 9_000),
        ("90s", 90),
        ("1d12h", 129_600),
        ("1.5h", 5_400),
        ("1w", 604_800),
        ("P0D", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("90", "'90' has no unit: write '90s' for seconds or '90m' for minutes"),
        ("-PT1H", "'-PT1H' is negative"),
        ("P-1D", "'P-1D' is negative"),
        ("P1Y", "'P1Y' counts years or months, whose length is not fixed"),
        ("P1Y2M3DT4H", "counts years or months"),
        ("P1M", "Did you mean 'PT1M'"),
        ("04:00:00", "Did you mean 'P0DT4H0M0S'"),
        ("1h 30m", "Did you mean '1h30m'"),
        ("P", "'P' is not a duration"),
        ("PT", "'PT' is not a duration"),
        ("P1DT", "'P1DT' is not a duration"),
        ("", "'' is not a duration"),
        ("2m1h", "'2m1h' is not a duration"),
        ("PT1H text", "'PT1H text' is not a duration"),
        ("P9999999D", "is longer than a century"),
        ("9" * 5_000 + "s", "is not a duration"),
        ("9999999999:00:00", "is longer than a century"),
    ],
)
def test_bad_durations_say_why(text: str, reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        values.parse_duration(text)
    assert reason in str(caught.value)


def test_duration_text_has_all_its_parts() -> None:
    assert values.format_duration(7_200) == "P0DT2H0M0S"
    assert values.format_duration(90_061.5) == "P1DT1H1M1.5S"
    assert values.format_duration(59.9999999) == "P0DT0H1M0S"


@given(st.integers(0, values.DURATION_MAX * 1_000_000))
def test_duration_text_is_read_back_exactly(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert values.parse_duration(values.format_duration(seconds)) == seconds


def test_only_what_readers_of_iso_8601_know_is_kept_as_written() -> None:
    assert values.standard_duration("P0DT10M") == "P0DT10M"
    assert values.standard_duration("P0DT1m") == "P0DT0H1M0S"
    assert values.standard_duration("2h30m") == "P0DT2H30M0S"


@pytest.mark.parametrize(
    ("text", "seconds"), [("04:00:00", 14_400), ("1-12:00:00", 129_600), ("36:00:00", 129_600)]
)
def test_walltimes(text: str, seconds: int) -> None:
    assert values.parse_walltime(text) == seconds


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [("4h", "04:00:00"), ("PT36H", "1-12:00:00"), ("30", None), ("1:60:00", None), ("", None)],
)
def test_bad_walltimes_are_refused(text: str, suggestion: str | None) -> None:
    with pytest.raises(BadInput, match="is not a wall time") as caught:
        values.parse_walltime(text)
    assert caught.value.violations[0].suggestion == suggestion


@given(st.integers(0, 10**9))
def test_walltime_text_is_read_back_exactly(seconds: int) -> None:
    assert values.parse_walltime(values.format_walltime(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a\0b", "a NUL character at position 2"), ("é\ud800", r"a lone surrogate \(U\+D800\) at position 2")],
)
def test_texts_that_databases_cannot_hold_are_refused(text: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        values.check_text(text, "name")


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_every_other_text_passes(text: str) -> None:
    assert values.check_text(text) == text


def test_integers_beyond_64_bits_are_refused() -> None:
    assert values.check_integer(-(2**63)) == -(2**63)
    with pytest.raises(BadInput, match=r"priority: The number does not fit into 64 bits"):
        values.check_integer(2**63, "priority")
