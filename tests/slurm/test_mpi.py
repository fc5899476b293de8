"""MPI programs that mpirun starts over the nodes of a job, on a real Slurm."""

from __future__ import annotations

import sys

import pytest

from tests.slurm.host import document
from tests.slurm.test_multinode import lines, script

pytestmark = pytest.mark.slurm

# MPI through ctypes: the libraries come with mpirun, a compiler and headers would not.
_SUM = """
import ctypes, os, pathlib, sys, time
name, other = sys.argv[1:]
mpi = ctypes.CDLL("libmpi.so.40", ctypes.RTLD_GLOBAL)
def predefined(name):
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_byte.in_dll(mpi, name)))
def check(code):
    assert code == 0, code
world, number, addition = map(predefined, ("ompi_mpi_comm_world", "ompi_mpi_int", "ompi_mpi_op_sum"))
check(mpi.MPI_Init(None, None))
rank, size, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
check(mpi.MPI_Comm_rank(world, ctypes.byref(rank)))
check(mpi.MPI_Comm_size(world, ctypes.byref(size)))
# No rank comes through before the other program is at work, too.
pathlib.Path(f"here.{name}").touch()
end = time.monotonic() + 60
while not pathlib.Path(f"here.{other}").exists():
    assert time.monotonic() < end, f"{other} was not started beside this"
    time.sleep(0.05)
check(mpi.MPI_Allreduce(ctypes.byref(rank), ctypes.byref(total), 1, number, addition, world))
said = f"{os.environ['SLURMD_NODENAME']} {size.value} {total.value}"
pathlib.Path(f"said.{name}.{rank.value}").write_text(said)
check(mpi.MPI_Finalize())
"""


def test_mpirun_starts_a_program_on_every_node_of_its_job(host_of_three):
    host = host_of_three
    out = host.folder
    (out / "sum.py").write_text(_SUM)
    run = script(
        out, "run",
        f'exec mpirun --hostfile "$LADING_HOSTFILE" --map-by node -n $1 {sys.executable} {out}/sum.py $2 $3',
    )  # fmt: skip
    environment = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        # These nodes are one machine: through shared memory ranks would meet those of other nodes.
        "OMPI_MCA_btl": "tcp,self",
    }  # fmt: skip
    sizes = {"alone": 1, "pair": 2, "all": 3}
    meets = {"alone": "pair", "pair": "alone", "all": "all"}
    made = document(
        [
            {"name": name, "command": f"{run} {2 * size} {name} {meets[name]}",
             "resource_requirements": name, "env": environment}
            for name, size in sizes.items()
        ],
        cpus=None, mem=None, nodes=3,
    )  # fmt: skip
    made["resource_requirements"] += [
        {"name": name, "num_cpus": 2, "num_nodes": size, "memory": "100m", "runtime": "PT2M"}
        for name, size in sizes.items()
    ]
    key = host.submit(made)
    outcome = host.lading("jobs", "wait", "-w", key)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr

    expected = {
        "alone": ["n1 2 1"] * 2,
        "pair": ["n2 4 6", "n3 4 6"] * 2,
        "all": ["n1 6 15", "n2 6 15", "n3 6 15"] * 2,
    }
    for name, size in sizes.items():
        said = [line for rank in range(2 * size) for line in lines(out / f"said.{name}.{rank}")]
        assert sorted(said) == sorted(expected[name])
    assert host.called()["srun"] == len(sizes), "each mpirun starts its daemons by one srun"
