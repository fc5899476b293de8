"""Real Slurm clusters, one for each configuration, started when the first test wants it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.waiting import until
from tests.slurm.host import Host, serving

SCRIPT = Path(__file__).with_name("cluster.sh")
USER = "lading-guest"
"""An unprivileged account of this machine, made for the tests."""


@dataclass(frozen=True)
class Cluster:
    folder: Path
    address: str
    """Of the host, as the nodes see it."""
    bridge: str

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's programs against this cluster."""
        outcome = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        assert outcome.returncode == 0 or not check, f"{command}: {outcome.stderr}"
        return outcome.stdout

    def on_node(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a node's network."""
        inside = ["nsenter", f"--net=/run/netns/{self.bridge}-{name}", *command]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    def revive(self, name: str) -> None:
        """Bring a node back that was set down."""

        def is_up() -> bool:
            state = self.run("sinfo", "-hN", "-p", "main", "-n", name, "-o", "%T").strip()
            if state.startswith("down"):
                self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
            return state in {"idle", "mixed", "allocated", "completing"}

        until(is_up, 90, f"{name} is back", pause=0.3)

    def queue(self) -> list[str]:
        """List the jobs that wait or run."""
        return self.run("squeue", "-h", "-r", "-o", "%i %T %r %j").splitlines()


@contextmanager
def running_cluster(**choices: str) -> Iterator[Cluster]:
    """Run a cluster for the length of the context; skip, with the reason, where none can be."""
    if os.geteuid() != 0:
        pytest.skip("Slurm: its daemons and networks need root")
    if shutil.which("apt-get") is None:
        pytest.skip("Slurm: only Debian's packages are known here")
    folder = Path(tempfile.mkdtemp(prefix="lading-slurm-", dir="/tmp"))
    environment = os.environ | {f"CLUSTER_{name.upper()}": value for name, value in choices.items()}
    started = subprocess.run(
        ["bash", SCRIPT, "start", folder], env=environment, capture_output=True, text=True, check=False
    )
    try:
        assert started.returncode == 0, f"no cluster: {started.stderr}"
        network = (folder / "run" / "network").read_text().strip()
        yield Cluster(folder, f"{network}.1", (folder / "run" / "bridge").read_text().strip())
    finally:
        subprocess.run(["bash", SCRIPT, "stop", folder], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster_a() -> Iterator[Cluster]:
    """Two nodes of 16 CPUs, accounting, nothing enforced."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster_bare() -> Iterator[Cluster]:
    """The same without accounting, as some sites have it."""
    with running_cluster(accounting="no") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster_of_three() -> Iterator[Cluster]:
    """Three nodes, so that a job of two has only a part of its allocation; with mpirun."""
    with running_cluster(nodes="3", accounting="no", packages="openmpi-bin") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def guest() -> str:
    """Name an unprivileged user of this machine."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
    return USER


@pytest.fixture(scope="session")
def open_python() -> Iterator[Path]:
    """Copy the interpreter to where everybody may start it: the tests' own may lie in a closed home."""
    folder = Path(tempfile.mkdtemp(prefix="lading-python-", dir="/tmp"))
    folder.chmod(0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), folder / "bin" / version)
    library = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("INSTSONAME")
    if library.suffix != ".a":
        (folder / "lib").mkdir()
        shutil.copy2(library, folder / "lib")
    left_out = shutil.ignore_patterns("test", "site-packages", "dist-packages", "__pycache__", "config-*")
    shutil.copytree(sysconfig.get_path("stdlib"), folder / "lib" / version, ignore=left_out, symlinks=True)
    yield folder / "bin" / version
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster_b(guest: str) -> Iterator[Cluster]:
    """Limits are enforced at submission; the guest may have two jobs."""
    with running_cluster(strict="yes", user=guest, max_submit="2") as cluster:
        yield cluster


@pytest.fixture
def on_a(cluster_a: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Let this process talk to cluster A; leave no job behind."""
    yield from _entered(cluster_a, monkeypatch)


@pytest.fixture(params=["cluster_a", "cluster_bare"])
def on_any(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The same, with accounting and without."""
    yield from _entered(request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture
def on_three(cluster_of_three: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Let this process talk to the cluster of three nodes; leave no job behind."""
    yield from _entered(cluster_of_three, monkeypatch)


@pytest.fixture
def on_b(cluster_b: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Let this process talk to cluster B; leave no job behind."""
    yield from _entered(cluster_b, monkeypatch)


def _entered(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    ids = [line.split()[0] for line in cluster.queue()]
    if ids:
        cluster.run("scancel", "--quiet", *ids)
        # Slurm lists what completes; the next test counts what is listed.
        until(lambda: not cluster.queue(), 90, f"Slurm has ended {ids}", pause=0.1)


@pytest.fixture
def host(on_a: Cluster, tmp_path: Path) -> Iterator[Host]:
    """Serve on cluster A."""
    with serving(on_a, tmp_path) as made:
        yield made


@pytest.fixture
def host_of_three(on_three: Cluster, tmp_path: Path) -> Iterator[Host]:
    """Serve on the cluster of three nodes; the third may die of it."""
    with serving(on_three, tmp_path) as made:
        yield made
        on_three.revive("n3")
