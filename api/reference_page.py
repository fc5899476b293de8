"""The API reference as one HTML page, from the OpenAPI document: no script, no foreign address."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: #f4f6f8; padding: .75rem; overflow-x: auto; border-radius: 4px; }
details { border: 1px solid #d5dae0; border-radius: 4px; margin: .4rem 0; }
summary { cursor: pointer; padding: .4rem .75rem; }
details > div { padding: 0 .75rem .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #e6e9ed; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
.note { color: #57606a; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e9ed; background: #15181c; } pre { background: #20252b; }
  details, th, td { border-color: #3a424b; } a { color: #7ab7ff; } .note { color: #9aa4af; } }
"""


def render(document: Mapping[str, Any]) -> str:
    """Return the page."""
    title = f"{document['info']['title']} {document['info']['version']}"
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag[operation["tags"][0]].append(_operation(method, path, operation))
    tags = sorted(by_tag)
    links = " · ".join(f'<a href="#tag-{escape(tag)}">{escape(tag)}</a>' for tag in tags)
    sections = "".join(f'<h2 id="tag-{escape(tag)}">{escape(tag)}</h2>{"".join(by_tag[tag])}' for tag in tags)
    models = "".join(
        f'<details id="model-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<div>{_json(schema)}</div></details>"
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>{escape(document['info']['description'])} "
        'The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
        f'<p>{links} · <a href="#models">models</a></p>'
        f'{sections}<h2 id="models">models</h2>{models}</body></html>'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<span class="method">{method.upper()}</span> <code>{escape(path)}</code> '
        f'<span class="note">{escape(operation["summary"])}</span></summary>'
        f"<div>{''.join(_parts(operation))}</div></details>"
    )


def _parts(operation: Mapping[str, Any]) -> Iterator[str]:
    scopes = [scope for entry in operation["security"] for scope in entry["token"]]
    yield f"<p>Token: {escape(', '.join(scopes)) if scopes else 'none needed'}.</p>"
    if operation["parameters"]:
        yield "<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>"
        for parameter in operation["parameters"]:
            schema = parameter["schema"]
            default = f", default {schema['default']}" if "default" in schema else ""
            yield (
                f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
                f"<td>{schema['type']}{escape(default)}</td>"
                f"<td>{escape(parameter.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    if "requestBody" in operation:
        body = operation["requestBody"]
        yield f"<p>Body. {escape(body['description'])}</p>"
        yield _model(body["content"]["application/json"]["schema"])
    for kind, content in operation["responses"]["200"]["content"].items():
        yield f"<p>Answer (200), {escape(kind)}.</p>"
        yield _model(content["schema"])


def _model(schema: Mapping[str, Any]) -> str:
    reference = schema.get("$ref")
    if reference is None:
        return _json(schema)
    name = escape(reference.rpartition("/")[2])
    return f'<p><a href="#model-{name}"><code>{name}</code></a></p>'


def _json(schema: Mapping[str, Any]) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
