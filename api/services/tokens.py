"""Bearer tokens: made, found, listed, revoked. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator
from typing import Any

from lading.api.services.identity import Principal, Scope
from lading.api.services.workflows import find_workflow, lock_workflow
from lading.api.storage.keys import is_integer_key, key_filter, key_of, take_ids
from lading.api.storage.statements import Effects, Many, Rows, Statement, UseCase
from lading.api.storage.unit_of_work import Database
from lading.toolkit.clock import iso_utc
from lading.toolkit.errors import BadInput, Conflict, Forbidden, NotFound, Violation

PREFIX = "lading_"
OWNER_LABEL = "owner"
_GRANTED = frozenset({Scope.USER, Scope.READ, Scope.ADMIN, Scope.NODE})
_LONGEST_LABEL = 200
_LONGEST_LIFE_SECONDS = 100 * 366 * 86_400


def new_secret() -> str:
    """Return a fresh token: 32 random bytes, recognisable to programs that search for leaked secrets."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def find(database: Database, digest: str, now_ms: int) -> Principal | None:
    """Return the principal of a token's hash; None when it is unknown, over or revoked."""

    def work(_effects: Effects) -> UseCase:
        rows = yield Statement(
            "SELECT t.id, t.scope, t.user_name, t.workflow_id, t.allocation_id, t.compute_node_id, "
            "a.status AS allocation_status FROM token t "
            "LEFT JOIN scheduled_compute_node a ON a.id = t.allocation_id "
            "WHERE t.hash = :hash AND t.revoked_ms IS NULL "
            "AND (t.expires_ms IS NULL OR t.expires_ms > :now)",
            {"hash": digest, "now": now_ms},
        )
        if not rows:
            return None
        row = rows[0]
        # A node's file opens its row as long as that is open. The session token that came of it
        # outlives the row: the runner's last report arrives when the allocation is over.
        opens_a_row = row["allocation_id"] is not None and row["compute_node_id"] is None
        if opens_a_row and row["allocation_status"] in {None, "complete"}:
            return None
        return Principal(
            user=row["user_name"],
            scope=Scope(row["scope"]),
            token_id=row["id"],
            workflow_id=row["workflow_id"],
            allocation_id=row["allocation_id"],
            compute_node_id=row["compute_node_id"],
        )

    found: Principal | None = await database.read(work)
    return found


def insert(
    secret: str,
    principal: Principal,
    now_ms: int,
    *,
    label: str = "",
    expires_ms: int | None = None,
) -> Generator[Statement | Many, Rows, int]:
    """Store a token that stands for `principal`; return its id."""
    [token_id] = yield from take_ids(1)
    yield Statement(
        "INSERT INTO token (id, hash, label, scope, user_name, workflow_id, allocation_id, "
        "compute_node_id, created_ms, expires_ms) VALUES (:id, :hash, :label, :scope, :user_name, "
        ":workflow_id, :allocation_id, :compute_node_id, :now, :expires)",
        {
            "id": token_id,
            "hash": hash_of(secret),
            "label": label,
            "scope": principal.scope.value,
            "user_name": principal.user,
            "workflow_id": principal.workflow_id,
            "allocation_id": principal.allocation_id,
            "compute_node_id": principal.compute_node_id,
            "now": now_ms,
            "expires": expires_ms,
        },
    )
    return token_id


async def create(
    database: Database,
    caller: Principal,
    now_ms: int,
    *,
    scopes: list[str],
    user: str | None = None,
    workflow: str | None = None,
    expires_seconds: float | None = None,
    label: str = "",
) -> dict[str, Any]:
    """Make a token; the answer is the only place where its secret is ever shown."""
    scope = _scope_of(scopes)
    owner = user if user is not None else caller.user
    if not caller.sees_all and (owner != caller.user or scope is Scope.ADMIN):
        raise Forbidden("Only an administrator makes tokens for other users or of scope admin.")
    if (scope is Scope.NODE) != (workflow is not None):
        raise BadInput.of(
            [
                Violation(
                    "workflow", "It is given exactly when the scope is node: a node works for one workflow."
                )
            ]
        )
    if len(label) > _LONGEST_LABEL:
        raise BadInput.of([Violation("label", f"It is longer than {_LONGEST_LABEL} characters.")])
    if expires_seconds is not None and not 0 < expires_seconds <= _LONGEST_LIFE_SECONDS:
        message = f"{expires_seconds} is not accepted; accepted are seconds above 0, up to a hundred years."
        raise BadInput.of([Violation("expires_seconds", message, expires_seconds)])
    expires_ms = None if expires_seconds is None else now_ms + int(expires_seconds * 1000)
    secret = new_secret()

    def work(_effects: Effects) -> UseCase:
        row = None if workflow is None else (yield from find_workflow(caller, workflow))
        principal = Principal(
            # A node acts on its workflow and therefore for the workflow's owner.
            user=row["owner"] if row is not None else owner,
            scope=scope,
            workflow_id=row["id"] if row is not None else None,
        )
        token_id = yield from insert(secret, principal, now_ms, label=label, expires_ms=expires_ms)
        return {
            "id": str(token_id),
            "token": secret,
            "scopes": [scope.value],
            "user": principal.user,
            "workflow": workflow,
            "label": label,
            "expires_at": _time(expires_ms),
        }

    made: dict[str, Any] = await database.write(work)
    return made


async def list_tokens(
    database: Database, caller: Principal, *, include_revoked: bool, skip: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Return one page of the caller's tokens (an administrator: of all), and how many there are."""

    def work(_effects: Effects) -> UseCase:
        # Sessions of nodes are left out: there are thousands, and nobody made them by hand.
        condition = "compute_node_id IS NULL"
        parameters: dict[str, Any] = {}
        if not include_revoked:
            condition += " AND revoked_ms IS NULL"
        if not caller.sees_all:
            condition += " AND user_name = :user_name AND scope <> 'node'"
            parameters["user_name"] = caller.user
        counted = yield Statement(f"SELECT count(*) AS number FROM token WHERE {condition}", parameters)
        rows = yield Statement(
            f"SELECT * FROM token WHERE {condition} ORDER BY id LIMIT :limit OFFSET :skip",
            {**parameters, "limit": limit, "skip": skip},
        )
        return [_document(row) for row in rows], counted[0]["number"]

    page: tuple[list[dict[str, Any]], int] = await database.read(work)
    return page


async def revoke(database: Database, caller: Principal, token_id: str, now_ms: int) -> dict[str, Any]:
    """End a token. Raises NotFound also for one of somebody else's. Repeating it changes nothing."""

    def work(effects: Effects) -> UseCase:
        rows: Rows = ()
        if is_integer_key(token_id):
            rows = yield Statement("SELECT * FROM token WHERE id = :id FOR_UPDATE", {"id": int(token_id)})
        if not rows or not (caller.sees_all or rows[0]["user_name"] == caller.user):
            raise NotFound(f"no such token: {token_id}")
        yield Statement(
            "UPDATE token SET revoked_ms = :now WHERE id = :id AND revoked_ms IS NULL",
            {"id": int(token_id), "now": now_ms},
        )
        effects.tokens = True
        rows = yield Statement("SELECT * FROM token WHERE id = :id", {"id": int(token_id)})
        return _document(rows[0])

    document: dict[str, Any] = await database.write(work)
    return document


async def replace_owner_token(
    database: Database, owner: str, place: str, now_ms: int, *, kept: str | None = None
) -> str:
    """Make the token of a server's owner and revoke the one of its previous start.

    `place` names the file it goes to: two servers on one database keep theirs apart. `kept` is the token
    found there, which stays if this database made it for that place.
    """
    secret = new_secret()
    label = f"{OWNER_LABEL} {place}"

    def work(effects: Effects) -> UseCase:
        if kept is not None:
            known = yield Statement(
                "SELECT id FROM token WHERE hash = :hash AND label = :label AND revoked_ms IS NULL",
                {"hash": hash_of(kept), "label": label},
            )
            if known:
                return kept
        yield Statement(
            "UPDATE token SET revoked_ms = :now WHERE label = :label AND revoked_ms IS NULL",
            {"label": label, "now": now_ms},
        )
        yield from insert(secret, Principal(user=owner, scope=Scope.ADMIN), now_ms, label=label)
        effects.tokens = True
        return secret

    token: str = await database.write(work)
    return token


async def create_for_allocation(
    database: Database, caller: Principal, workflow: str, allocation: str, now_ms: int
) -> str:
    """Make the token of a node's file: it opens registration for one row, as long as that is open."""
    secret = new_secret()

    def work(_effects: Effects) -> UseCase:
        found = yield from lock_workflow(caller, workflow)
        parameters: dict[str, Any] = {"workflow_id": found["id"]}
        condition = key_filter(allocation.rpartition("/")[2], parameters)
        rows = yield Statement(
            "SELECT id, key, status FROM scheduled_compute_node "
            f"WHERE workflow_id = :workflow_id AND {condition}",
            parameters,
        )
        if not rows:
            raise NotFound(f"no such scheduled compute node: {allocation}")
        if rows[0]["status"] == "complete":
            raise Conflict(f"The scheduled compute node {key_of(rows[0])} is complete: no node may join it.")
        principal = Principal(
            user=found["owner"],
            scope=Scope.NODE,
            workflow_id=found["id"],
            allocation_id=rows[0]["id"],
        )
        yield from insert(secret, principal, now_ms, label=f"allocation {key_of(rows[0])}")

    await database.write(work)
    return secret


def _scope_of(scopes: list[str]) -> Scope:
    accepted = ", ".join(sorted(_GRANTED))
    if len(scopes) != 1 or scopes[0] not in _GRANTED:
        message = f"{scopes!r} is not accepted; accepted is a list with one of {accepted}."
        raise BadInput.of([Violation("scopes", message, None, accepted)])
    return Scope(scopes[0])


def _document(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "label": row["label"],
        "scopes": [row["scope"]],
        "user": row["user_name"],
        "workflow": None if row["workflow_id"] is None else str(row["workflow_id"]),
        "created_at": _time(row["created_ms"]),
        "expires_at": _time(row["expires_ms"]),
        "revoked_at": _time(row["revoked_ms"]),
    }


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else iso_utc(milliseconds / 1000)
