"""`serve --local-cpus`: a workflow that names no scheduler may use this server's own host."""

from __future__ import annotations

import orjson

from lading.api.services.ledger import Ledger, Steps
from lading.api.storage.keys import take_ids
from lading.api.storage.statements import Statement

NAME = "server"
"""Of the config; people see it in lists and may change or remove it."""


def offer_own_host(ledger: Ledger, local_cpus: int | None) -> Steps:
    """Give a workflow that has no scheduler config one for `local_cpus` CPUs of this host; None: never.

    It is a config like any other, so that nothing else has to know about it. One that exists stays as
    it is, also when the server was started anew with another number.
    """
    if local_cpus is None:
        return
    existing = yield Statement(
        "SELECT id FROM scheduler_config WHERE workflow_id = :id LIMIT 1", {"id": ledger.workflow_id}
    )
    if existing:
        return
    [config_id] = yield from take_ids(1)
    yield Statement(
        "INSERT INTO scheduler_config (id, workflow_id, kind, name, body) "
        "VALUES (:id, :workflow_id, 'local', :name, :body)",
        {
            "id": config_id,
            "workflow_id": ledger.workflow_id,
            "name": NAME,
            "body": orjson.dumps({"num_cpus": local_cpus, "max_allocations": 1}).decode(),
        },
    )
