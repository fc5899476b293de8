"""Whether a job runs again: whose budget an attempt costs, and when that is used up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain.retry import BUDGETS, Again, Over, decide
from lading.toolkit.domain.states import USER_CAUSES, Cause, JobStatus

counts = st.dictionaries(st.sampled_from(Cause), st.integers(0, 50))


def test_every_cause_is_the_authors_the_machines_or_a_cancellation() -> None:
    assert set(Cause) == USER_CAUSES | BUDGETS.keys() | {Cause.CANCELED}
    assert not USER_CAUSES & BUDGETS.keys()


@pytest.mark.parametrize("cause", BUDGETS)
def test_a_machines_fault_is_forgiven_as_often_as_its_budget_says(cause: Cause) -> None:
    budget = BUDGETS[cause]
    for earlier in range(budget):
        verdict = decide(cause, -9, JobStatus.TERMINATED, {cause: earlier}, 0)
        assert isinstance(verdict, Again)
    verdict = decide(cause, -9, JobStatus.TERMINATED, {cause: budget}, 0)
    assert isinstance(verdict, Over)
    assert verdict.status is JobStatus.TERMINATED
    assert f"{budget + 1} attempts" in verdict.message
    assert cause.value in verdict.message


@given(st.sampled_from(sorted(BUDGETS)), counts, st.integers(0, 5))
def test_budgets_of_causes_are_kept_apart(cause: Cause, earlier: dict[Cause, int], retries: int) -> None:
    alone = {cause: earlier.get(cause, 0)}
    assert decide(cause, -9, JobStatus.TERMINATED, earlier, retries) == decide(
        cause, -9, JobStatus.TERMINATED, alone, 0
    )


@given(st.sampled_from(sorted(USER_CAUSES)), counts, st.integers(0, 5), st.integers(1, 255))
def test_only_its_own_failures_use_up_the_authors_retries(
    cause: Cause, earlier: dict[Cause, int], retries: int, code: int
) -> None:
    failures = sum(number for one, number in earlier.items() if one in USER_CAUSES)
    verdict = decide(cause, code, JobStatus.DONE, earlier, retries)
    assert isinstance(verdict, Again) == (failures < retries)
    if isinstance(verdict, Over):
        assert (verdict.status, verdict.return_code) == (JobStatus.DONE, code)


@given(st.sampled_from(sorted(USER_CAUSES)), counts, st.integers(0, 5))
def test_a_success_is_never_tried_again(cause: Cause, earlier: dict[Cause, int], retries: int) -> None:
    assert decide(cause, 0, JobStatus.DONE, earlier, retries) == Over(JobStatus.DONE, 0)


@given(counts, st.integers(0, 5), st.integers(-64, 255))
def test_a_canceled_attempt_is_the_end(earlier: dict[Cause, int], retries: int, code: int) -> None:
    verdict = decide(Cause.CANCELED, code, JobStatus.DONE, earlier, retries)
    assert verdict == Over(JobStatus.CANCELED, code)


def test_given_up_without_a_code_looks_killed() -> None:
    """Its dependents must not take it for a success."""
    earlier = Counter({Cause.ALLOCATION_ENDED: BUDGETS[Cause.ALLOCATION_ENDED]})
    verdict = decide(Cause.ALLOCATION_ENDED, 0, JobStatus.DONE, earlier, 0)
    assert isinstance(verdict, Over)
    assert verdict.return_code == -9
