"""Planning: enough allocations for the work, never more than allowed or needed."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain.demand import (
    ConfigView,
    LaunchPlan,
    OpenCount,
    Shape,
    Sizing,
    WorkClass,
    explain,
    per_allocation,
    plan,
)

GIB = 2**30
LOCAL = "local_schedulers/x"
SLURM = "slurm_schedulers/y"
NODE = Shape(num_cpus=4, memory_bytes=16 * GIB)


def config(identity: str = LOCAL, maximum: int | None = 10, shape: Shape | None = NODE, **more) -> ConfigView:
    return ConfigView(identity, identity.partition("_")[0], shape, maximum, **more)


def test_nothing_ready_launches_nothing() -> None:
    assert plan([], [config(min_allocations=2)], {}) == []
    assert plan([WorkClass(0, running=7)], [config(min_allocations=2)], {}) == []


def test_dominating_resource_decides() -> None:
    assert plan([WorkClass(8)], [config()], {}) == [LaunchPlan(LOCAL, 2)]
    assert plan([WorkClass(8, memory_bytes=8 * GIB)], [config()], {}) == [LaunchPlan(LOCAL, 4)]
    cpu_heavy = WorkClass(4, num_cpus=2, memory_bytes=1 * GIB)
    memory_heavy = WorkClass(4, num_cpus=1, memory_bytes=7 * GIB)
    assert plan([cpu_heavy, memory_heavy], [config()], {}) == [LaunchPlan(LOCAL, 3)]


def test_what_does_not_divide_a_node_wastes_its_rest() -> None:
    assert plan([WorkClass(4, num_cpus=3)], [config()], {}) == [LaunchPlan(LOCAL, 4)]


def test_open_allocations_and_running_jobs_count() -> None:
    open_now = {LOCAL: OpenCount(total=2, active=1)}
    assert plan([WorkClass(8)], [config()], open_now) == []
    assert plan([WorkClass(9)], [config()], open_now) == [LaunchPlan(LOCAL, 1)]
    assert plan([WorkClass(8, running=8)], [config()], open_now) == [LaunchPlan(LOCAL, 2)]


def test_maximum_minimum_and_pause() -> None:
    assert plan([WorkClass(800)], [config(maximum=3)], {}) == [LaunchPlan(LOCAL, 3)]
    assert plan([WorkClass(1)], [config(min_allocations=2)], {}) == [LaunchPlan(LOCAL, 2)]
    assert plan([WorkClass(1)], [config(min_allocations=5, maximum=3)], {}) == [LaunchPlan(LOCAL, 3)]
    assert plan([WorkClass(1)], [config(paused="bad account")], {}) == []
    assert plan([WorkClass(1)], [config(maximum=None)], {}) == []
    assert plan([WorkClass(9)], [config(maximum=1)], {LOCAL: OpenCount(2)}) == []


def test_unknown_shape_is_taken_for_one_job() -> None:
    assert plan([WorkClass(3)], [config(shape=None)], {}) == [LaunchPlan(LOCAL, 3)]
    assert plan([WorkClass(300)], [config(shape=None, maximum=5)], {}) == [LaunchPlan(LOCAL, 5)]
    assert plan([WorkClass(300)], [config(shape=None, maximum=1)], {LOCAL: OpenCount(1)}) == []


def test_work_overflows_into_the_next_config() -> None:
    configs = [config(LOCAL, maximum=1), config(SLURM)]
    assert plan([WorkClass(12)], configs, {}) == [LaunchPlan(LOCAL, 1), LaunchPlan(SLURM, 2)]
    # What is open anywhere is used before anything is launched.
    assert plan([WorkClass(8)], configs, {SLURM: OpenCount(2)}) == []


def test_work_of_one_config_goes_nowhere_else() -> None:
    configs = [config(LOCAL), config(SLURM)]
    assert plan([WorkClass(4, scheduler_config_id=SLURM)], configs, {LOCAL: OpenCount(9)}) == [
        LaunchPlan(SLURM, 1)
    ]
    assert plan([WorkClass(4, scheduler_config_id="slurm_schedulers/gone")], configs, {}) == []


def test_nodes_started_by_hand_take_work() -> None:
    by_hand = ConfigView("", "", NODE)
    assert plan([WorkClass(4)], [by_hand, config()], {"": OpenCount(1, 1)}) == []
    assert plan([WorkClass(5)], [by_hand, config()], {"": OpenCount(1, 1)}) == [LaunchPlan(LOCAL, 1)]


def test_several_nodes_and_time() -> None:
    wide = Shape(num_cpus=4, memory_bytes=16 * GIB, num_nodes=4, time_limit_seconds=3600)
    assert per_allocation(WorkClass(1, num_cpus=4, num_nodes=2), wide) == 2
    assert per_allocation(WorkClass(1, num_cpus=1), wide) == 16
    assert per_allocation(WorkClass(1, num_nodes=5), wide) == 0
    assert per_allocation(WorkClass(1, runtime_seconds=3601), wide) == 0
    assert per_allocation(WorkClass(1, num_gpus=1), wide) == 0
    assert plan([WorkClass(5, num_cpus=4, num_nodes=2)], [config(shape=wide)], {}) == [LaunchPlan(LOCAL, 3)]


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


@given(st.lists(WORK, max_size=5), CONFIG, CONFIG, st.integers(0, 5), st.integers(0, 5))
def test_never_more_than_allowed_or_useful(
    demand: list[WorkClass], first: ConfigView, second: ConfigView, one: int, two: int
) -> None:
    second = ConfigView(
        SLURM, "slurm", second.shape, second.max_allocations, second.min_allocations, second.paused
    )
    open_now = {LOCAL: OpenCount(one), SLURM: OpenCount(two)}
    plans = plan(demand, [first, second], open_now)
    ready = sum(work.count for work in demand)
    for launch in plans:
        used = first if launch.config_id == LOCAL else second
        assert used.max_allocations is not None
        assert not used.paused
        assert launch.count > 0
        total = launch.count + open_now[used.id].total
        assert total <= used.max_allocations
        jobs = ready + sum(work.running for work in demand)
        assert total <= max(jobs, used.min_allocations)
    assert len({launch.config_id for launch in plans}) == len(plans)
    assert isinstance(explain(demand, [first, second], open_now), list)


@given(WORK, st.builds(Shape, st.integers(1, 8), st.integers(GIB, 32 * GIB)))
def test_enough_to_run_one_class_at_once(work: WorkClass, shape: Shape) -> None:
    free = WorkClass(work.count, work.num_cpus, work.memory_bytes, running=work.running)
    fitting = per_allocation(free, shape)
    plans = plan([free], [config(shape=shape, maximum=10_000)], {})
    expected = ceil((free.count + free.running) / fitting) if fitting and free.count else 0
    assert sum(launch.count for launch in plans) == expected


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
            "1 job is ready and too large: each asks for 64 CPUs, the largest config (local_schedulers/x)"
            " offers 4."
        )
    ]
    assert (
        "3g of memory" in explain([WorkClass(1, memory_bytes=3 * GIB)], [config(shape=Shape(2, GIB))], {})[0]
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
    assert "lasts P0DT0H1M0S" in explain([WorkClass(1, runtime_seconds=61)], [config(shape=limited)], {})[0]
    assert "max_allocations 0" in explain([work], [config(maximum=0)], {})[0]


def test_nothing_is_launched_while_the_size_of_allocations_is_asked() -> None:
    awaited = config(shape=None, sizing=Sizing.AWAITED)
    assert plan([WorkClass(8)], [awaited], {}) == []
    assert explain([WorkClass(8)], [awaited], {}) == [
        f"8 jobs are ready; the batch system is asked what an allocation of {LOCAL} offers."
    ]


@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_an_unknown_size_brings_one_allocation_or_the_minimum(
    jobs: int, minimum: int, maximum: int, already: int
) -> None:
    unknown = config(maximum=maximum, shape=None, min_allocations=minimum, sizing=Sizing.UNKNOWN)
    plans = plan([WorkClass(jobs)], [unknown], {LOCAL: OpenCount(already)})
    expected = max(0, min(max(1, minimum), maximum) - already)
    assert sum(launch.count for launch in plans) == expected


def test_equal_reasons_are_told_once() -> None:
    demand = [WorkClass(3), WorkClass(2, num_cpus=2)]
    (reason,) = explain(demand, [config(maximum=None)], {})
    assert reason.startswith("5 jobs are")
