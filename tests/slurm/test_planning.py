"""What one allocation of a config offers, by the word of a real cluster."""

from __future__ import annotations

import subprocess

import pytest

from lading.toolkit.domain.demand import Shape
from lading.toolkit.errors import LadingError
from tests.slurm.lab import make_backend

pytestmark = pytest.mark.slurm


def test_what_the_config_leaves_open_is_that_of_the_smallest_node(on_a):
    listed = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%c %m"], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    cpus, memory = min(map(int, listed[::2])), min(map(int, listed[1::2])) * 2**20
    backend = make_backend()
    assert backend.shape({"walltime": "01:00:00", "nodes": 2}) == Shape(
        cpus, memory, num_nodes=2, time_limit_seconds=3600
    )
    stated = {"cpus": 2, "ntasks_per_node": 2, "mem": "1G", "gres": "gpu:a100:2"}
    assert backend.shape(stated) == Shape(4, 2**30, 2)


def test_free_options_leave_the_size_open_and_an_unknown_partition_is_an_error(on_a):
    assert make_backend().shape({"extra": "--cpus-per-task=3"}) is None
    with pytest.raises(LadingError):
        make_backend().shape({"partition": "nosuch"})
