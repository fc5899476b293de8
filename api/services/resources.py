"""What use cases work with: the database, the clock, the waiters. Made once per application."""

from __future__ import annotations

from dataclasses import dataclass, field

from lading.api.services.wakeups import Wakeups
from lading.api.storage.orm import Orm
from lading.api.storage.unit_of_work import Database
from lading.toolkit.clock import Clock


@dataclass(slots=True)
class Services:
    """The resources that use cases work with; made once per application."""

    database: Database
    clock: Clock
    wakeups: Wakeups
    server_id: str
    read_only: bool = False
    authenticated: bool = True
    """False with `--auth none`."""
    local_cpus: int | None = None
    """CPUs of this host that workflows without a scheduler config may use; None: not one."""
    orm: Orm = field(init=False)
    """For lists; opens at its first use and is closed with the application."""

    def __post_init__(self) -> None:
        self.orm = Orm(self.database)
