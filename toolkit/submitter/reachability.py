"""Whether what a backend starts can reach the server at all, told before anything is asked for."""

from __future__ import annotations

from urllib.parse import urlsplit

from lading.toolkit.backends import Backend
from lading.toolkit.client.target import is_loopback
from lading.toolkit.errors import PermanentError


def check_reachable(url: str, backend: Backend) -> None:
    """Raise PermanentError for a server on loopback and a backend that states `runs_elsewhere`."""
    if getattr(backend, "runs_elsewhere", False) and is_loopback(urlsplit(url).hostname or ""):
        raise PermanentError(
            f"No node of {backend.kind} can reach the server at {url}: only its own machine can. Stop it, start it "
            "with `lading serve --host ADDRESS --tls-certificate FILE --tls-key FILE`, or behind a proxy with "
            f"`--advertise URL`; then ask again: `lading {backend.kind} schedule-nodes NAME`."
        )
