"""The pictures: valid DOT, whatever jobs, files and data are called."""

from __future__ import annotations

import html
import re

import pytest

from tests.api.behaviour.conftest import Worker
from tests.lib.service import Service

HOSTILE = (
    'a "quoted" name', "back\\slash", "ends with \\", "two\nlines", "-> b", "}; digraph evil {", "<b>bold</b>",
    "é 漢字", "node", "", "#", "/* */", '\\"', "\\N", "tab\there", "a--b", "a & &lt;",
)  # fmt: skip
GRAPHS = ("job_job_dependencies", "job_file_dependencies", "job_user_data_dependencies")
TOKEN = re.compile(
    r'\s+|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_]\w*)|(?P<sign>->|[\[\]{}=;])', re.DOTALL
)


def tokens(text: str) -> list[str]:
    found, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        assert match, f"no DOT at {text[place : place + 40]!r}"
        place = match.end()
        if match.lastgroup:
            found.append(match[0])
    return found


def parse(text: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Return node -> label, and (from, to, label) of each edge; fails on anything but the simple form."""
    given = tokens(text)
    assert given[:2] == ["strict", "digraph"]
    assert (given[3], given[-1]) == ("{", "}")
    nodes, edges = {}, []
    statement: list[str] = []
    for token in given[4:-1]:
        if token != ";":
            statement.append(token)
            continue
        match statement:
            case [_name, "=", _value]:
                pass
            case [node, "[", "label", "=", label, "]"]:
                nodes[plain(node)] = plain(label)
            case [source, "->", target, "[", "label", "=", label, "]"]:
                edges.append((plain(source), plain(target), plain(label)))
            case _:
                raise AssertionError(statement)
        statement = []
    assert not statement
    return nodes, edges


def plain(token: str) -> str:
    text = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], token[1:-1])
    return html.unescape(text)


@pytest.fixture
async def hostile(server: Service) -> Worker:
    """A chain of jobs with such names, over files and data with such names."""
    workflow = (await server.ok("POST", "/workflows", json={"name": "w", "user": "u"}))["_key"]
    worker = Worker(server, workflow)
    before: dict[str, list[str]] = {}
    for number, name in enumerate(HOSTILE):
        named = {"name": name} if name else {}
        file = await worker.ok("POST", "files", json={"path": f"{number}", **named})
        data = await worker.ok("POST", "user_data", json=named)
        job = {"command": "c", "output_files": [file["_id"]], "output_user_data": [data["_id"]], **named}
        made = await worker.ok("POST", "jobs", json={**job, **before})
        before = {
            "blocked_by": [made["_id"]], "input_files": [file["_id"]], "input_user_data": [data["_id"]],
        }  # fmt: skip
    return worker


@pytest.mark.parametrize("name", GRAPHS)
async def test_a_graph_says_what_is_stored(name: str, hostile: Worker) -> None:
    text = (await hostile.ok("GET", f"dot_graph/{name}"))["graph"]
    nodes, edges = parse(text)
    jobs = (await hostile.ok("GET", "jobs"))["items"]
    for job in jobs:
        assert nodes[job["_id"]] == job.get("name", job["_key"]).replace("\r", "")
    names = {"job_job_dependencies": ("blocks",), "job_file_dependencies": ("produces", "needs")}
    expected = []
    for edge_name in names.get(name, ("stores", "consumes")):
        stored = (await hostile.ok("GET", f"edges/{edge_name}"))["items"]
        expected += [(edge["_from"], edge["_to"], edge_name) for edge in stored]
    assert edges == expected
    assert len(edges) >= len(HOSTILE) - 1


async def test_names_of_graphs_are_checked(hostile: Worker) -> None:
    assert "job_job_dependencies" in await hostile.refused(400, "GET", "dot_graph/everything")
