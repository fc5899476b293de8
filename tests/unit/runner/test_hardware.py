from __future__ import annotations

from pathlib import Path

import pytest

from lading.toolkit.domain.buffers import RESERVED_BYTES
from lading.toolkit.runner.hardware import (
    Machine,
    control_group_limits,
    node_of,
    seconds_left,
)

GIB = 1 << 30
MIB = 1 << 20


def machine(**changes: object) -> Machine:
    fields = {"num_cpus_present": 16, "num_cpus_allowed": 16, "memory_bytes": 64 * GIB, **changes}
    return Machine(**fields)  # type: ignore[arg-type]


def test_a_plain_machine_keeps_something_for_us() -> None:
    node = node_of(machine(), {})
    assert (node.num_cpus, node.memory_bytes, node.gpus) == (16, 64 * GIB - RESERVED_BYTES, ())


@pytest.mark.parametrize(
    ("allowed", "quota", "expected"), [(4, None, 4), (16, 2.5, 2), (16, 0.5, 1), (1, 8.0, 1)]
)
def test_mask_and_quota_bound_the_cpus(allowed: int, quota: float | None, expected: int) -> None:
    assert node_of(machine(num_cpus_allowed=allowed, cpu_quota=quota), {}).num_cpus == expected


@pytest.mark.parametrize(("allowed", "expected"), [(16, 8), (6, 6), (12, 8)])
def test_slurm_cpus_are_lowered_only_by_a_mask_that_binds(allowed: int, expected: int) -> None:
    environment = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8"}
    assert node_of(machine(num_cpus_allowed=allowed), environment).num_cpus == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "4096"}, 4096 * MIB),
        ({"SLURM_MEM_PER_CPU": "1000"}, 8000 * MIB),
        ({"SLURM_MEM_PER_NODE": "0"}, 10 * GIB),
        ({}, 10 * GIB),
    ],
)
def test_slurm_memory(variables: dict[str, str], expected: int) -> None:
    environment = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8", **variables}
    node = node_of(machine(memory_limit_bytes=10 * GIB), environment)
    assert node.memory_bytes == expected - RESERVED_BYTES


@pytest.mark.parametrize(
    ("environment", "expected", "variable"),
    [
        ({}, ("0", "1"), "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "3, GPU-5f"}, ("3", "GPU-5f"), "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": ""}, (), "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, (), "CUDA_VISIBLE_DEVICES"),
        ({"ROCR_VISIBLE_DEVICES": "2"}, ("2",), "ROCR_VISIBLE_DEVICES"),
    ],
)
def test_gpus_are_the_entries_as_given(
    environment: dict[str, str], expected: tuple[str, ...], variable: str
) -> None:
    node = node_of(machine(gpus=("0", "1")), environment)
    assert (node.gpus, node.gpu_variable) == (expected, variable)


def test_limits_of_control_groups_version_2_count_every_ancestor(tmp_path: Path) -> None:
    inner = tmp_path / "root" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text("8000\n")
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    (inner.parent / "memory.max").write_text("5000\n")
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    assert control_group_limits(tmp_path / "root", membership) == (1.5, 5000)


def test_limits_of_control_groups_version_1(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder, name, value in (
        ("cpu,cpuacct/x", "cpu.cfs_quota_us", "200000"),
        ("cpu,cpuacct/x", "cpu.cfs_period_us", "100000"),
        ("memory", "memory.limit_in_bytes", "9223372036854771712"),
        ("memory/x", "memory.limit_in_bytes", "7000"),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_text(value)
    membership = tmp_path / "cgroup"
    membership.write_text("4:cpu,cpuacct:/x\n3:memory:/x\n2:freezer:/\n")
    assert control_group_limits(root, membership) == (2.0, 7000)


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert control_group_limits(tmp_path, tmp_path / "absent") == (None, None)


@pytest.mark.parametrize(
    ("end", "expected"), [("1000", 380.0), ("540", 30.0), ("490", 0.0), ("", None), ("UNLIMITED", None)]
)
def test_the_time_that_an_allocation_leaves(end: str, expected: float | None) -> None:
    assert seconds_left({"SLURM_JOB_END_TIME": end}, now=500.0, buffer=120.0) == expected
