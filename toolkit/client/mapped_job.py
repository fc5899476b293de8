"""What the job of a mapping does: read its object, call the function, store what it returns.

A job's environment holds no token. This one finds the server as its owner's programs do: by the file
that LADING_SERVER_FILE names, whose token file only the owner can read.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lading.toolkit.client.api import Document
from lading.toolkit.client.sync import Lading
from lading.toolkit.client.target import Target
from lading.toolkit.errors import BadInput

SERVER_FILE_VARIABLE: Final = "LADING_SERVER_FILE"
_POSTPROCESS_INPUT: Final = "postprocess-input"


@dataclass(frozen=True, slots=True)
class Job:
    """Which job this process is."""

    workflow: str
    key: str

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Job:
        """Read it from the job's environment. Raises BadInput outside of a job."""
        names = ("LADING_WORKFLOW", "LADING_JOB")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise BadInput(
                f"{' and '.join(missing)}: not set; this command runs as a job of a workflow only."
            )
        return cls(environment["LADING_WORKFLOW"], environment["LADING_JOB"])


def target_of_environment(environment: Mapping[str, str]) -> Target | None:
    """Return the server of this job's runner; None where its file is not reachable from here."""
    path = Path(environment.get(SERVER_FILE_VARIABLE) or os.devnull)
    return Target.from_server_file(path) if path.is_file() else None


def run_function(client: Lading, job: Job) -> Any:
    """Call the job's function with its parameters, store the result, and return it."""
    [given] = _only(client, job, "consumes")
    [output] = _only(client, job, "stores")
    data = _data(given)
    if not isinstance(data.get("params"), dict):
        raise BadInput(f"user data {given['name']!r}: params: {data.get('params')!r} is not an object.")
    return _store(client, job, output, _function(data, given)(data["params"]))


def run_postprocess(client: Lading, job: Job) -> Any:
    """Call the job's function with the list of all results, store what it returns, and return it."""
    consumed = list(client.list_job_user_data(job.workflow, job.key, relation="consumes"))
    given = next((item for item in consumed if item["name"] == _POSTPROCESS_INPUT), None)
    if given is None:
        raise BadInput(f"job {job.key} reads no user data {_POSTPROCESS_INPUT!r}, which names the function.")
    [output] = _only(client, job, "stores")
    outputs = sorted((item for item in consumed if item is not given), key=lambda item: str(item["name"]))
    empty = [str(item["name"]) for item in outputs if "result" not in (item.get("data") or {})]
    if empty:
        raise BadInput(f"No result was stored in: {', '.join(empty[:10])}.")
    results = [item["data"]["result"] for item in outputs]
    return _store(client, job, output, _function(_data(given), given)(results))


def _only(client: Lading, job: Job, relation: Any) -> list[Document]:
    found = list(client.list_job_user_data(job.workflow, job.key, relation=relation))
    if len(found) != 1:
        raise BadInput(f"job {job.key} {relation} {len(found)} user data; accepted is exactly one.")
    return found


def _data(given: Document) -> dict[str, Any]:
    data = given.get("data") or {}
    for field in ("module", "func"):
        if not isinstance(data.get(field), str):
            raise BadInput(f"user data {given['name']!r}: {field}: {data.get(field)!r} is not a name.")
    return dict(data)


def _function(data: dict[str, Any], given: Document) -> Any:
    # As for `python script.py`: the module's folder, else the folder the job runs in.
    sys.path.insert(0, data.get("module_directory") or str(Path.cwd()))
    try:
        module = importlib.import_module(data["module"])
    except ModuleNotFoundError as error:
        raise BadInput(
            f"user data {given['name']!r}: the module {data['module']!r} cannot be imported: {error}; "
            f"it was looked for in {sys.path[0]}."
        ) from None
    function = getattr(module, data["func"], None)
    if not callable(function):
        raise BadInput(f"user data {given['name']!r}: {data['module']} has no function {data['func']!r}.")
    return function


def _store(client: Lading, job: Job, output: Document, result: Any) -> Any:
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"The result of type {type(result).__name__} is not JSON: {error}.") from None
    client.modify_document(job.workflow, "user_data", str(output["_key"]), {"data": {"result": result}})
    return result
