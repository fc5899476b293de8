"""What a right specification means, and that it survives its way to the server."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain import spec, spec_rules
from lading.toolkit.domain.spec import JobSpecification, Specification
from lading.toolkit.domain.spec_reader import read_specification
from lading.toolkit.domain.tree import Node
from lading.toolkit.domain.values import format_duration, format_memory, format_walltime
from lading.toolkit.errors import BadInput


def read(document: dict[str, Any], **options: bool) -> Specification:
    return read_specification(Node.from_plain(document), **options)  # type: ignore[arg-type]


def read_job(**fields: Any) -> JobSpecification:
    return read({"jobs": [{"name": "a", "command": "run", **fields}]}).jobs[0]


def test_a_torc_document_is_read() -> None:
    document = {
        "name": "tiles", "user": "ana", "description": "split, render twice, merge",
        "files": [{"name": "map", "path": "in/map.tif"}, {"name": "west", "path": "out/west.bin"}],
        "user_data": [{"name": "palette", "data": {"depth": 8}}, {"name": "server", "is_ephemeral": True}],
        "resource_requirements": [{"name": "fat", "num_cpus": 16, "num_gpus": 1, "memory": "60g", "runtime": "P0DT2H"}],
        "schedulers": {"slurm_schedulers": [
            {"name": "gpu", "account": "acct1", "nodes": 1, "gres": "gpu:1", "walltime": "04:00:00"}]},
        "jobs": [
            {"name": "split", "command": "./split in/map.tif", "input_files": ["map"], "output_files": ["west"]},
            {"name": "render", "command": "./render out/west.bin", "invocation_script": "bash env.sh",
             "resource_requirements": "fat", "scheduler": "slurm_schedulers/gpu", "supports_termination": True,
             "input_files": ["west"], "input_user_data": ["palette"], "blocked_by": ["split"],
             "cancel_on_blocking_job_failure": False}],
        "config": {"compute_node_resource_stats": {"process": True}, "worker_startup_script": "bash warm.sh"},
    }  # fmt: skip
    specification = read(document)
    assert specification.to_document() == document
    assert specification.resource_requirements[0].memory_bytes == 60 * 2**30
    assert specification.resource_requirements[0].runtime_seconds == 7_200
    assert specification.config.compute_node_resource_stats.process
    assert specification.config.compute_node_expiration_buffer_seconds == 120


def test_a_job_may_name_a_later_one() -> None:
    jobs = [{"name": "a", "command": "x", "blocked_by": ["b"]}, {"name": "b", "command": "y"}]
    assert read({"jobs": jobs}).jobs[0].blocked_by == ("b",)


def test_what_looks_like_a_number_or_boolean_is_one() -> None:
    job = read_job(retries="4", priority=2.0, supports_termination="true")
    assert (job.retries, job.priority, job.supports_termination) == (4, 2, True)


def test_null_counts_as_left_out_where_torc_allows_it() -> None:
    fields = {"invocation_script": None, "scheduler": None, "schedule_compute_nodes": None}
    assert read_job(**fields) == read_job()
    assert read_job(scheduler="") == read_job()


def test_null_in_a_file_counts_as_left_out_everywhere() -> None:
    document = {"user": None, "files": None, "jobs": [{"name": "a", "command": "x", "retries": None}]}
    assert read(document, null_is_absent=True) == read({"jobs": [{"name": "a", "command": "x"}]})


def test_data_keeps_its_nulls() -> None:
    document = {"user_data": [{"name": "d", "data": {"a": None}}], "jobs": [{"name": "a", "command": "x"}]}
    assert read(document, null_is_absent=True).user_data[0].data == {"a": None}


def test_a_template_without_jobs_is_read_on_request() -> None:
    assert read({}, may_have_no_jobs=True) == Specification()
    assert read({"jobs": []}, may_have_no_jobs=True) == Specification()


def test_ids_of_exported_documents_are_ignored() -> None:
    file = {"path": "x", "_key": "1", "_id": "files__1/1", "_rev": "_a"}
    specification = read({"files": [file], "jobs": [{"name": "a", "command": "x"}]})
    assert specification.files == (spec.FileSpecification(name="x", path="x"),)


def test_a_file_reference_may_be_an_argument_of_the_command() -> None:
    document = {
        "files": [{"name": "in", "path": "my data.csv"}, {"name": "out", "path": "out.csv"}],
        "jobs": [{
            "name": "a", "command": "run",
            "input_files": [{"name": "in", "cli_arg": "--in"}],
            "output_files": [{"name": "out", "cli_arg": "-o"}, "out"],
        }],
    }  # fmt: skip
    (job,) = read(document).jobs
    assert job.command == "run '--in=my data.csv' -o=out.csv"
    assert (job.input_files, job.output_files) == (("in",), ("out",))


def test_names_given_twice_count_once() -> None:
    document = {
        "files": [{"path": "x"}],
        "jobs": [{"name": "a", "command": "x"}, {"name": "b", "command": "y", "blocked_by": ["a", "a"], "input_files": ["x", "x"]}],
    }  # fmt: skip
    job = read(document).jobs[1]
    assert (job.blocked_by, job.input_files) == (("a",), ("x",))


def test_whole_numbers_are_values_of_variables() -> None:
    assert read_job(env={"THREADS": 4, "EMPTY": "", "TEXT": "a\nb"}).env == {
        "THREADS": "4",
        "EMPTY": "",
        "TEXT": "a\nb",
    }


def test_durations_become_iso_8601_where_torc_could_not_read_them() -> None:
    requirements = [{"name": "r", "runtime": "2h30m"}]
    specification = read({"resource_requirements": requirements, "jobs": [{"name": "a", "command": "x"}]})
    assert specification.resource_requirements[0].runtime == "P0DT2H30M0S"
    assert read_job(time_request="90s").time_request == 90
    assert spec.to_document(read_job(time_request="90s"))["time_request"] == "P0DT0H1M30S"


def test_an_existing_input_is_no_violation() -> None:
    document = {"files": [{"path": "raw"}], "jobs": [{"name": "a", "command": "x", "input_files": ["raw"]}]}
    asked: list[str] = []

    def exists(path: str) -> bool:
        asked.append(path)
        return True

    read_specification(Node.from_plain(document), exists=exists)
    assert asked == ["raw"]


def test_barriers_of_thousands_of_jobs_are_linear() -> None:
    count = 2_000
    files = [{"path": f"f{index}"} for index in range(count)]
    names = [file["path"] for file in files]
    jobs = [{"name": f"p{name}", "command": "x", "output_files": [name]} for name in names]
    jobs += [{"name": f"c{index}", "command": "x", "input_files": names} for index in range(200)]
    started = time.process_time()
    read({"files": files, "jobs": jobs})
    # 400 000 needs; as edges between jobs with a search each this takes minutes.
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (spec.Specification, spec_rules.SPECIFICATION),
        (spec.JobSpecification, spec_rules.JOB),
        (spec.FileSpecification, spec_rules.FILE),
        (spec.UserDataSpecification, spec_rules.USER_DATA),
        (spec.ResourceRequirements, spec_rules.RESOURCE_REQUIREMENTS),
        (spec.Schedulers, spec_rules.SCHEDULERS),
        (spec.AwsScheduler, spec_rules.AWS_SCHEDULER),
        (spec.LocalScheduler, spec_rules.LOCAL_SCHEDULER),
        (spec.SlurmScheduler, spec_rules.SLURM_SCHEDULER),
        (spec.ScheduleComputeNodes, spec_rules.SCHEDULE_COMPUTE_NODES),
        (spec.WorkflowConfig, spec_rules.CONFIG),
        (spec.ResourceStatistics, spec_rules.RESOURCE_STATISTICS),
    ],
)
def test_rules_and_objects_have_the_same_fields(kind: type[Any], rules: dict[str, Any]) -> None:
    accepted = [name for name in rules if not name.startswith("_")]
    assert sorted(accepted) == sorted(item.name for item in dataclasses.fields(kind))


LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
COMMAND = st.lists(LINE.map(lambda word: "".join(word.split()) or "x"), min_size=1, max_size=3).map(
    lambda words: " ".join(word.translate({ord(character): "_" for character in "'\"\\"}) for word in words)
)
DURATION = st.floats(0.001, 10**8).map(format_duration)
MEMORY = st.integers(1, 2**50).map(format_memory)
COUNT = st.integers(1, 2**31 - 1)


@st.composite
def specifications(draw: st.DrawFn) -> Specification:
    """Draw right specifications: jobs wait for earlier ones only, and each thing has one producer."""
    names = draw(st.lists(LINE, min_size=1, max_size=5, unique=True))
    file_names = draw(st.lists(LINE, max_size=5, unique=True))
    data_names = draw(st.lists(LINE, max_size=3, unique=True))
    requirement_names = draw(st.lists(LINE, max_size=2, unique=True))
    local_names = draw(st.lists(LINE, max_size=2, unique=True))
    producer = {name: draw(st.integers(0, len(names))) for name in file_names}
    keeper = {name: draw(st.integers(0, len(names))) for name in data_names}
    jobs = []
    for index, name in enumerate(names):
        inputs = [
            file
            for file in file_names
            if producer[file] != index and (producer[file] < index or producer[file] == len(names))
        ]
        reads = [item for item in data_names if keeper[item] < index or keeper[item] == len(names)]
        schedulers = (
            st.none()
            if not local_names
            else st.sampled_from([f"local_schedulers/{local}" for local in local_names])
        )
        scheduler = draw(schedulers)
        jobs.append(
            JobSpecification(
                name=name,
                command=draw(COMMAND),
                invocation_script=draw(st.none() | COMMAND),
                cancel_on_blocking_job_failure=draw(st.booleans()),
                supports_termination=draw(st.booleans()),
                scheduler=scheduler,
                schedule_compute_nodes=None
                if scheduler is None
                else draw(
                    st.none()
                    | st.builds(
                        spec.ScheduleComputeNodes,
                        scheduler_id=st.just(scheduler),
                        num_jobs=COUNT,
                        max_parallel_jobs=st.none() | COUNT,
                        start_one_worker_per_node=st.booleans(),
                    )
                ),
                input_files=tuple(draw(st.lists(st.sampled_from(inputs), unique=True))) if inputs else (),
                output_files=tuple(file for file in file_names if producer[file] == index),
                input_user_data=tuple(draw(st.lists(st.sampled_from(reads), unique=True))) if reads else (),
                output_user_data=tuple(item for item in data_names if keeper[item] == index),
                blocked_by=tuple(draw(st.lists(st.sampled_from(names[:index]), unique=True)))
                if index
                else (),
                resource_requirements=draw(st.sampled_from(requirement_names)) if requirement_names else None,
                priority=draw(st.integers(-100, 100)),
                retries=draw(st.integers(0, 1_000)),
                env=draw(st.dictionaries(LINE.filter(lambda text: "=" not in text), TEXT, max_size=2)),
                workdir=draw(st.none() | LINE),
                stdout=draw(st.sampled_from(get_args(spec.StreamMode))),
                resources=draw(
                    st.dictionaries(LINE.filter(lambda text: "=" not in text), st.floats(0.1, 9), max_size=2)
                ),
                time_request=draw(st.none() | st.integers(1, 10**12).map(lambda micro: micro / 1_000_000)),
            )
        )
    return Specification(
        name=draw(st.just("") | LINE),
        user=draw(st.just("") | LINE),
        description=draw(TEXT),
        key=draw(st.none() | st.just("my-key_1")),
        is_archived=draw(st.booleans()),
        jobs=tuple(jobs),
        files=tuple(
            spec.FileSpecification(name=name, path=f"dir/{index}", st_mtime=draw(st.none() | st.floats(0, 2**40)))
            for index, name in enumerate(file_names)
        ),
        user_data=tuple(
            spec.UserDataSpecification(
                name=name,
                is_ephemeral=draw(st.booleans()),
                data=draw(st.none() | st.dictionaries(TEXT, st.none() | st.integers(-9, 9) | TEXT, max_size=2)),
            )
            for name in data_names
        ),
        resource_requirements=tuple(
            draw(
                st.builds(
                    spec.ResourceRequirements,
                    name=st.just(name), num_cpus=COUNT, num_gpus=st.integers(0, 8), num_nodes=COUNT,
                    memory=MEMORY, runtime=DURATION,
                )
            )
            for name in requirement_names
        ),
        schedulers=spec.Schedulers(
            local_schedulers=tuple(
                spec.LocalScheduler(name=name, memory=draw(st.none() | MEMORY), num_cpus=draw(st.none() | COUNT))
                for name in local_names
            ),
            slurm_schedulers=tuple(
                draw(
                    st.lists(
                        st.builds(
                            spec.SlurmScheduler,
                            account=LINE, nodes=COUNT, gres=st.none() | LINE, qos=LINE,
                            walltime=st.none() | st.integers(1, 10**6).map(format_walltime),
                        ),
                        max_size=1,
                    )
                )
            ),
        ),
        config=draw(
            st.builds(
                spec.WorkflowConfig,
                workflow_startup_script=st.none() | COMMAND,
                workflow_completion_script=st.none() | COMMAND,
                worker_startup_script=st.none() | COMMAND,
                compute_node_resource_stats=st.builds(
                    spec.ResourceStatistics, process=st.booleans(), interval=st.floats(1, 60)
                ),
                compute_node_expiration_buffer_seconds=st.integers(0, 999),
                compute_node_wait_for_new_jobs_seconds=st.integers(0, 999),
                compute_node_wait_for_healthy_database_minutes=st.integers(0, 999),
                lease_seconds=st.none() | st.integers(5, 999),
            )
        ),
    )  # fmt: skip


@given(specifications())
def test_what_was_read_can_be_posted_and_is_the_same(specification: Specification) -> None:
    body = json.loads(json.dumps(specification.to_document()))
    assert read(body) == specification


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b", "x/y", "1m", "PT1M", "local_schedulers/a"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*spec_rules.SPECIFICATION, *spec_rules.JOB, *spec_rules.SCHEDULERS]), inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {
            "jobs": st.lists(
                st.dictionaries(st.sampled_from(list(spec_rules.JOB)), JSON, max_size=6), max_size=3
            )
        },
        optional={name: JSON for name in spec_rules.SPECIFICATION if name != "jobs"},
    )
)
def test_any_document_is_read_or_refused_with_paths(document: dict[str, Any]) -> None:
    try:
        read(document)
    except BadInput as error:
        assert error.violations  # noqa: PT017 - either outcome is right; only others are not
