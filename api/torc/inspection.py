"""Specifications that come back, pictures, changes of inputs, auto-tuning."""

from __future__ import annotations

from typing import Any

from lading.api.context import Call
from lading.api.routing import Query, Route
from lading.api.services import export, graphs, restart, tuning
from lading.api.services.documents import workflows
from lading.api.torc.answers import PAGE, now_ms
from lading.toolkit.wire import torc_answers

_WORKFLOW = "/workflows/{key}"
_SPECIFICATIONS = ("specifications",)
_LIFE = ("workflows",)


async def get_specification(call: Call) -> Any:
    return await call.services.database.read(export.specification(call.principal, call.path["key"]))


async def get_example(_call: Call) -> Any:
    return {**export.EXAMPLE, "config": workflows.default_config()}


async def get_template(_call: Call) -> Any:
    return export.template(workflows.default_config())


async def list_job_specifications(call: Call) -> Any:
    return await call.services.database.read(
        export.job_specifications(
            call.principal, call.path["workflow"], None, call.query["skip"], call.query["limit"]
        )
    )


async def get_job_specification(call: Call) -> Any:
    return await call.services.database.read(
        export.job_specifications(call.principal, call.path["workflow"], call.path["key"], 0, 1)
    )


async def process_changed_inputs(call: Call) -> Any:
    work = restart.process_changed_inputs(
        call.principal, call.path["key"], dry_run=call.query["dry_run"], now_ms=now_ms(call)
    )
    return await call.services.database.write(work)


async def auto_tune(call: Call) -> Any:
    return await call.services.database.write(tuning.begin(call.principal, call.path["key"], now_ms(call)))


async def process_auto_tune(call: Call) -> Any:
    return await call.services.database.write(tuning.finish(call.principal, call.path["key"], now_ms(call)))


async def get_dot_graph(call: Call) -> Any:
    return await call.services.database.read(
        graphs.dot_graph(call.principal, call.path["key"], call.path["name"])
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/workflow_specifications/example", "get_workflow_specification_example", get_example,
        "Return a specification of two jobs.", response=dict[str, Any], tags=_SPECIFICATIONS,
    ),
    Route(
        "GET", "/workflow_specifications/template", "get_workflow_specification_template", get_template,
        "Return an empty specification with every config field.", response=dict[str, Any],
        tags=_SPECIFICATIONS,
    ),
    Route(
        "GET", "/workflow_specifications/{key}", "get_workflow_specification", get_specification,
        "Return a workflow as a specification that can be posted again.", response=dict[str, Any],
        tags=_SPECIFICATIONS,
    ),
    Route(
        "GET", "/workflows/{workflow}/job_specifications", "list_job_specifications",
        list_job_specifications, "Return a page of jobs as a specification has them.",
        response=dict[str, Any], query=PAGE, tags=_SPECIFICATIONS,
    ),
    Route(
        "GET", "/workflows/{workflow}/job_specifications/{key}", "get_job_specification",
        get_job_specification, "Return a job as a specification has it.", response=dict[str, Any],
        tags=_SPECIFICATIONS,
    ),
    Route(
        "POST", f"{_WORKFLOW}/process_changed_job_inputs", "process_changed_job_inputs",
        process_changed_inputs, "Reset done jobs whose inputs changed, and what is behind them.",
        response=torc_answers.ReinitializedJobs, query=(Query("dry_run", bool, default=False),), tags=_LIFE,
    ),
    Route(
        "POST", f"{_WORKFLOW}/auto_tune_resource_requirements", "auto_tune_resource_requirements", auto_tune,
        "Let one job of each kind run to be measured.", response=torc_answers.Message, tags=_LIFE,
    ),
    Route(
        "POST", f"{_WORKFLOW}/process_auto_tune_resource_requirements_results",
        "process_auto_tune_resource_requirements_results", process_auto_tune,
        "Write what the measured jobs took into their requirements.", response=torc_answers.Message, tags=_LIFE,
    ),
    Route(
        "GET", f"{_WORKFLOW}/dot_graph/{{name}}", "get_dot_graph", get_dot_graph,
        "Return a graph of the workflow in the DOT language.", response=torc_answers.Graph, tags=_LIFE,
    ),
)  # fmt: skip
