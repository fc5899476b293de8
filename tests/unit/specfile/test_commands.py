"""Workflows from plain command lines."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.domain.spec import ResourceRequirements
from lading.toolkit.domain.spec_reader import read_specification
from lading.toolkit.domain.tree import Node
from lading.toolkit.errors import BadInput
from lading.toolkit.specfile import from_command, from_commands, shell_word


def test_one_job_a_line_without_blanks_and_comments() -> None:
    lines = ["# a sweep\n", "\n", "  run 1\n", "run '2 3'\n", "   # more\n", "run 4"]
    specification = from_commands(lines, name="sweep")
    assert specification.name == "sweep"
    assert [(job.name, job.command) for job in specification.jobs] == [
        ("job1", "run 1"),
        ("job2", "run '2 3'"),
        ("job3", "run 4"),
    ]


def test_requirements_are_those_of_every_job() -> None:
    requirements = ResourceRequirements(name="each", num_cpus=2, memory="1g")
    specification = from_commands(["a", "b"], name="x", requirements=requirements)
    assert {job.resource_requirements for job in specification.jobs} == {"each"}
    assert read_specification(Node.from_plain(specification.to_document())) == specification


def test_all_bad_lines_are_named() -> None:
    with pytest.raises(BadInput) as caught:
        from_commands(["ok", "echo 'x", "echo a > b", "a\0b"], name="x", source="jobs.txt")
    assert str(caught.value).splitlines() == [
        'jobs.txt:2: The command "echo \'x" cannot be split into words: a quote is not closed.',
        (
            "jobs.txt:3: The line has '>', which only a shell understands, and commands run without one; "
            "write it as one argument of a shell, or quote '>' to pass it on. "
            "Did you mean \"bash -c 'echo a > b'\"?"
        ),
        "jobs.txt:4: The text has a NUL character at position 2; accepted is valid UTF-8 without NUL.",
    ]


def test_a_file_without_commands_is_refused() -> None:
    with pytest.raises(BadInput, match="There are no commands: every line is blank or a comment"):
        from_commands(["", "# nothing"], name="x")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("a | b", "|"), ("a > b", ">"), ("a >> b", ">>"), ("a && b", "&&"), ("a; b", ";"), ("a &", "&"), ("a 2>b", ">"),
        ("bash -c 'a | b'", None), ('echo ">"', None), ("echo it\\>", None), ("curl 'x?a=1&b=2'", None), ("run #3", None), ("a $HOME", "$HOME"), ("a $(b)", "$("),
        ("a `b`", "`"), ("a '$HOME'", None), ("costs 5$", None),
    ],
)  # fmt: skip
def test_what_only_a_shell_understands(line: str, word: str | None) -> None:
    assert shell_word(line) == word


def test_one_command_is_quoted_as_it_was_given() -> None:
    specification = from_command(["/usr/bin/python3", "-c", "print('a | b')"])
    assert specification.name == "python3"
    assert specification.jobs[0].name == "python3"
    assert shlex.split(specification.jobs[0].command) == ["/usr/bin/python3", "-c", "print('a | b')"]


@pytest.mark.parametrize("argv", [[], [""], ["  "]])
def test_no_command_is_refused(argv: list[str]) -> None:
    with pytest.raises(BadInput, match="There is no command; give a program and its arguments"):
        from_command(argv)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_arguments_arrive_unchanged(argv: list[str]) -> None:
    argv[0] = argv[0].strip() or "run"
    specification = from_command(argv)
    assert shlex.split(specification.jobs[0].command) == argv
    assert read_specification(Node.from_plain(specification.to_document())) == specification
