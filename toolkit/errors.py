"""The one tree of errors.

    LadingError
    ├── BadInput            the caller's mistake; carries violations          (HTTP 400, exit 2)
    ├── NotFound            no such document                                  (HTTP 404, exit 2)
    ├── Conflict            stale revision, two writers, a clash of keys      (HTTP 409)
    ├── Unauthenticated     no valid token                                    (HTTP 401)
    ├── Forbidden           a valid token without the scope                   (HTTP 403)
    ├── Fenced              the caller no longer owns what it reports on      (HTTP 409)
    ├── TooLarge            a body over its route's limit                     (HTTP 413)
    ├── Unavailable         a try again later may work                        (HTTP 503, exit 3)
    └── BackendError
        ├── TransientError  the batch system's weather: retry with backoff
        ├── CapacityError   no room here now: try elsewhere, or later
        └── PermanentError  the request itself is refused: pause the config

HTTP codes are chosen in one place (`lading.api.middlewares`), exit codes in one place
(`lading.toolkit.cli.main`), and whether to retry only by `transient`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason why an input is refused: where, what was found, what is accepted."""

    path: str
    """The field, as a person would point at it: `jobs[3].memory`."""
    message: str
    """One sentence that names the value and what is accepted."""
    value: object = None
    accepted: str | None = None
    suggestion: str | None = None
    """The accepted name nearest to the one given, if there is one near."""
    line: int | None = None
    """Line in the file, counted from 1; None where the format keeps no places."""
    column: int | None = None

    def __str__(self) -> str:
        hint = f" Did you mean {self.suggestion!r}?" if self.suggestion else ""
        return f"{self.path}: {self.message}{hint}" if self.path else f"{self.message}{hint}"


class LadingError(Exception):
    """The root of all errors that Lading raises on purpose."""

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False


class BadInput(LadingError):
    """The request or the file is refused; nothing of it was stored."""

    code = "bad_input"

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> BadInput:
        """Make one error of all violations, so that a person can mend them in one go."""
        return cls("; ".join(str(violation) for violation in violations), violations)


class NotFound(LadingError):
    code = "not_found"


class Conflict(LadingError):
    code = "conflict"


class Unauthenticated(LadingError):
    code = "unauthenticated"


class Forbidden(LadingError):
    code = "forbidden"


class Fenced(Conflict):
    """The caller's lease, attempt or row has passed to somebody else: it must stop, not retry."""

    code = "fenced"


class TooLarge(LadingError):
    code = "too_large"


class Unavailable(LadingError):
    code = "unavailable"
    transient = True


class BackendError(LadingError):
    code = "backend"


class TransientError(BackendError):
    code = "backend_transient"
    transient = True


class CapacityError(BackendError):
    code = "backend_capacity"
    transient = True

    def __init__(self, message: str, *, fewer_may_fit: bool = False) -> None:
        super().__init__(message)
        self.fewer_may_fit = fewer_may_fit
        """It is their number that is refused: a part of what was asked for may have room."""


class PermanentError(BackendError):
    code = "backend_permanent"
