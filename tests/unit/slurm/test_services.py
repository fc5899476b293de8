"""The script of a service's job: a chain of equal jobs, small unless the config says else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lading.schedulers.slurm.services import service_script
from lading.toolkit.backends import Service
from lading.toolkit.errors import PermanentError


def script(**config: Any) -> list[str]:
    service = Service(
        name="lading-server-1",
        config={"name": "small", "account": "science", **config},
        command=["python", "-m", "it's $(here)"],
        working_directory=Path("/shared/a b"),
        log=Path("/shared/50%/log"),
    )
    return service_script(service).splitlines()


def test_it_waits_for_the_one_before_and_gets_notice() -> None:
    lines = script()
    for option in (
        "--dependency=singleton", "--no-requeue", "--signal=B:TERM@60", "--open-mode=append",
        "--output=/shared/50%%/log", "--nodes=1", "--cpus-per-task=1", "--mem=2G", '"--chdir=/shared/a b"',
    ):  # fmt: skip
        assert f"#SBATCH {option}" in lines
    assert lines[-1] == """exec python -m 'it'"'"'s $(here)'"""


def test_a_size_of_its_own_is_asked_for() -> None:
    lines = script(cpus=4, mem="8G", set_up=["module load gcc"])
    assert "#SBATCH --cpus-per-task=4" in lines
    assert "#SBATCH --mem=8G" in lines
    assert not {"#SBATCH --cpus-per-task=1", "#SBATCH --mem=2G"} & set(lines)
    assert "module load gcc" in lines


def test_extra_does_not_take_the_chain_apart() -> None:
    lines = script(extra="--dependency=after:1 --requeue")
    assert lines.index("#SBATCH --dependency=singleton") > lines.index("#SBATCH --dependency=after:1")
    assert lines.index("#SBATCH --no-requeue") > lines.index("#SBATCH --requeue")


@pytest.mark.parametrize(
    ("field", "value"), [("nodes", 2), ("set_up", ["true\nfalse"]), ("extra", "--output=x")]
)
def test_what_cannot_be_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(PermanentError, match=f"^{field}: "):
        script(**{field: value})
