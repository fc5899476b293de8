"""What allocations of configs offer: which backend is to be asked, what is to be told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lading.toolkit.submitter.messages import AskShape, ShapeTold
from lading.toolkit.wire.submissions import ShapeReport, ShapeWanted

_AGAIN_SECONDS: Final = 60.0
"""Between two questions about the same revision of a config."""


class ConfigShapes:
    """The configs whose shape the server wants, and the answers that it has not acknowledged."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = sorted(kinds)
        """Backends that can tell a shape."""
        self._again_at: dict[tuple[str, int], float] = {}
        self._reports: dict[str, ShapeReport] = {}

    @property
    def has_reports(self) -> bool:
        return bool(self._reports)

    def reports(self) -> list[ShapeReport]:
        """Return all that no answered sync has carried yet."""
        return list(self._reports.values())

    def asked(self) -> list[str]:
        """Name the configs that were asked about, so that the server need not answer at once for them."""
        return sorted({config for config, _ in self._again_at})

    def clear(self) -> None:
        """Forget everything: the lease is lost."""
        self._again_at.clear()
        self._reports.clear()

    def synced(
        self, reported: Sequence[ShapeReport], wanted: Sequence[ShapeWanted], now: float
    ) -> list[AskShape]:
        """Take in an answer: return whom to ask now."""
        for report in reported:
            if self._reports.get(report.config_row) is report:
                del self._reports[report.config_row]
        keys = {(want.config_row, want.rev) for want in wanted}
        for key in [key for key in self._again_at if key not in keys]:
            del self._again_at[key]
        asks = []
        for want in wanted:
            key = (want.config_row, want.rev)
            if want.backend in self.kinds and now >= self._again_at.get(key, now):
                self._again_at[key] = now + _AGAIN_SECONDS
                asks.append(AskShape(want))
        return asks

    def told(self, event: ShapeTold) -> None:
        """Keep an answer, also that there is none, until the server has it."""
        self._reports[event.report.config_row] = event.report
