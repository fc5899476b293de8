"""The Tortoise models against the schema that the migrations make."""

from __future__ import annotations

import os

import pytest
from tortoise.fields import BigIntField, BooleanField, FloatField, TextField

from lading.api.storage import tables
from lading.api.storage.statements import Effects, Statement, UseCase
from tests.lib.service import Service

MODELS = [
    model for model in vars(tables).values()
    if isinstance(model, type) and issubclass(model, tables.Row) and not model._meta.abstract
]  # fmt: skip
TYPES = {
    BigIntField: {"bigint", "integer"}, TextField: {"text"}, BooleanField: {"boolean"},
    FloatField: {"double precision"},
}  # fmt: skip


async def _columns(server: Service) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return table -> column -> (type, may be null), as the database knows it."""

    def work(_effects: Effects) -> UseCase:
        if server.database.dialect == "sqlite":
            return (yield Statement(
                "SELECT m.name AS table_name, c.name AS name, lower(c.type) AS type, "
                'c."notnull" = 0 AND c.pk = 0 AS nullable '
                "FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
            ))  # fmt: skip
        return (yield Statement(
            "SELECT table_name, column_name AS name, data_type AS type, is_nullable = 'YES' AS nullable "
            "FROM information_schema.columns WHERE table_schema = current_schema()"
        ))  # fmt: skip

    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for row in await server.database.read(work):
        found.setdefault(row["table_name"], {})[row["name"]] = (row["type"], bool(row["nullable"]))
    return found


async def test_the_models_mirror_the_tables(server: Service) -> None:
    found = await _columns(server)
    for name in ("schema_version", "key_sequence"):
        found.pop(name, None)
    assert {model.table_name() for model in MODELS} == set(found)
    for model in MODELS:
        columns = found[model.table_name()]
        fields = model.columns()
        assert set(fields) == set(columns), model.table_name()
        for name, field in fields.items():
            kind, nullable = columns[name]
            assert kind in TYPES[type(field)], f"{model.table_name()}.{name}"
            assert field.null == nullable, f"{model.table_name()}.{name}"


@pytest.mark.parametrize("name", ["USE_TZ", "TIMEZONE"])
async def test_reading_leaves_the_environment_alone(server: Service, name: str) -> None:
    await server.ok("GET", "/workflows")
    assert name not in os.environ
