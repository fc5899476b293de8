"""Every way in which a specification can be wrong has its own text, at its own line."""

from __future__ import annotations

import pytest

from lading.toolkit.domain.spec_reader import read_specification
from lading.toolkit.domain.tree import Node
from lading.toolkit.errors import BadInput, Violation
from lading.toolkit.specfile import load


def violations(text: str, *, null_is_absent: bool = True) -> tuple[Violation, ...]:
    root = load(text, "yaml", "flow.yaml")
    with pytest.raises(BadInput) as caught:
        read_specification(root, exists=lambda _: False, null_is_absent=null_is_absent)
    return caught.value.violations


def lines(text: str, *, null_is_absent: bool = True) -> list[str]:
    found = violations(text, null_is_absent=null_is_absent)
    return [f"{violation.line}:{violation.column} {violation}" for violation in found]


def job(*fields: str) -> str:
    """Return a document of one job; its fields start at line 4."""
    return "\n".join(["jobs:", "- name: a", "  command: run", *(f"  {field}" for field in fields)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The shape.
        ("", "1:1 Expected a mapping of fields, found nothing (null)."),
        ("[]", "1:1 Expected a mapping of fields, found a list."),
        ("jobs: []", "1:7 jobs: The workflow has no jobs; at least one is needed."),
        ("name: x", "1:1 jobs: The workflow has no jobs; at least one is needed."),
        ("jobs:", "1:6 jobs: The workflow has no jobs; at least one is needed."),
        ("jobs: {a: 1}", "1:7 jobs: Expected a list of jobs, found a mapping."),
        ("jobs: [a]", "1:8 jobs[0]: Expected a mapping of fields, found the text 'a'."),
        (job() + "\ntimestamp: x", "4:1 timestamp: There is no field 'timestamp' here."),
        ("jbos: []\n" + job(), "1:1 jbos: There is no field 'jbos' here. Did you mean 'jobs'?"),
        (job("comand: x"), "4:3 jobs[0].comand: There is no field 'comand' here. Did you mean 'command'?"),
        (job("Retries: 1"), "4:3 jobs[0].Retries: There is no field 'Retries' here. Did you mean 'retries'?"),
        ("jobs:\n- name: a", "2:3 jobs[0].command: The field 'command' is missing; it is required here."),
        ("jobs:\n- command: a", "2:3 jobs[0].name: The field 'name' is missing; it is required here."),
        ("jobs:\n- name: a\n  command:", "3:11 jobs[0].command: The field 'command' is missing; it is required here."),
        # Single values.
        ("jobs:\n- name: 7\n  command: x", "2:9 jobs[0].name: Expected a text, found the number 7; put it into quotes."),
        ("jobs:\n- name: ''\n  command: x", "2:9 jobs[0].name: The text is empty; leave the field out if there is nothing to say."),
        ('jobs:\n- name: "a\\nb"\n  command: x', r"2:9 jobs[0].name: 'a\nb' has a line break or another control character; accepted is one line of text."),
        ("jobs:\n- name: a\n  command: true", "3:12 jobs[0].command: Expected a text, found the boolean true; put it into quotes."),
        ("jobs:\n- name: a\n  command: '  '", "3:12 jobs[0].command: The command is blank; give a program and its arguments."),
        ("jobs:\n- name: a\n  command: echo 'x", "3:12 jobs[0].command: The command \"echo 'x\" cannot be split into words: a quote is not closed."),
        ("jobs:\n- name: a\n  command: echo x\\", r"3:12 jobs[0].command: The command 'echo x\\' cannot be split into words: the last backslash escapes nothing."),
        ("jobs:\n- name: a\n  command: \"'' x\"", "3:12 jobs[0].command: The command \"'' x\" names an empty program."),
        (job("key: a/b"), "4:8 jobs[0].key: The key 'a/b' is refused; accepted are at most 254 of the characters A-Z a-z 0-9 _-:.@()+,=;$!*'%."),
        (job("retries: -1"), "4:12 jobs[0].retries: Expected a whole number from 0 to 1000, found the number -1."),
        (job("retries: 1.5"), "4:12 jobs[0].retries: Expected a whole number from 0 to 1000, found the number 1.5."),
        (job("priority: high"), "4:13 jobs[0].priority: Expected a whole number from -2147483647 to 2147483647, found the text 'high'."),
        (job("supports_termination: yes"), "4:25 jobs[0].supports_termination: Expected true or false, found the text 'yes'."),
        (job("stdout: separat"), "4:11 jobs[0].stdout: Expected one of separate, merge, none, found the text 'separat'. Did you mean 'separate'?"),
        (job("stdout: 3"), "4:11 jobs[0].stdout: Expected one of separate, merge, none, found the number 3."),
        (job("env: [A]"), "4:8 jobs[0].env: Expected a mapping of environment variables, found a list."),
        (job("env: {A=B: x}"), "4:9 jobs[0].env.A=B: The name 'A=B' is refused: it must not be empty, nor have '=' or control characters."),
        (job("env: {A: 1.5}"), "4:12 jobs[0].env.A: Expected a text, found the number 1.5; put it into quotes."),
        (job("resources: {licence: 0}"), "4:24 jobs[0].resources.licence: Expected a number greater than 0, found the number 0."),
        (job("workdir: ''"), "4:12 jobs[0].workdir: The text is empty; leave the field out if there is nothing to say."),
        (job("time_request: [1]"), "4:17 jobs[0].time_request: Expected a duration, such as 'PT2H30M' or '2h30m', found a list."),
        (job("time_request: 0s"), "4:17 jobs[0].time_request: '0s' is nothing; accepted is more than zero."),
        (job("input_files: raw"), "4:16 jobs[0].input_files: Expected a list of names of files, found the text 'raw'. Did you mean '[raw]'?"),
        (job("output_files: [{name: f, arg: x}]") + "\nfiles: [{name: f, path: x}]", "4:28 jobs[0].output_files[0].arg: There is no field 'arg' here. Did you mean 'cli_arg'?"),
        (job("blocked_by: [1]"), "4:16 jobs[0].blocked_by[0]: Expected a text, found the number 1; put it into quotes."),
        (job() + "\nconfig: {lease_seconds: 1}", "4:25 config.lease_seconds: Expected a number of at least 5, found the number 1."),
        (job() + "\nconfig: {on_suspend: stop}", "4:22 config.on_suspend: Expected one of wait, requeue, found the text 'stop'."),
        (job() + "\nconfig: {memory_limit_policy: kil}", "4:31 config.memory_limit_policy: Expected one of off, warn, kill, found the text 'kil'. Did you mean 'kill'?"),
        (job() + "\nconfig: {compute_node_resource_stats: {cpus: true}}", "4:40 config.compute_node_resource_stats.cpus: There is no field 'cpus' here. Did you mean 'cpu'?"),
        (job() + "\nschedulers: {slurm_schedulers: [{account: a, nodes: 1, on_cannot_start: kep}]}", "4:73 schedulers.slurm_schedulers[0].on_cannot_start: Expected one of cancel, keep, found the text 'kep'. Did you mean 'keep'?"),
        (job() + "\nschedulers: {slurm_schedulers: [{account: a, nodes: 1, submit: pyslrm}]}", "4:64 schedulers.slurm_schedulers[0].submit: Expected one of sbatch, pyslurm, found the text 'pyslrm'. Did you mean 'pyslurm'?"),
        (job() + "\nuser_data: [{name: d, data: 5}]", "4:29 user_data[0].data: Expected a mapping (a JSON object), found the number 5."),
        (job() + "\nfiles: [{name: f}]", "4:9 files[0].path: The field 'path' is missing; it is required here."),
        (job() + "\nfiles: [{path: f, st_mtime: -1}]", "4:29 files[0].st_mtime: Expected a number of at least 0, found the number -1."),
        # References.
        (job("input_files: [x]"), "4:17 jobs[0].input_files[0]: There is no file named 'x'; accepted: none: the document has no files."),
        (job("blocked_by: [b]"), "4:16 jobs[0].blocked_by[0]: There is no job named 'b'; accepted: 'a'."),
        (job("input_user_data: [sead]") + "\nuser_data: [{name: seed}]", "4:21 jobs[0].input_user_data[0]: There is no user data named 'sead'; accepted: 'seed'. Did you mean 'seed'?"),
        (job("resource_requirements: larg") + "\nresource_requirements: [{name: large}]", "4:26 jobs[0].resource_requirements: There are no resource requirements named 'larg'; accepted: 'large'. Did you mean 'large'?"),
        (job("scheduler: gpu") + "\nschedulers: {local_schedulers: [{name: gpu}]}", "4:14 jobs[0].scheduler: There is no scheduler 'gpu' (COLLECTION/NAME); accepted: 'local_schedulers/gpu'. Did you mean 'local_schedulers/gpu'?"),
        (job("schedule_compute_nodes: {scheduler_id: slurm_schedulers/x, num_jobs: 1}"), "4:42 jobs[0].schedule_compute_nodes.scheduler_id: There is no scheduler 'slurm_schedulers/x' (COLLECTION/NAME); accepted: none: the document has no schedulers."),
        # Names taken twice.
        (job() + "\n- name: a\n  command: y", "4:9 jobs[1].name: The name 'a' is taken: jobs[0] (line 2) is a job of this name too."),
        (job() + "\nfiles:\n- {name: f, path: x}\n- {name: f, path: y}", "6:10 files[1].name: The name 'f' is taken: files[0] (line 5) is a file of this name too."),
        (job() + "\nuser_data: [{name: d}, {name: d}]", "4:31 user_data[1].name: The name 'd' is taken: user_data[0] (line 4) has it too."),
        (job() + "\nresource_requirements: [{name: r}, {name: r}]", "4:43 resource_requirements[1].name: The name 'r' is taken: resource_requirements[0] (line 4) has it too."),
        (job() + "\nschedulers: {local_schedulers: [{num_cpus: 1}, {name: default}]}", "4:55 schedulers.local_schedulers[1].name: The name 'default' is taken: schedulers.local_schedulers[0] (line 4) is a scheduler of this name too."),
        # Jobs and files together.
        (job("blocked_by: [a]"), "4:16 jobs[0].blocked_by[0]: Job 'a' is blocked by itself."),
        (job("input_files: [f]", "output_files: [f]") + "\nfiles: [{name: f, path: x}]", "4:17 jobs[0].input_files[0]: Job 'a' both needs and produces file 'f', so it would wait for itself; give the result another name."),
        (job("input_user_data: [d]", "output_user_data: [d]") + "\nuser_data: [{name: d}]", "4:21 jobs[0].input_user_data[0]: Job 'a' both needs and produces user data 'd', so it would wait for itself; give the result another name."),
        (job("output_files: [f]") + "\n- {name: b, command: y, output_files: [f]}\nfiles: [{name: f, path: x}]", "5:40 jobs[1].output_files[0]: File 'f' has two producers, 'a' and 'b'; one thing is produced by one job."),
        (job("output_user_data: [d]") + "\n- {name: b, command: y, output_user_data: [d]}\nuser_data: [{name: d}]", "5:44 jobs[1].output_user_data[0]: User data 'd' has two producers, 'a' and 'b'; one thing is produced by one job."),
        (job("input_files: [f]") + "\nfiles: [{name: f, path: in/x}]", "4:17 jobs[0].input_files[0]: File 'f' does not exist at 'in/x', and no job produces it."),
        (job("output_files: [f]") + "\nfiles: [{name: f, path: out/x}, {name: g, path: ./out//x}]", "5:49 files[1].path: Two files have one path, './out//x': 'f' and 'g'; a path that a job writes needs one name, or nothing waits for it."),
        # Circles.
        (job("blocked_by: [b]") + "\n- {name: b, command: y, blocked_by: [a]}", "2:3 jobs[0]: These jobs wait for each other in a cycle: 'a' → 'b' (blocked_by) → 'a' (blocked_by)."),
        (job("output_files: [f]", "blocked_by: [b]") + "\n- {name: b, command: y, input_files: [f]}\nfiles: [{name: f, path: x}]", "2:3 jobs[0]: These jobs wait for each other in a cycle: 'a' → 'b' (file 'f') → 'a' (blocked_by)."),
        (job("output_user_data: [d]", "input_user_data: [e]") + "\n- {name: b, command: y, input_user_data: [d], output_user_data: [e]}\nuser_data: [{name: d}, {name: e}]", "2:3 jobs[0]: These jobs wait for each other in a cycle: 'a' → 'b' (user data 'd') → 'a' (user data 'e')."),
    ],
)  # fmt: skip
def test_one_mistake_gives_one_violation(text: str, expected: str) -> None:
    assert lines(text) == [expected]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("memory: 1.5g", "4:43 resource_requirements[0].memory: '1.5g' is not a memory size. Accepted is a whole number of bytes, or one followed by k, m, g or t (powers of 1024), such as '512m'. Did you mean '1536m'?"),
        ("memory: 512", "4:43 resource_requirements[0].memory: Expected a memory size in quotes, such as '512m', found the number 512."),
        ("memory: 0g", "4:43 resource_requirements[0].memory: '0g' is nothing; accepted is more than zero."),
        ("runtime: P1M", "4:44 resource_requirements[0].runtime: 'P1M' counts years or months, whose length is not fixed: count days or weeks. Accepted is ISO 8601 with weeks, days, hours, minutes, seconds ('PT2H30M'), or '2h30m', '90s', '1d12h'. Did you mean 'PT1M'?"),
        ("runtime: 90", "4:44 resource_requirements[0].runtime: '90' has no unit: write '90s' for seconds or '90m' for minutes. Accepted is ISO 8601 with weeks, days, hours, minutes, seconds ('PT2H30M'), or '2h30m', '90s', '1d12h'."),
        ("num_cpus: 0", "4:45 resource_requirements[0].num_cpus: Expected a whole number from 1 to 2147483647, found the number 0."),
        ("num_gpus: -1", "4:45 resource_requirements[0].num_gpus: Expected a whole number from 0 to 2147483647, found the number -1."),
        ("num_nodes: many", "4:46 resource_requirements[0].num_nodes: Expected a whole number from 1 to 2147483647, found the text 'many'."),
    ],
)  # fmt: skip
def test_requirements(field: str, expected: str) -> None:
    assert lines(f"{job()}\nresource_requirements: [{{name: r, {field}}}]") == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("nodes: 1", "4:33 schedulers.slurm_schedulers[0].account: The field 'account' is missing; it is required here."),
        ("account: x", "4:33 schedulers.slurm_schedulers[0].nodes: The field 'nodes' is missing; it is required here."),
        ("account: x, nodes: 0", "4:53 schedulers.slurm_schedulers[0].nodes: Expected a whole number from 1 to 2147483647, found the number 0."),
        ("account: x, nodes: 1, walltime: 4h", "4:66 schedulers.slurm_schedulers[0].walltime: '4h' is not a wall time. Accepted is [DAYS-]HOURS:MINUTES:SECONDS, such as '04:00:00' or '1-12:00:00'. Did you mean '04:00:00'?"),
        ("account: x, nodes: 1, walltime: 60", "4:66 schedulers.slurm_schedulers[0].walltime: Expected a wall time in quotes, such as '04:00:00', found the number 60."),
        ("account: x, nodes: 1, mem: 1024", "4:61 schedulers.slurm_schedulers[0].mem: Expected a text, found the number 1024; put it into quotes."),
    ],
)  # fmt: skip
def test_slurm_schedulers(fields: str, expected: str) -> None:
    assert lines(f"{job()}\nschedulers: {{slurm_schedulers: [{{{fields}}}]}}") == [expected]


def test_all_violations_come_at_once_in_the_order_of_the_file() -> None:
    text = "jobs:\n- name: a\n  comand: x\n  command: y\n  blocked_by: [b, c]\n- name: a\n  command: ''\n"
    assert [violation.line for violation in violations(text)] == [3, 5, 5, 6, 7]


def test_a_violation_says_what_was_found_and_what_is_accepted() -> None:
    (violation,) = violations(job("stdout: separat"))
    assert (violation.path, violation.value, violation.accepted, violation.suggestion) == (
        "jobs[0].stdout",
        "separat",
        "separate, merge, none",
        "separate",
    )


def test_json_bodies_have_paths_without_lines() -> None:
    with pytest.raises(BadInput) as caught:
        read_specification(Node.from_plain({"jobs": [{"name": "a", "command": "x", "blocked_by": ["b"]}]}))
    (violation,) = caught.value.violations
    assert (violation.path, violation.line) == ("jobs[0].blocked_by[0]", None)


def test_null_is_refused_on_the_wire_where_it_means_nothing() -> None:
    text = job("resource_requirements:", "scheduler:", "invocation_script:", "schedule_compute_nodes:")
    assert lines(text, null_is_absent=False) == [
        "4:3 jobs[0].resource_requirements: The field is null; give it a value or leave it out."
    ]


def test_separate_circles_are_all_named() -> None:
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
    text = "jobs:\n" + "\n".join(f"- {{name: {name}, command: x, blocked_by: [{by}]}}" for name, by in pairs)
    assert lines(text) == [
        "2:3 jobs[0]: These jobs wait for each other in a cycle: 'a' → 'b' (blocked_by) → 'a' (blocked_by).",
        "4:3 jobs[2]: These jobs wait for each other in a cycle: 'c' → 'd' (blocked_by) → 'c' (blocked_by).",
    ]


def test_a_long_circle_is_cut() -> None:
    jobs = [{"name": f"j{i}", "command": "x", "blocked_by": [f"j{(i - 1) % 5_000}"]} for i in range(5_000)]
    with pytest.raises(BadInput) as caught:
        read_specification(Node.from_plain({"jobs": jobs}))
    assert str(caught.value).endswith("→ 'j9' (blocked_by) → 4990 more jobs → 'j0' (blocked_by).")


def test_a_mistake_in_every_job_does_not_make_a_message_without_end() -> None:
    jobs = [{"name": f"j{i}", "command": "x", "blocked_by": [f"k{i}"]} for i in range(5_000)]
    with pytest.raises(BadInput) as caught:
        read_specification(Node.from_plain({"jobs": jobs}))
    assert len(caught.value.violations) == 201
    assert str(caught.value).endswith("There may be more: reading stopped after 200 violations.")


def test_one_missing_input_is_named_once() -> None:
    text = "files: [{name: f, path: x}]\njobs:\n" + "\n".join(
        f"- {{name: j{i}, command: x, input_files: [f]}}" for i in range(3)
    )
    assert lines(text) == [
        "3:40 jobs[0].input_files[0]: File 'f' does not exist at 'x', and no job produces it."
    ]


def test_a_list_that_cannot_be_read_is_the_only_mistake() -> None:
    fields = ("input_files: [f]", "resource_requirements: r", "input_user_data: [d]")
    text = job(*fields) + "\nfiles: {f: x}\nresource_requirements: r\nuser_data: 3"
    assert [violation.path for violation in violations(text)] == [
        "files",
        "resource_requirements",
        "user_data",
    ]
