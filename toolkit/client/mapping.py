"""Map a Python function over parameter sets: one job for each, results kept as user data.

Each job reads one object `{module, func, params, module_directory}` and writes one object
`{"result": …}`; an optional last job reads all of those. `lading.toolkit.client.mapped_job` is what the
jobs run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lading.toolkit.client.api import Document
from lading.toolkit.client.sync import Lading
from lading.toolkit.errors import BadInput, Violation

RUN_FUNCTION: Final = "lading jobs run-function"
RUN_POSTPROCESS: Final = "lading jobs run-postprocess"


def map_function(
    client: Lading,
    workflow_name: str,
    module: str,
    func: str,
    params: Sequence[Mapping[str, Any]],
    *,
    postprocess: str | None = None,
    module_directory: Path | str | None = None,
    resource_requirements: Mapping[str, Any] | None = None,
    user: str | None = None,
    scheduler: Mapping[str, Any] | None = None,
    working_directory: Path | str | None = None,
    output_directory: Path | str | None = None,
) -> Document:
    """Store a workflow that calls `module.func(params)` once for each of `params`, and return it.

    `postprocess` names a function of the same module that gets the list of all results.
    `resource_requirements` has `num_cpus`, `memory`, `runtime` and so on, for every job. `scheduler` is a
    local scheduler config, by default one with all of the server's machine. Start the workflow with
    `lading.toolkit.client.starting.start_here` or `lading workflows start`.
    """
    specification = specification_of(
        module,
        func,
        params,
        postprocess=postprocess,
        module_directory=None if module_directory is None else str(Path(module_directory).absolute()),
        resource_requirements=resource_requirements,
    )
    config = {
        "working_directory": str(Path(working_directory or Path.cwd()).absolute()),
        "output_directory": str(Path(output_directory or "output").absolute()),
    }
    schedulers = {"local_schedulers": [{"name": "local", "max_allocations": 1, **(scheduler or {})}]}
    document = {**specification, "name": workflow_name, "config": config, "schedulers": schedulers}
    if user is not None:
        document["user"] = user
    return client.create_workflow(document)


def specification_of(
    module: str,
    func: str,
    params: Sequence[Mapping[str, Any]],
    *,
    postprocess: str | None = None,
    module_directory: str | None = None,
    resource_requirements: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return jobs and user data of the mapping. Raises BadInput when it names nothing that can be called."""
    _check(module, func, postprocess, params)
    call = {"module": module, "func": func}
    if module_directory is not None:
        call["module_directory"] = module_directory
    requirements = dict(resource_requirements or {})
    requirements.setdefault("name", "mapped")
    width = len(str(len(params)))
    user_data: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    for number, parameters in enumerate(params, 1):
        label = f"{number:0{width}}"
        user_data.append({"name": f"input-{label}", "data": {**call, "params": dict(parameters)}})
        user_data.append({"name": f"output-{label}", "data": {}})
        jobs.append(
            {
                "name": f"{func}-{label}",
                "command": RUN_FUNCTION,
                "input_user_data": [f"input-{label}"],
                "output_user_data": [f"output-{label}"],
            }
        )
    if postprocess is not None:
        user_data.append({"name": "postprocess-input", "data": {**call, "func": postprocess}})
        user_data.append({"name": "postprocess-output", "data": {}})
        outputs = [item["name"] for item in user_data if item["name"].startswith("output-")]
        jobs.append(
            {
                "name": "postprocess",
                "command": RUN_POSTPROCESS,
                "input_user_data": ["postprocess-input", *outputs],
                "output_user_data": ["postprocess-output"],
            }
        )
    if resource_requirements is not None:
        for job in jobs:
            job["resource_requirements"] = requirements["name"]
    return {
        "jobs": jobs,
        "user_data": user_data,
        "resource_requirements": [requirements] if resource_requirements is not None else [],
    }


def results_of(client: Lading, workflow: str) -> list[Any]:
    """Return the results in the order of the parameter sets; None where there is none (yet)."""
    outputs = [
        item
        for item in client.list_documents(workflow, "user_data")
        if str(item["name"]).startswith("output-")
    ]
    outputs.sort(key=lambda item: int(str(item["name"]).removeprefix("output-")))
    return [(item.get("data") or {}).get("result") for item in outputs]


def _check(module: str, func: str, postprocess: str | None, params: Sequence[object]) -> None:
    violations = []
    for field, value in (("module", module), ("func", func), ("postprocess", postprocess)):
        if value is None:
            continue
        parts = value.split(".") if field == "module" else [value]
        if not all(part.isidentifier() for part in parts):
            accepted = "the name of a module" if field == "module" else "the name of a function in the module"
            violations.append(Violation(field, f"{value!r} is not accepted; accepted is {accepted}.", value))
    if not params:
        violations.append(Violation("params", "There is no parameter set; accepted is at least one."))
    for number, parameters in enumerate(params):
        if not isinstance(parameters, Mapping):
            message = f"{parameters!r} is not accepted; accepted is a mapping."
            violations.append(Violation(f"params[{number}]", message))
    if violations:
        raise BadInput.of(violations)
