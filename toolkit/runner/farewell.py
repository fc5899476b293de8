"""The guardian's last call when its runner is dead: what the jobs really did, and that nothing is left.

Standard library only, imported when it is needed, so that the guardian stays small.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lading.toolkit.errors import LadingError
from lading.toolkit.private_files import read_private
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.messages import Session

_TIMEOUT_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    document: dict[str, Any]


class PinnedConnection(http.client.HTTPSConnection):
    """TLS to a server that is known by its certificate's fingerprint, not by an authority."""

    def __init__(self, host: str, port: int | None, fingerprint: str, timeout: float) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(host, port, timeout=timeout, context=context)
        self._fingerprint = bytes.fromhex(fingerprint.replace(":", ""))

    def connect(self) -> None:
        super().connect()
        certificate = self.sock.getpeercert(binary_form=True) or b""
        # Before a single byte of ours, the token above all, is sent.
        if not hmac.compare_digest(hashlib.sha256(certificate).digest(), self._fingerprint):
            self.close()
            raise ssl.SSLError("the server's certificate is not the one whose fingerprint is pinned")


def post(session: Session, request: dict[str, Any]) -> Answer:
    """Send one `sync`. Raises OSError or HTTPException when no answer came; follows no redirect."""
    address = urlsplit(session["url"])
    host = address.hostname or ""
    connection: http.client.HTTPConnection
    if address.scheme != "https":
        connection = http.client.HTTPConnection(host, address.port, timeout=_TIMEOUT_SECONDS)
    elif session["fingerprint"]:
        connection = PinnedConnection(host, address.port, session["fingerprint"], _TIMEOUT_SECONDS)
    else:
        connection = http.client.HTTPSConnection(host, address.port, timeout=_TIMEOUT_SECONDS)
    node = f"workflows/{quote(session['workflow'], safe='')}/compute_nodes/{quote(session['node'], safe='')}"
    try:
        headers = {"Content-Type": "application/json"}
        if session["token"]:
            headers["Authorization"] = f"Bearer {session['token']}"
        body = json.dumps(request).encode()
        connection.request("POST", f"{address.path.rstrip('/')}/{node}/sync", body, headers)
        response = connection.getresponse()
        content = response.read(1 << 24)
    finally:
        connection.close()
    try:
        document = json.loads(content)
    except ValueError:
        document = {}
    return Answer(response.status, document if isinstance(document, dict) else {})


def refresh(session: Session) -> None:
    """Look up where the server is now; a server that was started anew may have another port."""
    if session["server_file"] is None:
        return
    try:
        document = json.loads(read_private(Path(session["server_file"])))
        if document["server_id"] == session["server_id"]:
            session["url"], session["fingerprint"] = document["url"], document.get("fingerprint")
    except (OSError, ValueError, KeyError, TypeError, LadingError):
        return


def say_goodbye(
    session: Session,
    make_request: Callable[[], dict[str, Any]],
    journal: Journal,
    *,
    until: float,
    interrupted: Callable[[], bool],
) -> bool:
    """Send the last `sync` until it is answered; True when the server has it.

    `until` is the end of the lease on CLOCK_BOOTTIME: after it the server counts the jobs as ended anyway.
    """
    pause = 0.1
    while True:
        try:
            answer = post(session, make_request())
        except (OSError, http.client.HTTPException) as error:
            journal.warning(f"The last report could not be sent: {str(error) or type(error).__name__}")
        else:
            if answer.status == http.client.OK:
                return True
            reason = str(answer.document.get("errorMessage", ""))[:500]
            journal.warning(f"The last report was answered with HTTP {answer.status}: {reason}")
            if answer.status in {400, 401, 403, 404, 409, 410} and "errorNum" in answer.document:
                return False
        if interrupted() or time.clock_gettime(time.CLOCK_BOOTTIME) + pause > until:
            return False
        # Jitter, because all nodes of a dead server try again at the same time.
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        refresh(session)
