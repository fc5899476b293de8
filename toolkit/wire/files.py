"""Small private files by which processes find each other: where a server is, what a node may do."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from lading.toolkit.wire.extensions import Ended, Message

SPOOL_FOLDER: Final = ".lading/spool"
"""Below the output folder."""


class ServerFile(Message):
    """`server.json`: beside the database or in a workflow's output folder. 0600, replaced atomically.

    Runners read it again when a connection fails: a server that was started anew may have another port.
    """

    url: str
    server_id: str
    """Of the database: random, made once, so that a token is never sent to another server."""
    pid: int
    hostname: str
    boot_id: str
    database: str
    fingerprint: str | None = None
    """SHA-256 of the certificate in hexadecimal; None for plain HTTP."""
    token_file: str | None = None
    """0600 file with the owner's token; None with `--auth none`."""
    chain: str | None = None
    """The `ServerChain` of a server that moves from job to job: between two of them nobody answers."""


class ServerChain(Message):
    """`chain.json` beside the database: a server that lives on in jobs of Slurm, each of which asks for the next.

    It is written once and holds no secret. What changes lies beside it, each in a file of its own, so that
    nobody overwrites what somebody else has just said: `stopped`, why the chain ends, and `failures`.
    """

    name: str
    """Of all its jobs; one database has one name."""
    config: dict[str, Any]
    """The Slurm config that says how its jobs are asked for."""
    options: dict[str, Any]
    """Of the server."""
    server_file: str
    working_directory: str
    log: str
    no_submitter: bool = False
    templates: str | None = None
    """The site's own templates of batch scripts, for the submitter that comes with the server."""


class NodeFile(Message):
    """One per allocation row, 0600: opens `register` of that row and nothing else."""

    url: str
    server_id: str
    token: str
    """Empty with `--auth none`."""
    workflow: str
    allocation: str | None
    tag: str
    output_directory: str
    working_directory: str
    fingerprint: str | None = None
    server_file: str | None = None


class SpoolRecord(Message):
    """One line of a spool: an end that the server may not know yet."""

    ended_at: float
    """On CLOCK_BOOTTIME of the node."""
    ended: Ended


def spool_name(tag: str, allocation: str | None, compute_node: str, boot: str) -> str:
    """Name a node's spool so that its allocation's submitter finds it when nobody of the node is left."""
    parts = [compute_node, boot] if allocation is None else [tag, allocation, compute_node, boot]
    return ".".join(quote(part, safe="") for part in parts) + ".jsonl"


def spool_pattern(tag: str, allocation: str) -> str:
    """Return the glob pattern of the spools of all nodes that an allocation had."""
    return f"{quote(tag, safe='')}.{quote(allocation, safe='')}.*.jsonl"


def boot_of_spool(name: str) -> str:
    """Return the boot on whose clock the records of a spool are."""
    return name.split(".")[-2] if name.count(".") >= 2 else ""
