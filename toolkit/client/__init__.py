"""The Python client: `Lading` blocks, `AsyncLading` awaits; both speak to one server."""

from lading.toolkit.client.api import AsyncLading, Document
from lading.toolkit.client.events import Event
from lading.toolkit.client.session import Patience
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target

__all__ = ["AsyncLading", "Document", "Event", "Lading", "Patience", "Target"]
