"""A launch on a real cluster: requests, and a stand-in for the runner that only waits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lading.schedulers.slurm import SlurmBackend
from lading.schedulers.slurm.programs import Programs
from lading.schedulers.slurm.pyslurm_transport import Pyslurm
from lading.schedulers.slurm.queue import Queue
from lading.schedulers.slurm.transport import Transport
from lading.toolkit.backends import LaunchRequest, Observation, ObservedState
from tests.lib.waiting import until

TRANSPORT = os.environ.get("SLURM_LAB_TRANSPORT", "commands")
"""`commands`; `pyslurm`, or `submits`: that pyslurm submits, too. Set inside of pyslurm_root.sh."""
PYSLURM_PYTHON = Path("/opt/pyslurm/bin/python")
CONFIG = {
    "name": "small",
    "account": "science",
    "nodes": 1,
    "cpus": 1,
    "walltime": "00:05:00",
    "qos": "normal",
    **({"submit": "pyslurm"} if TRANSPORT == "submits" else {}),
}
_WAITS = """{% extends "base.sh.j2" %}
{% block row %}
row=$((${SLURM_ARRAY_TASK_ID:-1} - 1))
{% endblock %}
{% block start %}
env > "${node_files[row]}.environment"
exec sleep 300
{% endblock %}
"""


def make_transport(name: str = TRANSPORT) -> Transport:
    """Return a way to ask Slurm."""
    return Programs() if name == "commands" else Pyslurm(PYSLURM_PYTHON)


def make_backend(transport: str = TRANSPORT, **given: Any) -> SlurmBackend:
    """Return a backend that may ask as often as a test likes."""
    queue = Queue(make_transport(transport), pace_seconds=0.0)
    return SlurmBackend(queue=queue, settle_seconds=0.0, **given)


def waiting_templates(folder: Path) -> Path:
    """Make a site's templates whose job waits in the runner's place."""
    folder.mkdir(exist_ok=True)
    for name in ("single.sh.j2", "array.sh.j2", "per_node.sh.j2"):
        (folder / name).write_text(_WAITS)
    return folder


def make_request(
    folder: Path,
    tag: str,
    count: int = 1,
    *,
    parameters: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    **fields: Any,
) -> LaunchRequest:
    """Make a request; fields that are None are left out of the config."""
    document = {**CONFIG, **(config or {}), **fields}
    return LaunchRequest(
        tag=tag,
        config={name: value for name, value in document.items() if value is not None},
        node_files=[folder / f"{tag}.{index}.json" for index in range(count)],
        output_directory=folder / "output",
        working_directory=folder,
        state_directory=folder / "state",
        parameters=parameters or {},
    )


def until_state(
    backend: SlurmBackend, external_id: str, state: ObservedState, seconds: float = 30.0
) -> Observation:
    """Observe until it is so."""

    def seen() -> Observation | None:
        [observation] = backend.observe([external_id])
        return observation if observation.state is state else None

    found = until(seen, seconds, f"{external_id} is {state}", pause=0.2)
    assert found is not None
    return found
