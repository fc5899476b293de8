"""The published API as a table of our own, written from its reference and from nothing of the server.

Each row says how an endpoint is called, what its answer has, and what it must refuse. The checks are
in `test_endpoints` and `test_bad_input`; the workflow they are made in is `world.World`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "num": (int, float),
    "bool": (bool,),
    "object": (dict,),
    "list": (list,),
    "int|null": (int, type(None)),
}

MODELS: Mapping[str, str] = {
    "workflow": "name:str user:str description:str timestamp:str is_archived:bool",
    "config": "compute_node_resource_stats:object compute_node_expiration_buffer_seconds:int "
    "compute_node_wait_for_new_jobs_seconds:int compute_node_ignore_workflow_completion:bool "
    "compute_node_wait_for_healthy_database_minutes:int prepare_jobs_sort_method:str "
    "workflow_startup_script:str? workflow_completion_script:str? worker_startup_script:str?",
    "status": "run_id:int is_canceled:bool scheduled_compute_node_ids:list auto_tune_status:object "
    "has_detected_need_to_run_completion_script:bool?",
    "aws_schedulers": "name:str?",
    "local_schedulers": "name:str memory:str? num_cpus:int?",
    "slurm_schedulers": "name:str? account:str nodes:int gres:str? mem:str? ntasks_per_node:int? "
    "partition:str? qos:str tmp:str? walltime:str? extra:str?",
    "compute_nodes": "hostname:str pid:int start_time:str resources:object scheduler:object "
    "duration_seconds:num? is_active:bool?",
    "compute_node_stats": "hostname:str timestamp:str stats:list",
    "events": "timestamp:int category:str?",
    "files": "name:str? path:str st_mtime:num?",
    "jobs": "name:str? command:str status:str internal:object cancel_on_blocking_job_failure:bool "
    "supports_termination:bool invocation_script:str? schedule_compute_nodes:object?",
    "job_process_stats": "job_key:str run_id:int avg_cpu_percent:num max_cpu_percent:num avg_rss:num "
    "max_rss:num num_samples:int timestamp:str",
    "resource_requirements": "name:str? num_cpus:int num_gpus:int num_nodes:int memory:str runtime:str",
    "results": "job_key:str run_id:int return_code:int exec_time_minutes:num completion_time:str status:str",
    "scheduled_compute_nodes": "scheduler_id:str? scheduler_config_id:str status:str",
    "user_data": "name:str? is_ephemeral:bool data:object?",
    "edges": "_from:str _to:str data:object?",
}
"""Members of each document besides `_key`, `_id` and `_rev`; `?`: may be absent."""

OWN_MEMBERS: Mapping[str, frozenset[str]] = {
    "compute_nodes": frozenset({"state", "last_seen_ms", "started_ms"}),
    "scheduled_compute_nodes": frozenset({"created_ms"}),
    "events": frozenset({"type", "message", "job_key", "job_name", "node_name", "text"}),
}
"""What else may be there in the documents of the test: Lading's own members, and an event's free ones."""

ANSWERS: Mapping[str, str] = {
    "message": "message:str",
    "version": "version:str",
    "page": "items:list skip:int max_limit:int count:int total_count:int has_more:bool",
    "specification": "name:str user:str description:str jobs:list files:list "
    "resource_requirements:list schedulers:object config:object user_data:list?",
    "job_specification": "name:str command:str cancel_on_blocking_job_failure:bool? "
    "supports_termination:bool?",
    "items": "items:list",
    "is_complete": "is_canceled:bool is_complete:bool needs_to_run_completion_script:bool",
    "ready_job_requirements": "num_jobs:int num_cpus:int num_gpus:int memory_gb:num max_num_nodes:int "
    "max_runtime:str",
    "reinitialized": "reinitialized_jobs:list",
    "missing_user_data": "user_data:list",
    "required_files": "files:list",
    "claimed": "jobs:list",
    "claimed_with_reason": "jobs:list reason:str",
    "schedulers": "schedulers:list",
    "names": "names:list",
    "timestamp": "timestamp:int|null",
    "graph": "graph:str",
}

BODIES: Mapping[str, Json] = {
    "workflow": {"name": "new", "user": "ana"},
    "config": {"compute_node_wait_for_new_jobs_seconds": 9},
    "status": {"is_canceled": False, "run_id": 1, "auto_tune_status": {}},
    "aws_schedulers": {"name": "new"},
    "local_schedulers": {"name": "new", "num_cpus": 3},
    "slurm_schedulers": {"name": "new", "account": "acct", "nodes": 1, "walltime": "01:00:00"},
    "compute_nodes": {
        "hostname": "new", "pid": 7, "start_time": "2026-01-01T00:00:00",
        "resources": {"num_cpus": 2, "memory_gb": 2.5},
    },
    "compute_node_stats": {
        "hostname": "new", "timestamp": "2026-01-01T00:00:00",
        "stats": [{"resource_type": "CPU", "average": {}, "minimum": {}, "maximum": {}, "num_samples": 3}],
    },
    "events": {"category": "new", "text": "any"},
    "files": {"name": "new", "path": "out/new", "st_mtime": 1700000000.5},
    "jobs": {"name": "new", "command": "true"},
    "resource_requirements": {"name": "new", "num_cpus": 2, "memory": "2g", "runtime": "P0DT2H"},
    "user_data": {"name": "new", "is_ephemeral": True, "data": {"a": [1, "x"]}},
    "resources": {"num_cpus": 8, "memory_gb": 16, "num_gpus": 0, "num_nodes": 1, "time_limit": "P0DT4H"},
    "specification": {
        "name": "new", "user": "ana", "description": "d",
        "jobs": [{"name": "j", "command": "true", "input_files": ["f"]}],
        "files": [{"name": "f", "path": "f.txt"}],
    },
    "filter": {},
}  # fmt: skip
"""A valid body of each kind; those that name other documents are completed by the world."""

CHANGES: Mapping[str, Json] = {
    "aws_schedulers": {"name": "changed"},
    "local_schedulers": {"num_cpus": 5},
    "slurm_schedulers": {"partition": "debug"},
    "compute_nodes": {"is_active": False, "duration_seconds": 12.5},
    "compute_node_stats": {"hostname": "changed"},
    "events": {"text": "changed"},
    "files": {"path": "changed"},
    "jobs": {"command": "false"},
    "job_process_stats": {"num_samples": 77},
    "resource_requirements": {"num_cpus": 9},
    "results": {"return_code": 3},
    "scheduled_compute_nodes": {"scheduler_id": "99"},
    "user_data": {"data": {"changed": True}},
}
"""What a PUT of each kind changes in the document that it got."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the published reference."""

    method: str
    path: str
    operation_id: str
    answer: str
    """Name in ANSWERS or MODELS; `page of X`, `list of X`, `items of X` for many."""
    collection: str = ""
    """Whose document the last `{key}` names; also what its effect is looked for in."""
    body: str = ""
    """Name in BODIES; '': the call needs none."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Values of path parameters that name no document."""
    query: Mapping[str, str] = field(default_factory=dict)
    """A valid value of every query parameter."""
    bad: tuple[str, ...] = ()
    """Queries that must be refused with 400."""
    bad_values: Mapping[str, str] = field(default_factory=dict)
    """Path parameter -> value that must be refused with 400."""
    unknown_values: Mapping[str, str] = field(default_factory=dict)
    """Path parameter -> value that must be answered with 404."""


PAGING = {"skip": "0", "limit": "5"}
BAD_PAGING = ("limit=-1", "skip=-1", "limit=abc", "skip=1.5", "limit=9223372036854775808")
SORTING = {"sort_by": "_key", "reverse_sort": "true"}
BAD_SORTING = ("reverse_sort=perhaps",)

_W = "/workflows/{workflow}"
_K = "/workflows/{key}"


def six(
    collection: str, singular: str, plural: str, *filters: str, integers: tuple[str, ...] = (), booleans: tuple[str, ...] = ()
) -> tuple[Endpoint, ...]:  # fmt: skip
    """Return the endpoints that every collection of documents has."""
    base, one = f"{_W}/{collection}", f"{_W}/{collection}/{{key}}"
    query = {**PAGING, **SORTING, "_key": "1", **dict.fromkeys(filters, "x")}
    query |= dict.fromkeys(integers, "1") | dict.fromkeys(booleans, "true")
    bad: tuple[str, ...] = (*BAD_PAGING, *BAD_SORTING)
    bad += tuple(f"{name}=x" for name in (*integers, *booleans))
    return (
        Endpoint("GET", base, f"list_{plural}", f"page of {collection}", collection, query=query, bad=bad),
        Endpoint("POST", base, f"add_{singular}", collection, collection, body=collection),
        Endpoint("DELETE", base, f"delete_{plural}", "message", collection),
        Endpoint("GET", one, f"get_{singular}", collection, collection),
        Endpoint("PUT", one, f"modify_{singular}", collection, collection, body=collection),
        Endpoint("DELETE", one, f"remove_{singular}", collection, collection),
    )


_NEEDS = {"name": "needs"}
_EDGE = {"name": "no_such_edge"}
_RUN = {"run_id": "x"}
_FIRST_PAGE = {"skip": "0", "limit": "2"}

ENDPOINTS: tuple[Endpoint, ...] = (
    *six("aws_schedulers", "aws_scheduler", "aws_schedulers", "name"),
    *six("compute_nodes", "compute_node", "compute_nodes", "hostname", booleans=("is_active",)),
    *six("compute_node_stats", "compute_node_stats", "compute_node_stats", "hostname"),
    *six("events", "event", "events", "category"),
    *six("files", "file", "files", "name", "path"),
    *six("jobs", "job", "jobs", "name", "command", "status",
         booleans=("cancel_on_blocking_job_failure", "supports_termination")),
    *six("job_process_stats", "job_process_stats", "job_process_stats", "job_key", integers=("run_id",)),
    *six("local_schedulers", "local_scheduler", "local_schedulers", "memory", integers=("num_cpus",)),
    *six("resource_requirements", "resource_requirements", "resource_requirements", "name", "memory",
         "runtime", integers=("num_cpus", "num_gpus", "num_nodes")),
    *six("results", "result", "results", "job_key", "status", integers=("run_id", "return_code")),
    *six("scheduled_compute_nodes", "scheduled_compute_node", "scheduled_compute_nodes", "scheduler_id",
         "scheduler_config_id", "status"),
    *six("slurm_schedulers", "slurm_scheduler", "slurm_schedulers", "name", "account", "gres", "mem",
         "partition", "qos", "tmp", "walltime", integers=("nodes",)),
    *six("user_data", "user_data", "user_data", "name", booleans=("is_ephemeral",)),
    # edges
    Endpoint("GET", f"{_W}/edges/{{name}}", "list_edges", "page of edges", "needs", fixed=_NEEDS,
             query=PAGING, bad=BAD_PAGING, unknown_values=_EDGE),
    Endpoint("POST", f"{_W}/edges/{{name}}", "add_edge", "edges", "needs", body="edges", fixed=_NEEDS,
             unknown_values=_EDGE),
    Endpoint("DELETE", f"{_W}/edges/{{name}}", "delete_edges", "message", "needs", fixed=_NEEDS,
             unknown_values=_EDGE),
    Endpoint("GET", f"{_W}/edges/{{name}}/{{key}}", "get_edge", "edges", "needs", fixed=_NEEDS,
             unknown_values=_EDGE),
    Endpoint("DELETE", f"{_W}/edges/{{name}}/{{key}}", "remove_edge", "edges", "needs", fixed=_NEEDS,
             unknown_values=_EDGE),
    Endpoint("POST", f"{_K}/join_by_outbound_edge/{{collection}}/{{edge}}",
             "join_collections_by_outbound_edge", "page", "workflows", body="filter",
             fixed={"collection": "jobs", "edge": "needs"}, query=PAGING, bad=BAD_PAGING,
             bad_values={"collection": "nothing", "edge": "nothing"}),
    Endpoint("POST", f"{_K}/join_by_inbound_edge/{{collection}}/{{edge}}",
             "join_collections_by_inbound_edge", "page", "workflows", body="filter",
             fixed={"collection": "files", "edge": "needs"}, query=PAGING, bad=BAD_PAGING,
             bad_values={"collection": "jobs", "edge": "nothing"}),
    # around jobs
    Endpoint("POST", f"{_W}/bulk_jobs", "add_jobs", "items of jobs", "jobs", body="bulk_jobs"),
    Endpoint("GET", f"{_W}/job_keys", "list_job_keys", "items", "jobs"),
    Endpoint("GET", f"{_W}/jobs/find_by_status/{{status}}", "list_jobs_by_status", "page of jobs",
             "jobs", fixed={"status": "ready"}, query=_FIRST_PAGE, bad=BAD_PAGING),
    Endpoint("GET", f"{_W}/jobs/find_by_needs_file/{{key}}", "list_jobs_by_needs_file", "page of jobs",
             "files", query=_FIRST_PAGE, bad=BAD_PAGING),
    Endpoint("GET", f"{_W}/downstream_jobs/{{key}}", "list_downstream_jobs", "page of jobs", "jobs",
             query=_FIRST_PAGE, bad=BAD_PAGING),
    Endpoint("GET", f"{_W}/jobs/{{key}}/resource_requirements", "get_job_resource_requirements",
             "resource_requirements", "jobs"),
    Endpoint("PUT", f"{_W}/jobs/{{key}}/resource_requirements/{{rr_key}}",
             "modify_job_resource_requirements", "edges", "jobs"),
    Endpoint("GET", f"{_W}/jobs/{{key}}/process_stats", "get_process_stats_for_job",
             "list of job_process_stats", "jobs"),
    Endpoint("POST", f"{_W}/jobs/{{key}}/user_data", "add_job_user_data", "user_data", "jobs",
             body="user_data"),
    Endpoint("GET", f"{_W}/jobs/{{key}}/user_data_stores", "list_job_user_data_stores",
             "page of user_data", "jobs"),
    Endpoint("GET", f"{_W}/jobs/{{key}}/user_data_consumes", "list_job_user_data_consumes",
             "page of user_data", "jobs"),
    Endpoint("GET", f"{_W}/results/find_by_job/{{key}}", "get_latest_job_result", "results", "jobs"),
    Endpoint("GET", f"{_W}/files/produced_by_job/{{key}}", "list_files_produced_by_job", "page of files",
             "jobs", query=_FIRST_PAGE, bad=BAD_PAGING),
    Endpoint("GET", f"{_W}/job_specifications", "list_job_specifications", "page of job_specification",
             "jobs", query=_FIRST_PAGE, bad=BAD_PAGING),
    Endpoint("GET", f"{_W}/job_specifications/{{key}}", "get_job_specification", "job_specification",
             "jobs"),
    Endpoint("PUT", f"{_W}/jobs/{{key}}/start_job/{{rev}}/{{run_id}}/{{compute_node_key}}", "start_job",
             "jobs", "jobs", fixed={"run_id": "1"}, unknown_values=_RUN, bad_values={"run_id": "2"}),
    Endpoint("POST", f"{_W}/jobs/{{key}}/complete_job/{{status}}/{{rev}}/{{run_id}}/{{compute_node_key}}",
             "complete_job", "jobs", "jobs", body="completion", fixed={"run_id": "1", "status": "done"},
             unknown_values=_RUN, bad_values={"run_id": "2", "status": "ready"}),
    Endpoint("PUT", f"{_W}/jobs/{{key}}/manage_status_change/{{status}}/{{rev}}/{{run_id}}",
             "manage_status_change", "jobs", "jobs", fixed={"run_id": "1", "status": "disabled"},
             unknown_values=_RUN, bad_values={"run_id": "2", "status": "done", "rev": "_999"}),
    # specifications
    Endpoint("POST", "/workflow_specifications", "add_workflow_specification", "workflow",
             body="specification"),
    Endpoint("GET", "/workflow_specifications/{key}", "get_workflow_specification", "specification",
             "workflows"),
    Endpoint("GET", "/workflow_specifications/example", "get_workflow_specification_example",
             "specification"),
    Endpoint("GET", "/workflow_specifications/template", "get_workflow_specification_template",
             "specification"),
    # the service and workflows
    Endpoint("GET", "/ping", "ping", "message"),
    Endpoint("GET", "/version", "get_version", "version"),
    Endpoint("GET", "/workflows", "list_workflows", "page of workflow",
             query={**PAGING, **SORTING, "name": "x", "user": "x", "description": "x",
                    "is_archived": "false"},
             bad=(*BAD_PAGING, *BAD_SORTING, "is_archived=x")),
    Endpoint("POST", "/workflows", "add_workflow", "workflow", body="workflow"),
    Endpoint("GET", _K, "get_workflow", "workflow", "workflows"),
    Endpoint("PUT", _K, "modify_workflow", "workflow", "workflows", body="workflow"),
    Endpoint("DELETE", _K, "remove_workflow", "workflow", "workflows"),
    Endpoint("GET", f"{_K}/config", "get_workflow_config", "config", "workflows"),
    Endpoint("PUT", f"{_K}/config", "modify_workflow_config", "config", "workflows", body="config"),
    Endpoint("GET", f"{_K}/status", "get_workflow_status", "status", "workflows"),
    Endpoint("PUT", f"{_K}/status", "modify_workflow_status", "status", "workflows", body="status"),
    Endpoint("GET", f"{_K}/collection_names", "list_collection_names", "names", "workflows"),
    Endpoint("GET", f"{_K}/is_complete", "is_workflow_complete", "is_complete", "workflows"),
    Endpoint("GET", f"{_K}/ready_job_requirements", "get_ready_job_requirements",
             "ready_job_requirements", "workflows",
             bad=("scheduler_config_id=slurm_schedulers__1%2F1",)),
    Endpoint("GET", f"{_K}/missing_user_data", "list_missing_user_data", "missing_user_data", "workflows"),
    Endpoint("GET", f"{_K}/required_existing_files", "list_required_existing_files", "required_files",
             "workflows"),
    Endpoint("GET", f"{_K}/latest_event_timestamp", "get_latest_event_timestamp", "timestamp",
             "workflows"),
    Endpoint("GET", f"{_K}/events_after_timestamp/{{timestamp}}", "get_events_after_timestamp",
             "page of events", "workflows", fixed={"timestamp": "0"},
             query={"category": "job", "skip": "0", "limit": "5"}, bad=BAD_PAGING,
             unknown_values={"timestamp": "yesterday"}),
    Endpoint("GET", f"{_K}/dot_graph/{{name}}", "get_dot_graph", "graph", "workflows",
             fixed={"name": "job_job_dependencies"}, bad_values={"name": "no_such_graph"}),
    # what changes states
    Endpoint("POST", f"{_K}/initialize_jobs", "initialize_jobs", "message", "workflows",
             query={"only_uninitialized": "true", "clear_ephemeral_user_data": "false"},
             bad=("only_uninitialized=2", "clear_ephemeral_user_data=no")),
    Endpoint("POST", f"{_K}/reset_status", "reset_workflow_status", "message", "workflows"),
    Endpoint("POST", f"{_K}/reset_job_status", "reset_job_status", "message", "workflows",
             query={"failed_only": "true"}, bad=("failed_only=x",)),
    Endpoint("PUT", f"{_K}/cancel", "cancel_workflow", "message", "workflows"),
    Endpoint("POST", f"{_K}/process_changed_job_inputs", "process_changed_job_inputs", "reinitialized",
             "workflows", query={"dry_run": "true"}, bad=("dry_run=x",)),
    Endpoint("POST", f"{_K}/prepare_jobs_for_submission", "prepare_jobs_for_submission",
             "claimed_with_reason", "workflows", body="resources",
             query={"sort_method": "gpus_memory_runtime", "limit": "3"},
             bad=("limit=-1", "limit=x", "sort_method=by_name")),
    Endpoint("POST", f"{_K}/prepare_next_jobs_for_submission", "prepare_next_jobs_for_submission",
             "claimed", "workflows", query={"limit": "1"}, bad=("limit=-1", "limit=x")),
    Endpoint("POST", f"{_K}/prepare_jobs_for_scheduling", "prepare_jobs_for_scheduling", "schedulers",
             "workflows"),
    Endpoint("POST", f"{_K}/auto_tune_resource_requirements", "auto_tune_resource_requirements",
             "message", "workflows"),
    Endpoint("POST", f"{_K}/process_auto_tune_resource_requirements_results",
             "process_auto_tune_resource_requirements_results", "message", "workflows"),
)  # fmt: skip
"""All 136."""


def fields_of(model: str) -> Mapping[str, tuple[tuple[type, ...], bool]]:
    """Return member -> (accepted types, whether it may be absent)."""
    text = MODELS.get(model) or ANSWERS[model]
    if model in MODELS:
        text += " _key:str _id:str _rev:str _oldRev:str?"
    fields = {}
    for item in text.split():
        name, _, kind = item.partition(":")
        fields[name] = (KINDS[kind.removesuffix("?")], kind.endswith("?"))
    return fields


def check_shape(document: Any, model: str) -> None:
    """Check that a document has what the published reference says, and nothing unexplained."""
    assert isinstance(document, dict), document
    fields = fields_of(model)
    for name, (types, is_optional) in fields.items():
        if name not in document:
            assert is_optional, f"{model}.{name} is missing in {document}"
            continue
        value = document[name]
        # True is an integer for Python; for the clients it is none.
        is_right = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
        assert is_right, f"{model}.{name}: {value!r} is no {types}"
    if model in MODELS:
        unknown = document.keys() - fields.keys() - OWN_MEMBERS.get(model, frozenset())
        assert not unknown, f"{model} has {unknown}"


def check_answer(answer: Any, endpoint: Endpoint) -> None:
    """Check an answer, also of many documents."""
    many, _, model = endpoint.answer.rpartition(" of ")
    if not many:
        check_shape(answer, model)
        return
    if many != "list":
        check_shape(answer, many)
    items = answer if many == "list" else answer["items"]
    assert items, f"{endpoint.operation_id}: the test's workflow has some"
    for item in items:
        check_shape(item, model)
