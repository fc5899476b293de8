"""Which server a client talks to, and what it may say to it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lading.toolkit.errors import BadInput
from lading.toolkit.private_files import read_private
from lading.toolkit.wire.files import ServerFile

# A token travels in a header: one line of visible ASCII.
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Target:
    """A server with the one token that may be sent to it."""

    url: str
    token: str | None = field(default=None, repr=False)
    fingerprint: str | None = None
    """SHA-256 of the certificate in hexadecimal, pinned; None: the usual check, or plain HTTP."""
    server_id: str | None = None
    server_file: Path | None = None
    """Read again when a connection fails: a server that was started anew may have another port."""
    found_by: str = "argument"
    chain: Path | None = None
    """`chain.json` of a server that moves from one Slurm job to the next."""

    @classmethod
    def from_server_file(cls, path: Path) -> Target:
        """Read `server.json` and the token file that it names."""
        record = read_server_file(path)
        token = read_token_file(Path(record.token_file)) if record.token_file else None
        chain = Path(record.chain) if record.chain else None
        return cls(record.url, token, record.fingerprint, record.server_id, path, str(path), chain)

    def reread(self) -> Target | None:
        """Return the target under its new address, or None when nothing is newer or it is another server."""
        if self.server_file is None:
            return None
        try:
            fresh = Target.from_server_file(self.server_file)
        except (BadInput, OSError):
            return None
        # The file may have been replaced by another database's server: our token is not for that one. Of a
        # server whose first job still waited nothing was known, and we have no token.
        if (self.server_id and fresh.server_id != self.server_id) or fresh == self:
            return None
        return fresh


def read_server_file(path: Path) -> ServerFile:
    """Read one `server.json`; refuse one that others could have written."""
    try:
        return msgspec.json.decode(read_private(path), type=ServerFile)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path} is not a server file: {error}") from error


def read_token_file(path: Path) -> str:
    """Read a bearer token from a 0600 file."""
    try:
        content = read_private(path)
    except OSError as error:
        raise BadInput(f"The token file {path} cannot be read: {error.strerror}.") from error
    return checked_token(content.decode("ascii", errors="replace").strip(), f"The token file {path}")


def checked_token(token: str, source: str) -> str:
    """Return a token that can travel in a header; the text of a refusal never shows it."""
    if _TOKEN.fullmatch(token) is None:
        raise BadInput(
            f"{source} does not hold a token: accepted is one line of ASCII characters without spaces."
        )
    return token


def is_loopback(host: str) -> bool:
    """Tell an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
