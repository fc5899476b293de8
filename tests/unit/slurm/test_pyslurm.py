"""What pyslurm is told of a script, and what its words and numbers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.schedulers.slurm.description import description_of
from lading.schedulers.slurm.pyslurm_child import spread
from lading.schedulers.slurm.pyslurm_process import PyslurmUnusable, check_configuration
from lading.schedulers.slurm.refusals import error_of_number, is_ambiguous
from lading.schedulers.slurm.script import Script, scripts_of
from lading.toolkit.backends import LaunchRequest
from lading.toolkit.errors import CapacityError, PermanentError, TransientError


def script_of(config, count=1, templates=None) -> Script:
    request = LaunchRequest(
        tag="lading-x",
        config=config,
        node_files=[Path(f"/shared/{index}.json") for index in range(count)],
        output_directory=Path("/shared/out%1"),
        working_directory=Path("/shared"),
        state_directory=Path("/shared/state"),
    )
    [script] = scripts_of(request, templates)
    return script


def test_each_field_of_a_config_reaches_pyslurm():
    config = {
        "account": "science", "partition": "a,b", "qos": "normal", "nodes": 2, "ntasks_per_node": 3, "cpus": 4,
        "mem": "2G", "gres": "gpu:a100:2,shard", "gpus": 1, "tmp": "100", "walltime": "1-00:00:30",
        "constraint": "x&y", "exclude": "n[1-2],n5", "reservation": "r", "exclusive": True,
    }  # fmt: skip
    script = script_of(config, 3)
    fields = description_of(script, config, {"PATH": "/bin"})
    assert fields == {
        "script": script.text, "environment": {"PATH": "/bin"}, "name": "lading-x", "account": "science",
        "partitions": "a,b", "qos": "normal", "nodes": 2, "ntasks_per_node": 3, "ntasks": 6, "cpus_per_task": 4,
        "memory_per_node": 2048, "gres_per_node": {"gpu:a100": 2, "shard": 1, "gpu": 1},
        "temporary_disk_per_node": 100, "time_limit": 1441, "constraints": "x&y", "excluded_nodes": "n[1-2],n5",
        "reservations": "r", "resource_sharing": "no", "array": "1-3",
        "standard_output": "/shared/out%%1/slurm_%A_%a.out", "log_files_open_mode": "append",
        "is_requeueable": True, "working_directory": "/shared",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "begins"),
    [
        ({"cpus": 1, "extra": "--nice=1"}, "extra: '--nice=1'"),
        ({}, "mem: whole nodes need it"),
        ({"cpus": 1, "mem": "lots"}, "mem: 'lots'"),
        ({"cpus": 1, "gres": "gpu:a:b:1"}, "gres: 'gpu:a:b:1'"),
        ({"cpus": 1, "gres": "gpu:2(S:0)"}, "gres: 'gpu:2(S:0)'"),
    ],
)
def test_what_pyslurm_cannot_carry_is_refused_by_field(config, begins):
    with pytest.raises(PermanentError) as caught:
        description_of(script_of(config), config, {})
    assert str(caught.value).startswith(begins)


def test_a_sites_own_options_are_refused_and_not_lost(tmp_path):
    text = '#!/bin/bash\n#SBATCH --licenses=x\n{% extends "base.sh.j2" %}\n'
    (tmp_path / "single.sh.j2").write_text(text)
    config = {"cpus": 1}
    # What stands before `extends` is printed first.
    with pytest.raises(PermanentError, match=r"sbatch_templates: .*--licenses=x"):
        description_of(script_of(config, templates=tmp_path), config, {})


@pytest.mark.parametrize(
    ("number", "text", "kind"),
    [
        (1800, "Unable to contact slurm controller (connect failure)", TransientError),
        (5004, "Socket timed out on send/recv operation", TransientError),
        (5005, "words that nobody knows", TransientError),
        (7000, "Unable to connect to database", TransientError),
        (2050, "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", CapacityError),
        (2000, "Invalid partition name specified", PermanentError),
        (2045, "Invalid account or account/partition combination specified", PermanentError),
        (None, "AttributeError: no such field", PermanentError),
    ],
)  # fmt: skip
def test_numbers_mean_what_the_words_of_programs_mean(number, text, kind):
    error = error_of_number(number, text)
    assert type(error) is kind
    assert is_ambiguous(error) is (kind is TransientError)


def test_lists_of_tasks():
    assert list(spread("1-3,7,10-20:5")) == [1, 2, 3, 7, 10, 15, 20]
    assert list(spread("0x34")) == [2, 4, 5]
    assert list(spread("0")) == [0]
    assert list(spread("")) == list(spread(None)) == []


def test_without_a_configuration_no_process_is_started(tmp_path):
    with pytest.raises(PyslurmUnusable, match="SLURM_CONF"):
        check_configuration({"SLURM_CONF": str(tmp_path / "none")})
    (tmp_path / "slurm.conf").touch()
    check_configuration({"SLURM_CONF": str(tmp_path / "slurm.conf")})
