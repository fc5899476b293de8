"""A launch on a real cluster: requests, and a stand-in for the runner that only waits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lading.schedulers.slurm import SlurmBackend
from lading.schedulers.slurm.queue import Queue
from lading.toolkit.backends import LaunchRequest, Observation, ObservedState
from tests.lib.waiting import until

CONFIG = {
    "name": "small",
    "account": "science",
    "nodes": 1,
    "cpus": 1,
    "walltime": "00:05:00",
    "qos": "normal",
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


def make_backend(**given: Any) -> SlurmBackend:
    """Return a backend that may ask as often as a test likes."""
    return SlurmBackend(queue=Queue(pace_seconds=0.0), settle_seconds=0.0, **given)


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
