"""What the configs and the place say about a runner's behaviour."""

from __future__ import annotations

import pytest

from lading.toolkit.runner.policy import policy_of


def test_without_words_a_runner_waits_for_jobs_it_has_and_warns() -> None:
    policy = policy_of({}, None, {})
    assert (policy.on_suspend, policy.memory_limit, policy.signal_grace_seconds) == ("wait", "warn", 30.0)
    assert policy.idle_limit == 60.0


def test_in_slurm_all_is_told_before_its_kill_comes() -> None:
    assert policy_of({}, None, {"SLURM_JOB_ID": "7"}).signal_grace_seconds == 10.0


@pytest.mark.parametrize(
    ("config", "idle_seconds", "limit"),
    [
        ({}, 30.0, 30.0),
        ({}, 0.0, 10.0),
        ({"compute_node_wait_for_new_jobs_seconds": 90}, 30.0, 90.0),
    ],
)
def test_how_long_a_runner_stays_without_work(
    config: dict[str, object], idle_seconds: float, limit: float
) -> None:
    assert policy_of(config, idle_seconds, {}).idle_limit == limit


def test_what_the_workflow_wants_of_a_suspension() -> None:
    assert policy_of({"on_suspend": "requeue"}, None, {}).on_suspend == "requeue"
