"""Planning: enough allocations for the work, never more than allowed or needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain.demand import (
    ConfigView,
    OpenCount,
    Shape,
    Sizing,
    WorkClass,
    at_once,
    lacks,
    per_allocation,
    rounds,
)
from lading.toolkit.domain.planning import plan
from lading.toolkit.domain.waiting import explain, explain_job, state_of

GIB = 2**30
LOCAL = "local_schedulers/x"
SLURM = "slurm_schedulers/y"
NODE = Shape(num_cpus=4, memory_bytes=16 * GIB)


def launches(
    demand: Sequence[WorkClass], configs: Sequence[ConfigView], open_now: Mapping[str, OpenCount]
) -> dict[str, int]:
    """Return what is launched, by config."""
    return {one.config_id: one.launch for one in plan(demand, configs, open_now) if one.launch}


def surplus(
    demand: Sequence[WorkClass], configs: Sequence[ConfigView], open_now: Mapping[str, OpenCount]
) -> dict[str, int]:
    """Return what may be taken back, by config."""
    return {one.config_id: one.surplus for one in plan(demand, configs, open_now) if one.surplus}


def config(identity: str = LOCAL, maximum: int | None = 10, shape: Shape | None = NODE, **more) -> ConfigView:
    return ConfigView(identity, identity.partition("_")[0], shape, maximum, **more)


def test_nothing_ready_launches_nothing() -> None:
    assert launches([], [config(min_allocations=2)], {}) == {}
    assert launches([WorkClass(0, running=7)], [config(min_allocations=2)], {}) == {}


def test_dominating_resource_decides() -> None:
    assert launches([WorkClass(8)], [config()], {}) == {LOCAL: 2}
    assert launches([WorkClass(8, memory_bytes=8 * GIB)], [config()], {}) == {LOCAL: 4}
    cpu_heavy = WorkClass(4, num_cpus=2, memory_bytes=1 * GIB)
    memory_heavy = WorkClass(4, num_cpus=1, memory_bytes=7 * GIB)
    assert launches([cpu_heavy, memory_heavy], [config()], {}) == {LOCAL: 3}


def test_what_does_not_divide_a_node_wastes_its_rest() -> None:
    assert launches([WorkClass(4, num_cpus=3)], [config()], {}) == {LOCAL: 4}


def test_open_allocations_and_running_jobs_count() -> None:
    open_now = {LOCAL: OpenCount(total=2, active=1)}
    assert launches([WorkClass(8)], [config()], open_now) == {}
    assert launches([WorkClass(9)], [config()], open_now) == {LOCAL: 1}
    # What runs occupies the active one; the other waits for four jobs.
    assert launches([WorkClass(4, running=4)], [config()], open_now) == {}
    assert launches([WorkClass(8, running=4)], [config()], open_now) == {LOCAL: 1}
    assert launches(
        [WorkClass(1), WorkClass(0, num_cpus=2, running=2)], [config()], {LOCAL: OpenCount(1, 1)}
    ) == {LOCAL: 1}


def test_maximum_minimum_and_pause() -> None:
    assert launches([WorkClass(800)], [config(maximum=3)], {}) == {LOCAL: 3}
    assert launches([WorkClass(1)], [config(min_allocations=2)], {}) == {LOCAL: 2}
    assert launches([WorkClass(1)], [config(min_allocations=5, maximum=3)], {}) == {LOCAL: 3}
    assert launches([WorkClass(1)], [config(paused="bad account")], {}) == {}
    assert launches([WorkClass(1)], [config(maximum=None)], {}) == {}
    assert launches([WorkClass(9)], [config(maximum=1)], {LOCAL: OpenCount(2)}) == {}


def test_unknown_shape_is_taken_for_one_job() -> None:
    assert launches([WorkClass(3)], [config(shape=None)], {}) == {LOCAL: 3}
    assert launches([WorkClass(300)], [config(shape=None, maximum=5)], {}) == {LOCAL: 5}
    assert launches([WorkClass(300)], [config(shape=None, maximum=1)], {LOCAL: OpenCount(1)}) == {}


def test_work_overflows_into_the_next_config() -> None:
    configs = [config(LOCAL, maximum=1), config(SLURM)]
    assert launches([WorkClass(12)], configs, {}) == {LOCAL: 1, SLURM: 2}
    # What is open anywhere is used before anything is launched.
    assert launches([WorkClass(8)], configs, {SLURM: OpenCount(2)}) == {}


def test_work_of_one_config_goes_nowhere_else() -> None:
    configs = [config(LOCAL), config(SLURM)]
    assert launches([WorkClass(4, scheduler_config_id=SLURM)], configs, {LOCAL: OpenCount(9)}) == {SLURM: 1}
    assert launches([WorkClass(4, scheduler_config_id="slurm_schedulers/gone")], configs, {}) == {}


def test_nodes_started_by_hand_take_work() -> None:
    by_hand = ConfigView("", "", NODE)
    assert launches([WorkClass(4)], [by_hand, config()], {"": OpenCount(1, 1)}) == {}
    assert launches([WorkClass(5)], [by_hand, config()], {"": OpenCount(1, 1)}) == {LOCAL: 1}


def test_jobs_of_several_nodes_take_them_whole() -> None:
    wide = Shape(num_cpus=4, memory_bytes=16 * GIB, num_nodes=4)
    assert at_once(WorkClass(1, num_cpus=1, num_nodes=2), wide) == 2
    assert at_once(WorkClass(1, num_cpus=1, num_nodes=3), wide) == 1
    assert at_once(WorkClass(1, num_cpus=5, num_nodes=2), wide) == 0
    assert at_once(WorkClass(1, num_nodes=5), wide) == 0
    assert at_once(WorkClass(1), wide) == 16
    assert launches([WorkClass(5, num_nodes=2)], [config(shape=wide)], {}) == {LOCAL: 3}
    # Two wide jobs fill one allocation, eight small ones half of another.
    mixed = [WorkClass(2, num_nodes=2), WorkClass(8)]
    assert launches(mixed, [config(shape=wide)], {}) == {LOCAL: 2}


def test_a_config_with_fewer_nodes_gets_none_for_wide_jobs_and_says_why() -> None:
    narrow, work = config(shape=NODE, name="narrow"), WorkClass(3, num_nodes=2)
    assert launches([work], [narrow], {}) == {}
    assert explain_job(work, [narrow], {}) == ["narrow cannot run it: num_nodes 2 asked, 1 offered"]


HOUR = Shape(num_cpus=4, memory_bytes=16 * GIB, time_limit_seconds=3600.0)


def test_stated_run_times_are_counted_by_rounds() -> None:
    hour = config(shape=HOUR, buffer_seconds=120.0)
    assert rounds(WorkClass(1, runtime_seconds=600.0), hour.seconds) == 5
    assert per_allocation(WorkClass(1, runtime_seconds=600.0), hour) == 20
    assert launches([WorkClass(40, runtime_seconds=600.0)], [hour], {}) == {LOCAL: 2}
    assert launches([WorkClass(41, runtime_seconds=600.0)], [hour], {}) == {LOCAL: 3}
    # torc's default says nothing: each has room for itself.
    assert launches([WorkClass(40, runtime_seconds=60.0)], [hour], {}) == {LOCAL: 10}
    assert launches([WorkClass(40)], [hour], {}) == {LOCAL: 10}
    # Where nothing ends an allocation, jobs would wait for each other for ever.
    assert launches([WorkClass(40, runtime_seconds=600.0)], [config()], {}) == {LOCAL: 10}


def test_jobs_longer_than_an_allocation_are_no_demand() -> None:
    hour, work = config(shape=HOUR, buffer_seconds=120.0, name="short"), WorkClass(3, runtime_seconds=3500.0)
    assert launches([work], [hour], {}) == {}
    assert explain([work], [hour], {}) == [
        (
            "3 jobs are ready and fit no config: short: runtime 00:58:20 asked, 00:58:00"
            " (the wall time less 120 s for its end) offered."
        )
    ]
    assert launches([work], [config(shape=HOUR)], {}) == {LOCAL: 1}


def test_an_allocation_near_its_end_has_room_for_what_still_fits() -> None:
    work, hour = WorkClass(20, runtime_seconds=600.0), config(shape=HOUR, buffer_seconds=120.0)
    fresh = {LOCAL: OpenCount(1, 1, seconds_left=(3480.0,))}
    old = {LOCAL: OpenCount(1, 1, seconds_left=(700.0,))}
    over = {LOCAL: OpenCount(1, 1, seconds_left=(500.0,))}
    assert launches([work], [hour], fresh) == {}
    assert launches([work], [hour], old) == {LOCAL: 1}
    assert launches([WorkClass(4, runtime_seconds=600.0)], [hour], old) == {}
    assert launches([WorkClass(4, runtime_seconds=600.0)], [hour], over) == {LOCAL: 1}


def test_nothing_is_launched_before_the_time_of_the_next_try() -> None:
    resting = config(retry_at="2026-01-01T00:00:00.000Z", setback="it ended at once", name="big")
    assert launches([WorkClass(3)], [resting], {}) == {}
    assert explain([WorkClass(3)], [resting], {}) == [
        "3 jobs are ready; big is asked for again at 2026-01-01T00:00:00.000Z, because it ended at once"
    ]
    # Another config need not wait with it.
    assert launches([WorkClass(3)], [resting, config(SLURM)], {}) == {SLURM: 1}


def test_what_waits_for_nothing_is_surplus() -> None:
    waiting = {LOCAL: OpenCount(total=3, active=1, returnable=2)}
    assert surplus([WorkClass(0, running=4)], [config()], waiting) == {LOCAL: 2}
    assert surplus([WorkClass(1, running=4)], [config()], waiting) == {LOCAL: 1}
    assert surplus([WorkClass(5, running=4)], [config()], waiting) == {}
    assert surplus([], [config(min_allocations=2)], waiting) == {LOCAL: 1}
    # A maximum that was lowered takes back as well; what a person asked for stays.
    assert surplus([WorkClass(99)], [config(maximum=2)], waiting) == {LOCAL: 1}
    assert surplus([], [config()], {LOCAL: OpenCount(total=3, returnable=1)}) == {LOCAL: 1}
    # Nobody knows how many are too many while the size is not known.
    assert surplus([], [config(shape=None, sizing=Sizing.UNKNOWN)], waiting) == {}


def test_what_is_being_taken_back_is_neither_room_nor_free_to_launch() -> None:
    leaving = {LOCAL: OpenCount(total=3, active=0, leaving=2)}
    assert launches([WorkClass(12)], [config(maximum=4)], leaving) == {LOCAL: 1}
    assert launches([WorkClass(12)], [config(maximum=9)], leaving) == {LOCAL: 2}


WORK = st.builds(
    WorkClass,
    count=st.integers(0, 300),
    num_cpus=st.integers(1, 6),
    memory_bytes=st.integers(0, 20 * GIB),
    running=st.integers(0, 50),
    scheduler_config_id=st.sampled_from([None, LOCAL, SLURM, "none/7"]),
)
CONFIG = st.builds(
    ConfigView,
    id=st.just(LOCAL),
    kind=st.just("local"),
    shape=st.one_of(st.none(), st.builds(Shape, st.integers(1, 8), st.integers(GIB, 32 * GIB))),
    max_allocations=st.one_of(st.none(), st.integers(0, 12)),
    min_allocations=st.integers(0, 3),
    paused=st.sampled_from(["", "", "quota"]),
)


OPEN = st.builds(
    lambda active, leaving, waiting, returnable: OpenCount(
        active + leaving + waiting, active, leaving, min(waiting, returnable)
    ),
    st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4),
)  # fmt: skip


@given(st.lists(WORK, max_size=5), CONFIG, CONFIG, OPEN, OPEN)
def test_never_more_than_allowed_or_useful(
    demand: list[WorkClass], first: ConfigView, second: ConfigView, one: OpenCount, two: OpenCount
) -> None:
    second = replace(second, id=SLURM, kind="slurm")
    open_now = {LOCAL: one, SLURM: two}
    configs = [first, second]
    ready = sum(work.count for work in demand)
    for planned, used in zip(plan(demand, configs, open_now), configs, strict=True):
        opened = open_now[used.id]
        assert 0 <= planned.surplus <= opened.returnable
        # Never launched and taken back at once.
        assert not (planned.launch and planned.surplus)
        if planned.launch:
            assert used.max_allocations is not None
            assert not used.paused
            assert opened.total + planned.launch <= used.max_allocations
            assert opened.waiting + planned.launch <= max(ready, used.min_allocations)
        if planned.surplus:
            kept = opened.active + opened.waiting - planned.surplus
            least = used.min_allocations
            if used.max_allocations is not None:
                least = min(least, used.max_allocations)
            assert kept >= least
            assert kept >= planned.wanted
    assert isinstance(explain(demand, configs, open_now), list)
    for work in demand:
        assert explain_job(work, configs, open_now)


@given(st.lists(WORK, max_size=5), CONFIG, CONFIG, OPEN, OPEN)
def test_what_was_taken_back_is_not_asked_for_again(
    demand: list[WorkClass], first: ConfigView, second: ConfigView, one: OpenCount, two: OpenCount
) -> None:
    configs = [first, replace(second, id=SLURM, kind="slurm")]
    open_now = {LOCAL: one, SLURM: two}
    planned = {found.config_id: found for found in plan(demand, configs, open_now)}
    after = {
        identity: replace(
            opened,
            total=opened.total - planned[identity].surplus,
            returnable=opened.returnable - planned[identity].surplus,
        )
        for identity, opened in open_now.items()
    }
    for found in plan(demand, configs, after):
        if planned[found.config_id].surplus:
            assert found.launch == 0


@given(WORK, st.builds(Shape, st.integers(1, 8), st.integers(GIB, 32 * GIB)))
def test_enough_to_run_one_class_at_once(work: WorkClass, shape: Shape) -> None:
    free = WorkClass(work.count, work.num_cpus, work.memory_bytes)
    fitting = at_once(free, shape)
    expected = ceil(free.count / fitting) if fitting and free.count else 0
    planned = launches([free], [config(shape=shape, maximum=10_000)], {})
    assert planned.get(LOCAL, 0) == expected


@given(
    st.integers(1, 500),
    st.integers(1, 8),
    st.integers(61, 5000),
    st.integers(60, 90_000),
    st.integers(0, 300),
)
def test_so_many_that_all_jobs_end_before_the_wall_time(
    count: int, cpus: int, runtime: int, walltime: int, buffer: int
) -> None:
    shape = Shape(8, GIB, time_limit_seconds=float(walltime))
    view = config(shape=shape, maximum=10_000, buffer_seconds=float(buffer))
    work = WorkClass(count, num_cpus=cpus, runtime_seconds=float(runtime))
    got = launches([work], [view], {}).get(LOCAL, 0)
    turns = int((walltime - min(buffer, walltime / 4)) // runtime)
    if turns == 0:
        assert got == 0
        assert "runtime" in lacks(work, view)[0]
    else:
        assert got * (8 // cpus) * turns >= count
        assert (got - 1) * (8 // cpus) * turns < count


def test_reasons() -> None:
    work = WorkClass(3)
    assert explain([work], [config(maximum=None)], {}) == [
        (
            "3 jobs are ready and no allocation will come: local_schedulers/x has no max_allocations;"
            " run `lading node run`, or set max_allocations."
        )
    ]
    assert explain([WorkClass(1, num_cpus=64)], [config(), config(SLURM, shape=Shape(2, GIB))], {}) == [
        (
            "1 job is ready and fit no config: local_schedulers/x: num_cpus 64 asked, 4 offered;"
            " slurm_schedulers/y: num_cpus 64 asked, 2 offered."
        )
    ]
    assert (
        "memory 3g asked"
        in explain([WorkClass(1, memory_bytes=3 * GIB)], [config(shape=Shape(2, GIB))], {})[0]
    )
    assert explain([work], [config(paused="the account is invalid")], {}) == [
        "3 jobs are ready and no allocation will come: local_schedulers/x is paused: the account is invalid"
    ]
    assert "no scheduler config" in explain([work], [], {})[0]
    assert "does not exist" in explain([WorkClass(1, scheduler_config_id="a/1")], [config()], {})[0]
    assert explain([work], [config()], {LOCAL: OpenCount(2)}) == [
        "3 jobs are ready, waiting for 2 allocations of local_schedulers/x to start."
    ]
    assert explain([work], [config()], {LOCAL: OpenCount(2, 1)}) == []
    assert explain([work], [config()], {}) == []
    limited = Shape(4, 16 * GIB, time_limit_seconds=60)
    assert (
        "runtime 00:01:01 asked, 00:01:00 offered"
        in explain([WorkClass(1, runtime_seconds=61)], [config(shape=limited)], {})[0]
    )
    assert "max_allocations 0" in explain([work], [config(maximum=0)], {})[0]


def test_nothing_is_launched_while_the_size_of_allocations_is_asked() -> None:
    awaited = config(shape=None, sizing=Sizing.AWAITED)
    assert launches([WorkClass(8)], [awaited], {}) == {}
    assert explain([WorkClass(8)], [awaited], {}) == [
        f"8 jobs are ready; the batch system is asked what an allocation of {LOCAL} offers."
    ]


@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_an_unknown_size_brings_one_allocation_or_the_minimum(
    jobs: int, minimum: int, maximum: int, already: int
) -> None:
    unknown = config(maximum=maximum, shape=None, min_allocations=minimum, sizing=Sizing.UNKNOWN)
    planned = launches([WorkClass(jobs)], [unknown], {LOCAL: OpenCount(already)})
    expected = max(0, min(max(1, minimum), maximum) - already)
    assert planned.get(LOCAL, 0) == expected


def test_equal_reasons_are_told_once() -> None:
    demand = [WorkClass(3), WorkClass(2, num_cpus=2)]
    (reason,) = explain(demand, [config(maximum=None)], {})
    assert reason.startswith("5 jobs are")


def test_a_config_says_what_it_has_and_why_no_more() -> None:
    opened = OpenCount(total=4, active=1, leaving=1, returnable=2, reasons=("waits (Priority)",))
    assert state_of(config(maximum=4), opened) == (
        "1 allocation active; 2 allocations waiting to start: waits (Priority); 1 allocation leaving;"
        " no more than its max_allocations, 4"
    )
    assert state_of(config(paused="bad account"), OpenCount()) == "paused: bad account"
    assert "no max_allocations" in state_of(config(maximum=None), OpenCount())
    assert state_of(config(), OpenCount()) == "an allocation is asked for"
    assert "offers" in state_of(config(sizing=Sizing.AWAITED), OpenCount())
    resting = config(retry_at="12:00", setback="it ended at once")
    assert state_of(resting, OpenCount()) == "the next one is asked for at 12:00, because it ended at once"


def test_a_job_is_told_of_each_config_by_its_name() -> None:
    configs = [
        config(name="small", shape=Shape(2, GIB)),
        config(SLURM, name="big", shape=Shape(64, 64 * GIB), paused="no such account"),
    ]
    assert explain_job(WorkClass(1, num_cpus=16, num_gpus=1), configs[:1], {}) == [
        "small cannot run it: num_cpus 16 asked, 2 offered; num_gpus 1 asked, 0 offered"
    ]
    assert explain_job(WorkClass(1, num_cpus=16), configs, {}) == [
        "small cannot run it: num_cpus 16 asked, 2 offered",
        "big could run it: paused: no such account",
    ]
