"""What Slurm's programs print, as 22.05 to 26.05 print it."""

from __future__ import annotations

import pytest

from lading.schedulers.slurm.listing import (
    Job,
    read_config,
    read_node_sizes,
    read_partitions,
    read_sacct,
    read_seconds,
    read_squeue,
    task_in,
)


def test_squeue_lines_become_jobs():
    text = (
        "41|41|N/A|RUNNING|None|9:32|2026-11-27T13:25:28|n1|lading-abc\n"
        "42_3|42|3|PENDING|Priority|10:00|2026-11-27T14:00:00|||odd|name\n"
        "50|42|1|COMPLETED|None|1-02:03:04|2026-11-27T13:25:28|n[1-2]|lading-def\n"
        "51|51|N/A|PENDING|BeginTime|UNLIMITED|N/A||lading-ghi\n"
        "slurm_load_jobs error: something\n"
    )
    running, pending, task, endless = read_squeue(text)
    assert (running.identity, running.state, running.left_seconds, running.reason) == (
        "41",
        "RUNNING",
        572.0,
        "",
    )
    assert (pending.identity, pending.reason, pending.name) == ("42_3", "Priority", "|odd|name")
    assert pending.start == "2026-11-27T14:00:00"
    # A started task has a number of its own; its place in the array is what we know it by.
    assert (task.identity, task.left_seconds) == ("42_1", 93784.0)
    assert (endless.left_seconds, endless.start) == (None, "")


def test_sacct_keeps_the_last_row_of_a_requeued_job():
    text = "7|REQUEUED|0:0|2026-11-27T13:00:00|n1\n7|COMPLETED|0:0|2026-11-27T14:00:00|n2\n8_2|CANCELLED by 0|0:15|x|n1\n"
    requeued, canceled = read_sacct(text)
    assert (requeued.identity, requeued.state, requeued.nodes) == ("7", "COMPLETED", "n2")
    assert (requeued.earlier_states, requeued.previous_state) == (("REQUEUED",), "REQUEUED")
    assert (canceled.earlier_states, canceled.previous_state) == ((), "")
    assert (canceled.identity, canceled.state, canceled.exit_code) == ("8_2", "CANCELLED", "0:15")


def test_sacct_tells_how_every_earlier_copy_ended():
    rows = ["NODE_FAIL", "PREEMPTED", "REQUEUED", "RUNNING"]
    [job] = read_sacct("".join(f"7|{state}|0:0|x|n1\n" for state in rows))
    assert (job.state, job.earlier_states) == ("RUNNING", ("NODE_FAIL", "PREEMPTED", "REQUEUED"))
    assert job.previous_state == "REQUEUED"


def test_sacct_counts_tasks_in_steps():
    found = [job.identity for job in read_sacct("8_[1,4-12:4%2]|CANCELLED by 0|0:0|x|None assigned\n")]
    assert found[1:] == ["8_1", "8_4", "8_8", "8_12"]


def test_sizes_of_nodes():
    text = "16|64000\n8+|32000+\n 4 | 100 \nCPUS|MEMORY\n"
    assert read_node_sizes(text) == [(16, 64000), (8, 32000), (4, 100)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5:00", 300), ("1:02:03", 3723), ("2-00:00:00", 172800), ("1-0", 86400), ("10", 600), ("0:30", 30),
        ("UNLIMITED", None), ("INVALID", None), ("NOT_SET", None), ("", None), ("-1", None),
    ],
)  # fmt: skip
def test_times(text, seconds):
    assert read_seconds(text) == seconds


def test_config_and_partitions():
    facts = read_config(
        "Configuration data\nClusterName             = lab\nMinJobAge               = 300 sec\n"
    )
    assert facts["ClusterName"] == "lab"
    line = (
        "PartitionName=main AllowAccounts=a,b AllowQos=ALL Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 "
        "MaxCPUsPerNode=UNLIMITED State=DRAIN TotalCPUs=32 TotalNodes=2 TRES=cpu=32,mem=125G,node=2\n"
    )
    [partition] = read_partitions(line)
    assert partition.is_default
    assert (partition.is_up, partition.state) == (False, "DRAIN")
    assert (partition.max_seconds, partition.max_nodes, partition.total_nodes) == (86400, None, 2)
    assert (partition.allow_accounts, partition.allow_qos) == (("a", "b"), None)
    assert partition.memory_mebibytes == 128_000


def test_tasks_that_were_canceled_while_they_waited_are_found_in_the_record_they_share():
    told = read_squeue(
        "19|19|N/A|CANCELLED|Resources|INVALID|N/A||lading-x\n19_3|19|3|RUNNING|None|9:59|N/A|n1|lading-x\n"
    )
    looked = {job.identity: job for job in told}
    task = task_in(looked, "19_1")
    assert task is not None
    assert (task.identity, task.state) == ("19_1", "CANCELLED")
    running = task_in(looked, "19_3")
    assert running is not None
    assert running.state == "RUNNING"
    assert task_in(looked, "18_1") is None
    assert task_in(looked, "19") is looked["19"]
    # Of an array that still waits nothing is concluded.
    assert task_in({"7": Job("7", "PENDING")}, "7_1") is None


def test_the_accounting_lists_them_in_brackets():
    rows = (
        "19_2|COMPLETED|0:0|x|n1\n19_[1-3,7%2]|CANCELLED by 0|0:0|x|None assigned\n8_[1-2]|PENDING|0:0|x|\n"
    )
    found = {job.identity: job.state for job in read_sacct(rows)}
    assert {task: found[task] for task in ("19_1", "19_2", "19_3", "19_7")} == {
        "19_1": "CANCELLED", "19_2": "COMPLETED", "19_3": "CANCELLED", "19_7": "CANCELLED",
    }  # fmt: skip
    assert "8_1" not in found
