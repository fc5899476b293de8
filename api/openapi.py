"""The OpenAPI 3.1 document, made from the very route table and models that serve, and a page of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from aiohttp import web
from pydantic import BaseModel

from lading import __version__
from lading.api.context import Call
from lading.api.decoding import LARGEST_INTEGER, SMALLEST_INTEGER
from lading.api.reference_page import render
from lading.api.router import ROUTER
from lading.api.routing import Query, Route

_REFERENCE = "#/components/schemas/{name}"
_TYPES: Mapping[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_PARAMETER = re.compile(r"\{(\w+)\}")
_FREE_FORM = {"type": "object"}
_ERRORS = {
    "400": "The input is refused; the text names field, value and what is accepted.",
    "401": "A valid token is needed.",
    "403": "The token has not the scope.",
    "404": "No such document.",
    "405": "The path has no such method; the header Allow names those that it has.",
    "409": "A stale revision, a clash of keys, or what is reported on has passed to somebody else.",
    "413": "The body is too large.",
    "503": "Try again later.",
}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "errorNum", "errorMessage", "code"],
    "properties": {
        "error": {"type": "boolean", "const": True},
        "errorNum": {"type": "integer"},
        "errorMessage": {"type": "string"},
        "code": {"type": "integer", "description": "The HTTP status."},
        "type": {"type": "string"},
        "violations": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {
                    "path": {"type": "string"},
                    "message": {"type": "string"},
                    "value": {},
                    "accepted": {"type": "string"},
                    "suggestion": {"type": "string"},
                },
            },
        },
    },
}


@lru_cache(maxsize=8)
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the document of a route table."""
    schemas: dict[str, Any] = {"Error": _ERROR_SCHEMA}
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(routes, key=lambda route: route.path):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lading",
            "version": __version__,
            "description": "The torc API and Lading's own additions. Success is always 200.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                status: {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(name="Error")}}},
                }
                for status, text in _ERRORS.items()
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": list(route.tags) or ["torc"],
        "parameters": list(_parameters(route)),
        "security": [] if route.public else [{"token": sorted(route.scopes)}],
        "responses": {
            "200": {
                "description": "Done.",
                "content": {route.content_type: {"schema": _answer_schema(route, schemas)}},
            },
            **{status: {"$ref": f"#/components/responses/{status}"} for status in _ERRORS},
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "description": f"At most {route.maximum_body} bytes.",
            "required": _needs_body(route.body),
            "content": {"application/json": {"schema": _schema(route.body, schemas)}},
        }
    return operation


def _needs_body(model: Any) -> bool:
    """Whether an empty body, which is read as an object without members, cannot do."""
    if _is_pydantic(model):
        return any(field.is_required() for field in model.model_fields.values())
    if isinstance(model, type) and issubclass(model, msgspec.Struct):
        return any(field.required for field in msgspec.structs.fields(model))
    return False


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in _PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for query in route.query:
        yield {
            "name": query.name,
            "in": "query",
            "required": False,
            "description": query.description,
            "schema": _query_schema(query),
        }
    if route.creates:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key and body within 24 hours get the answer of the first time.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        }


def _query_schema(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[query.type]}
    if query.default is not None:
        schema["default"] = query.default
    if query.type is int:
        schema |= {"minimum": SMALLEST_INTEGER, "maximum": LARGEST_INTEGER}
    if query.minimum is not None:
        schema["minimum"] = query.minimum
    return schema


def _answer_schema(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.content_type != "application/json":
        return {"type": "string"}
    return _schema(route.response, schemas)


def _schema(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a model and add what it refers to."""
    if model is None or model is dict:
        return dict(_FREE_FORM)
    if _is_pydantic(model):
        return _pydantic_schema(model, schemas)

    def of_foreign(kind: type) -> dict[str, Any]:
        if _is_pydantic(kind):
            return _pydantic_schema(kind, schemas)
        raise NotImplementedError

    (schema,), components = msgspec.json.schema_components(
        [model], ref_template=_REFERENCE, schema_hook=of_foreign
    )
    schemas.update(components)
    return schema


def _is_pydantic(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _pydantic_schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, ref_template=_REFERENCE.replace("name", "model"))
    schemas.update(schema.pop("$defs", {}))
    name = _component_name(model)
    schemas[name] = {**schema, "title": name}
    return {"$ref": _REFERENCE.format(name=name)}


def _component_name(model: type[BaseModel]) -> str:
    """Return a name that OpenAPI allows: `Page[File]` is called `FilePage`."""
    plain, _, argument = model.__name__.partition("[")
    if not argument:
        return plain
    words = re.findall(r"\w+", argument)
    return f"{'Object' if words[0] == 'dict' else words[0]}{plain}"


async def get_document(call: Call) -> dict[str, Any]:
    """Return the OpenAPI document."""
    return document(call.request.app[ROUTER].routes)


async def get_page(call: Call) -> web.Response:
    """Return the same as a page that loads nothing from anywhere."""
    page = render(document(call.request.app[ROUTER].routes))
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return web.Response(
        text=page, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": policy}
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/openapi.json", "get_openapi", get_document, "Return this document.",
        public=True, tags=("server",),
    ),
    Route(
        "GET", "/docs", "get_docs", get_page, "Show this document as a page.",
        public=True, tags=("server",), content_type="text/html",
    ),
)  # fmt: skip
