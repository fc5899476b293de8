"""Small private files by which processes find each other: where a server is, what a node may do."""

from __future__ import annotations

from lading.toolkit.wire.extensions import Ended, Message


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
    """One line of `OUTPUT/.lading/spool/NODE.jsonl`: an end that the server may not know yet."""

    ended_at: float
    """On CLOCK_BOOTTIME of the node."""
    ended: Ended
