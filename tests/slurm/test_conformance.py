"""The Slurm backend keeps what every backend promises, with accounting and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.schedulers.slurm import SlurmBackend
from lading.toolkit.backends import LaunchRequest
from tests.schedulers.conformance import Conformance
from tests.slurm.conftest import Cluster
from tests.slurm.lab import make_backend, make_request, waiting_templates

pytestmark = pytest.mark.slurm


class SlurmLab:
    unknown_id = "slurm:lab:999999"

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder

    def backend(self) -> SlurmBackend:
        return make_backend()

    def request(self, tag: str, count: int = 1) -> LaunchRequest:
        return make_request(self.folder, tag, count)

    def count(self) -> int:
        return len(self.cluster.queue())


@pytest.fixture
def lab(on_any: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmLab:
    monkeypatch.setenv("LADING_SBATCH_TEMPLATES", str(waiting_templates(tmp_path / "templates")))
    return SlurmLab(on_any, tmp_path)


class TestSlurm(Conformance):
    pass
