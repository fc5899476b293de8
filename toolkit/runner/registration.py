"""Make this node known to the server, however often it takes."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from lading.toolkit.errors import Unavailable
from lading.toolkit.private_files import boot_id
from lading.toolkit.runner.connection import Connection
from lading.toolkit.runner.hardware import Node
from lading.toolkit.runner.hosts import hosts_of
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.options import Options
from lading.toolkit.wire.extensions import NodeResources, RegisterRequest, RegisterResponse
from lading.toolkit.wire.files import NodeFile

_PATIENCE_SECONDS = 1200.0
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Registration:
    response: RegisterResponse
    session_token: str
    sent_at: float
    """CLOCK_BOOTTIME: the first lease counts from here."""


def request_of(node_file: NodeFile, node: Node, options: Options) -> RegisterRequest:
    """Return what this node says of itself, with a fresh identity and secret."""
    in_slurm = "SLURM_JOB_ID" in os.environ
    scheduler = _slurm_place() if in_slurm else {"scheduler_type": "local", "hostname": socket.gethostname()}
    return RegisterRequest(
        registration_id=secrets.token_hex(16),
        session_token=secrets.token_urlsafe(32),
        # Several nodes of a test cluster share one machine, and with it its name.
        hostname=(os.environ.get("SLURMD_NODENAME") if in_slurm else None) or socket.gethostname(),
        pid=os.getppid(),
        boot_id=boot_id(),
        resources=NodeResources(
            num_cpus=node.num_cpus,
            memory_bytes=node.memory_bytes,
            num_gpus=len(node.gpus),
            num_nodes=max(1, len(hosts_of(os.environ))),
            time_limit_seconds=options.time_limit_seconds,
        ),
        allocation=node_file.allocation,
        node_index=_variable("SLURM_NODEID") if in_slurm else 0,
        restart_count=_variable("SLURM_RESTART_COUNT") if in_slurm else 0,
        scheduler=scheduler,
    )


async def register(
    connection: Connection, node_file: NodeFile, request: RegisterRequest, journal: Journal
) -> Registration:
    """Register; the same request is repeated until it is answered, so that a lost answer costs nothing.

    Raises Fenced or BadInput when the server refuses, Unavailable when it is not reached for long.
    """
    path = f"/workflows/{quote(node_file.workflow, safe='')}/compute_nodes/register"
    body = msgspec.json.encode(request)
    give_up_at = _boottime() + _PATIENCE_SECONDS
    pause = 0.1
    while True:
        sent_at = _boottime()
        try:
            content = await connection.post(path, body, token=node_file.token)
            response = msgspec.json.decode(content, type=RegisterResponse)
        except msgspec.DecodeError as error:
            failure = Unavailable(f"the answer to the registration is not understood: {error}")
        except Unavailable as error:
            failure = error
        else:
            if response.server_id == node_file.server_id or not node_file.server_id:
                return Registration(response, request.session_token, sent_at)
            failure = Unavailable(f"{connection.url} serves another database than this node's file names")
        if _boottime() > give_up_at:
            raise failure
        journal.warning(f"Not registered yet: {failure}")
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _slurm_place() -> dict[str, Any]:
    """Return which copy of which job this is: a job that is started again keeps its number."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    place: dict[str, Any] = {
        "scheduler_type": "slurm",
        "cluster": os.environ.get("SLURM_CLUSTER_NAME", ""),
        "slurm_job_id": array or os.environ["SLURM_JOB_ID"],
        "node_names": os.environ.get("SLURM_JOB_NODELIST", ""),
        "restart_count": _variable("SLURM_RESTART_COUNT"),
        "node_index": _variable("SLURM_NODEID"),
    }
    if array:
        place["array_task_id"] = _variable("SLURM_ARRAY_TASK_ID")
    return place


def _variable(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
