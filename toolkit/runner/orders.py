"""What the runner tells its guardian to do with jobs: in order, and not before this host is clean."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from lading.toolkit.runner import processes
from lading.toolkit.runner.channel import GuardianChannel
from lading.toolkit.runner.journal import Journal

_SWEEP_SECONDS: Final = 2.0


class Orders:
    """Launches and kills on their way to the guardian."""

    def __init__(self, channel: GuardianChannel, journal: Journal) -> None:
        self._channel = channel
        self._journal = journal
        self._unsent: list[tuple[str, dict[str, Any]]] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._look_again = False

    def give(self, name: str, **fields: Any) -> None:
        """Send an order, behind those that still wait."""
        if self._sweeping is None:
            self._channel.send(name, **fields)
        else:
            self._unsent.append((name, fields))

    def sweep_first(self) -> None:
        """Hold back the orders that follow until no orphan of a dead runner is left on this host.

        Needed before a job that was tried before is launched: guardian and runner of its earlier attempt
        may both be dead, and what they left running was ended by nobody, whatever their lease says.
        """
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep(), name="sweep")
        else:
            # What died while /proc was being read may have been passed over.
            self._look_again = True

    def close(self) -> None:
        """Give up what was not sent: the runner leaves."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep(self) -> None:
        self._look_again = True
        while self._look_again:
            self._look_again = False
            found, remaining = await asyncio.to_thread(processes.sweep_orphans, _SWEEP_SECONDS)
            if found:
                self._journal.warning(
                    f"Killed {found} processes of dead runners; {len(remaining)} would not die."
                )
        self._sweeping = None
        for name, fields in self._unsent:
            self._channel.send(name, **fields)
        self._unsent.clear()
