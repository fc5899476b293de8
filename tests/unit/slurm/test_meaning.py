"""What texts and states of Slurm mean for launches and for the jobs in an allocation."""

from __future__ import annotations

import pytest

from lading.schedulers.slurm.listing import Job
from lading.schedulers.slurm.programs import clean_environment
from lading.schedulers.slurm.refusals import error_of
from lading.schedulers.slurm.sizing import NodeShape, Work, recommend
from lading.schedulers.slurm.states import observation_of, vanished
from lading.toolkit.backends import ObservedState
from lading.toolkit.domain.states import Cause
from lading.toolkit.errors import BadInput, CapacityError, PermanentError, TransientError


@pytest.mark.parametrize(
    ("text", "kind", "begins"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
         TransientError, "sbatch"),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", TransientError, ""),
        ("slurm_load_jobs error: Unexpected message received", TransientError, ""),
        (("sbatch: error: AssocMaxSubmitJobLimit\n"
         "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
         "size and/or time limits)"), CapacityError, "max_allocations: Slurm takes no more jobs"),
        (("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)"), CapacityError, ""),
        (("sbatch: error: AssocMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)"), PermanentError, "walltime:"),
        (("sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid "
         "partition name specified"), PermanentError, "partition:"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
         PermanentError, "account:"),
        ("allocation failure: Invalid qos specification", PermanentError, "qos:"),
        ("sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information", PermanentError, "extra:"),
        ("sbatch: error: Invalid --time specification", PermanentError, "walltime:"),
        ("", PermanentError, "Slurm refuses the request: 'no reason given'"),
    ],
)  # fmt: skip
def test_refusals(text, kind, begins):
    error = error_of("sbatch", text)
    assert type(error) is kind
    assert str(error).startswith(begins)


@pytest.mark.parametrize(
    ("state", "observed", "proof", "cause"),
    [
        ("PENDING", ObservedState.PENDING, False, None),
        ("CONFIGURING", ObservedState.PENDING, False, None),
        ("REQUEUED", ObservedState.PENDING, False, None),
        ("RUNNING", ObservedState.ACTIVE, False, None),
        ("COMPLETING", ObservedState.ACTIVE, False, None),
        ("A_STATE_OF_THE_FUTURE", ObservedState.ACTIVE, False, None),
        ("SUSPENDED", ObservedState.SUSPENDED, False, None),
        ("COMPLETED", ObservedState.ENDED, True, None),
        ("FAILED", ObservedState.ENDED, True, Cause.INFRASTRUCTURE),
        ("TIMEOUT", ObservedState.ENDED, True, Cause.ALLOCATION_ENDED),
        ("CANCELLED", ObservedState.ENDED, True, Cause.ALLOCATION_ENDED),
        ("PREEMPTED", ObservedState.ENDED, True, Cause.PREEMPTED),
        ("NODE_FAIL", ObservedState.ENDED, False, Cause.NODE_LOST),
    ],
)
def test_states(state, observed, proof, cause):
    seen = observation_of("slurm:lab:1", Job("1", state, left_seconds=60.0))
    assert (seen.state, seen.proof_of_death, seen.cause) == (observed, proof, cause)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "TIMEOUT"])
def test_what_ended_each_earlier_copy_is_told_with_every_state(state):
    job = Job("1", state, earlier_states=("PREEMPTED", "REQUEUED", "NODE_FAIL"))
    seen = observation_of("x", job)
    assert seen.earlier_causes == (Cause.PREEMPTED, None, Cause.NODE_LOST)


def test_why_a_job_waits_is_told():
    assert (
        "estimated start 2026"
        in observation_of("x", Job("1", "PENDING", "Priority", start="2026-01-01")).reason
    )
    assert "will not start" in observation_of("x", Job("1", "PENDING", "PartitionTimeLimit")).reason
    assert (
        "back into the queue" in observation_of("x", Job("1", "PENDING", "BeginTime"), was_active=True).reason
    )


@pytest.mark.parametrize(
    ("reason", "cannot_start"),
    [
        ("PartitionTimeLimit", True), ("PartitionNodeLimit", True), ("InvalidAccount", True), ("InvalidQOS", True),
        ("AssocMaxWallDurationPerJobLimit", True), ("QOSMaxCpuPerJobLimit", True), ("AssocMaxGRESPerJob", True),
        ("QOSMaxMemoryPerNode", True), ("QOSMinCpuNotSatisfied", True), ("BadConstraints", True),
        # There is room when others end, a partition comes up, a person lets it go.
        ("Priority", False), ("Resources", False), ("PartitionDown", False), ("AssocGrpCpuLimit", False),
        ("QOSMaxJobsPerUserLimit", False), ("QOSMaxCpuPerUserLimit", False), ("QOSGrpNodeLimit", False),
        ("AssocMaxJobsLimit", False), ("BeginTime", False), ("JobHeldUser", False), ("", False),
    ],
)  # fmt: skip
def test_what_never_starts_is_told_from_what_waits_for_others(reason, cannot_start):
    seen = observation_of("x", Job("1", "PENDING", reason))
    assert seen.cannot_start is cannot_start
    assert ("will not start" in seen.reason) is cannot_start


@pytest.mark.parametrize("has_accounting", [True, False])
def test_vanishing_proves_nothing(has_accounting):
    assert not vanished("x", has_accounting=has_accounting).proof_of_death


def test_an_enclosing_job_and_our_secrets_stay_outside():
    given = {
        "PATH": "/bin", "HOME": "/h", "SLURM_CONF": "c", "SLURM_JOB_ID": "1", "SBATCH_ACCOUNT": "a",
        "SLURMD_NODENAME": "n", "LADING_TOKEN": "t", "PGPASSWORD": "p",
    }  # fmt: skip
    assert clean_environment(given) == {"PATH": "/bin", "HOME": "/h", "SLURM_CONF": "c"}


def test_recommendation_names_the_scarce_resource():
    work = Work(num_jobs=100, num_cpus=400, num_gpus=0, memory_bytes=100 * 2**30, longest_seconds=3600)
    answer = recommend(work, NodeShape(16, 64 * 2**30), walltime_seconds=4 * 3600 - 1, nodes_per_allocation=2)
    assert answer.rounds == 3
    assert (answer.nodes, answer.allocations) == (9, 5)
    assert {bound.resource: bound.nodes for bound in answer.bounds} == {"cpus": 9, "memory": 1}
    assert [bound.reason for bound in answer.bounds] == [
        "400 asked / (16 on a node × 3 rounds)", "100 GiB asked / (64 GiB on a node × 3 rounds)"
    ]  # fmt: skip


def test_recommendation_counts_the_nodes_of_wide_jobs_whole():
    # Ten jobs of two nodes and three rounds; what they use of a node does not matter.
    work = Work(10, 10, 0, 10, 3600, most_nodes=2, whole_nodes=20)
    answer = recommend(work, NodeShape(16, 64 * 2**30), 3 * 3600, 2)
    assert (answer.nodes, answer.allocations) == (7, 4)
    assert answer.bounds[-1].reason == "20 whole nodes asked by jobs of several / 3 rounds"
    single = recommend(Work(1, 1, 0, 1, 3600, most_nodes=4, whole_nodes=4), NodeShape(16, 1), 3 * 3600, 4)
    assert (single.nodes, single.bounds[-1].reason) == (4, "one job needs 4 nodes at once")
    with pytest.raises(BadInput, match="needs 2 nodes at once, an allocation of this config has 1"):
        recommend(work, NodeShape(16, 64 * 2**30), 3 * 3600, 1)


def test_recommendation_leaves_the_end_of_an_allocation_to_the_runner():
    work = Work(num_jobs=100, num_cpus=400, num_gpus=0, memory_bytes=1, longest_seconds=3600)
    shape = NodeShape(16, 64 * 2**30)
    fitting = recommend(work, shape, 4 * 3600 + 120, 1, reserve_seconds=120)
    assert (fitting.rounds, fitting.nodes) == (4, 7)
    tight = recommend(work, shape, 4 * 3600 + 119, 1, reserve_seconds=120)
    assert (tight.rounds, tight.nodes) == (3, 9)
    assert tight.why_rounds == (
        "14519 s of wall time less 120 s for its end (compute_node_expiration_buffer_seconds), "
        "and the longest job may take 3600 s"
    )
    with pytest.raises(BadInput, match="less 120 s for its end .* is too short: a ready job may run 3600 s"):
        recommend(work, shape, 3719, 1, reserve_seconds=120)
    with pytest.raises(BadInput, match="is too short"):
        recommend(Work(1, 1, 0, 1, 0.0), shape, 100, 1, reserve_seconds=100)


def test_recommendation_refuses_what_does_not_fit():
    work = Work(num_jobs=1, num_cpus=1, num_gpus=1, memory_bytes=1, longest_seconds=100)
    with pytest.raises(BadInput, match="walltime"):
        recommend(work, NodeShape(1, 1), 99, 1)
    with pytest.raises(BadInput, match="gpus"):
        recommend(work, NodeShape(1, 1), 100, 1)
    for field, most in (
        ("num_cpus", {"most_cpus": 17}),
        ("num_gpus", {"most_gpus": 1}),
        ("memory", {"most_memory_bytes": 2**31}),
    ):
        with pytest.raises(BadInput, match=f"{field}: a ready job asks for .*no number of nodes"):
            recommend(Work(1, 1, 0, 1, 1.0, **most), NodeShape(16, 2**30), 100, 1)
