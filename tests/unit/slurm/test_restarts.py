"""When the accounting is to be asked how earlier copies of a job ended, and when it is believed."""

from __future__ import annotations

from lading.schedulers.slurm.listing import Job
from lading.schedulers.slurm.restarts import Restarts

FIRST, SECOND = "2026-01-01T10:00:00", "2026-01-01T10:05:00"


def waiting(reason: str = "Priority") -> Job:
    return Job("7", "PENDING", reason)


def running(start: str) -> Job:
    return Job("7", "RUNNING", start=start)


def recorded(*states: str) -> Job:
    return Job("7", "RUNNING", earlier_states=states)


def submitted() -> Restarts:
    restarts = Restarts()
    restarts.submitted(["x"])
    return restarts


def test_a_job_that_starts_for_the_first_time_costs_no_question() -> None:
    restarts = submitted()
    assert not restarts.look("x", waiting())
    assert not restarts.look("x", Job("7", "RUNNING"))
    assert not restarts.look("x", running(FIRST))
    assert not restarts.look("x", Job("7", "COMPLETING", start=FIRST))


def test_one_that_ran_and_waits_is_asked_about_until_the_accounting_has_caught_up() -> None:
    restarts = submitted()
    restarts.look("x", running(FIRST))
    assert restarts.look("x", waiting())
    restarts.record("x", recorded())
    assert restarts.look("x", waiting())
    restarts.record("x", recorded("PREEMPTED"))
    assert restarts.earlier("x") == ("PREEMPTED",)
    assert not restarts.look("x", waiting())
    assert not restarts.look("x", running(SECOND))


def test_one_that_came_and_went_between_two_looks_is_noticed_by_its_start() -> None:
    restarts = submitted()
    restarts.look("x", running(FIRST))
    assert restarts.look("x", running(SECOND))
    restarts.record("x", recorded("PREEMPTED", "REQUEUED"))
    assert restarts.earlier("x") == ("PREEMPTED", "REQUEUED")
    assert not restarts.look("x", running(SECOND))


def test_one_that_ran_between_two_looks_is_noticed_by_being_held_back() -> None:
    restarts = submitted()
    assert not restarts.look("x", waiting())
    assert restarts.look("x", waiting("BeginTime"))
    restarts.record("x", recorded("PREEMPTED"))
    assert not restarts.look("x", waiting("BeginTime"))
    assert not restarts.look("x", running(SECOND))
    assert restarts.look("x", waiting("BeginTime")), "that is another time"


def test_one_that_is_over_is_asked_about_once_if_its_copies_are_not_known() -> None:
    restarts = submitted()
    restarts.look("x", waiting())
    assert restarts.look("x", Job("7", "CANCELLED"))
    restarts.record("x", recorded("PREEMPTED"))
    assert restarts.earlier("x") == ("PREEMPTED",)
    assert not restarts.look("x", Job("7", "CANCELLED"))


def test_whoever_did_not_submit_it_asks_once() -> None:
    restarts = Restarts()
    assert restarts.look("x", running(SECOND))
    restarts.record("x", recorded("PREEMPTED"))
    assert restarts.earlier("x") == ("PREEMPTED",)
    assert not restarts.look("x", running(SECOND))


def test_a_change_of_size_is_no_copy() -> None:
    restarts = Restarts()
    restarts.look("x", running(FIRST))
    restarts.record("x", recorded("RESIZING", "PREEMPTED"))
    assert restarts.earlier("x") == ("PREEMPTED",)


def test_what_is_not_watched_any_more_is_forgotten() -> None:
    restarts = submitted()
    restarts.remember_only([])
    assert not restarts.look("x", running(FIRST)), "not watched yet is not forgotten"
    restarts.remember_only([])
    assert restarts.earlier("x") == ()
    assert restarts.look("x", running(FIRST)), "nothing is left of it"
