"""Who calls: the principal that a token stands for, and what it may see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    USER = "user"
    """The owner of workflows: everything about their own."""
    NODE = "node"
    """One allocation row (register) or one compute node (sync); nothing else."""
    ADMIN = "admin"
    """Everything, of everybody."""
    READ = "read"
    """What `user` may see, and no change."""


@dataclass(frozen=True, slots=True)
class Principal:
    user: str
    scope: Scope
    token_id: int | None = None
    """None with `--auth none`."""
    workflow_id: int | None = None
    allocation_id: int | None = None
    compute_node_id: int | None = None

    def may_see(self, workflow_id: int, owner: str) -> bool:
        """Tell whether a workflow exists as far as this caller is concerned."""
        if self.scope is Scope.ADMIN:
            return True
        if self.scope is Scope.NODE:
            return self.workflow_id == workflow_id
        return self.user == owner

    @property
    def sees_all(self) -> bool:
        return self.scope is Scope.ADMIN
