"""Backoff, circuit breaker, token bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.submitter.limits import Breaker, TokenBucket, backoff


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_its_bounds(failures: int, draw: float) -> None:
    assert 1.0 <= backoff(failures, draw) <= 60.0
    assert backoff(failures, draw) <= backoff(failures + 1, draw)


def test_breaker_opens_after_five_errors_and_lets_one_trial_through() -> None:
    breaker = Breaker()
    assert [breaker.fail(0.0, 0.0) for _ in range(4)] == [None] * 4
    assert breaker.ready_at() == 0.0
    seconds = breaker.fail(100.0, 0.0)
    assert seconds is not None
    assert breaker.ready_at() == 100.0 + seconds
    breaker.begin()
    assert breaker.ready_at() is None
    longer = breaker.fail(200.0, 0.99)
    assert longer is not None
    assert longer > seconds
    breaker.begin()
    assert breaker.succeed()
    assert breaker.ready_at() == 0.0
    assert not breaker.succeed()


def test_an_answer_between_errors_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.fail(0.0, 0.0)
    breaker.succeed()
    assert breaker.fail(0.0, 0.0) is None


@given(st.floats(1, 1000), st.lists(st.floats(0, 30), max_size=200))
def test_never_more_calls_than_a_burst_and_the_rate(per_minute: float, pauses: list[float]) -> None:
    bucket, now, calls = TokenBucket(per_minute), 0.0, 0
    for pause in pauses:
        now += pause
        if bucket.ready_at(now) <= now:
            bucket.take(now)
            calls += 1
    assert calls <= per_minute + now * per_minute / 60.0 + 1e-3


@given(st.floats(1, 1000))
def test_waiting_until_ready_is_enough(per_minute: float) -> None:
    bucket, now = TokenBucket(per_minute), 0.0
    for _ in range(50):
        now = max(now, bucket.ready_at(now))
        assert bucket.ready_at(now) <= now
        bucket.take(now)
