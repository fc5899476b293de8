"""A job that TERM ended: by itself, or together with its allocation."""

from __future__ import annotations

import pytest

from lading.toolkit.runner.doubts import Doubts
from lading.toolkit.runner.messages import RawEnd


def end(code: int, *, at: float = 10.0, failure: str = "") -> RawEnd:
    return {
        "id": "a", "code": code, "exec": 1.0, "at": at, "cpu": 0.0, "rss": 0, "stop": None,
        "failure": failure, "infrastructure": False,
    }  # fmt: skip


@pytest.mark.parametrize("code", [-15, 143])
def test_term_before_the_signal_to_us_is_the_allocations_end(code):
    doubts = Doubts(shares_signals=True)
    assert doubts.sift([end(code)]) == []
    assert doubts.until == 12.0
    assert doubts.settled(11.9) == []
    [said] = doubts.end_allocation()
    assert said["stop"] is not None
    assert (said["code"], said["stop"]["cause"]) == (code, "allocation_ended")
    assert doubts.until == float("inf")


def test_term_without_a_signal_to_us_is_the_jobs_own_end():
    doubts = Doubts(shares_signals=True)
    doubts.sift([end(-15)])
    assert doubts.settled(12.0) == [end(-15)]
    assert doubts.end_allocation() == []


def test_what_fails_after_the_signal_failed_by_it():
    doubts = Doubts(shares_signals=True)
    doubts.end_allocation()
    [failed, succeeded, unstartable] = doubts.sift([end(1), end(0), end(127, failure="not found")])
    assert failed["stop"] is not None
    assert (succeeded["stop"], unstartable["stop"]) == (None, None)


def test_ends_are_never_held_back_where_nobody_signals_all():
    doubts = Doubts(shares_signals=False)
    assert doubts.sift([end(-15)]) == [end(-15)]


@pytest.mark.parametrize("code", [0, 1, -9, -11])
def test_other_ends_are_clear_at_once(code):
    assert Doubts(shares_signals=True).sift([end(code)]) == [end(code)]
