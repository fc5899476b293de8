"""Formats by name, TOML, and files as they lie on a disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.toolkit.errors import BadInput
from lading.toolkit.specfile import format_of, load, load_file, read_file

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.yaml", "yaml"),
        ("b.c.YML", "yaml"),
        ("dir/a.json", "json"),
        ("a.json5", "json5"),
        ("a.toml", "toml"),
    ],
)
def test_the_name_says_the_format(name: str, format_: str) -> None:
    assert format_of(name) == format_


@pytest.mark.parametrize(("name", "found"), [("a.txt", "ends in '.txt'"), ("flow", "has no suffix")])
def test_other_names_are_refused_with_the_accepted_ones(name: str, found: str) -> None:
    with pytest.raises(BadInput) as caught:
        format_of(name)
    assert str(caught.value) == (
        f"The name of the specification {name!r} {found}; accepted are .yaml, .yml, .json, .json5, .toml."
    )


def test_toml() -> None:
    text = 'name = "sweep"\n[[jobs]]\nname = "a"\nretries = 2\n[jobs.env]\nA = "1"\n'
    assert load(text, "toml", "flow.toml").plain() == {
        "name": "sweep",
        "jobs": [{"name": "a", "retries": 2, "env": {"A": "1"}}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = = 2\n", "flow.toml:2:5: This is not TOML: invalid value, at 'b = = 2'."),
        ("a = 1\na = 2\n", "flow.toml:2:6: This is not TOML: cannot overwrite a value, at 'a = 2'."),
        ("a = [1, 2", "flow.toml:1:10: This is not TOML: unclosed array, at 'a = [1, 2'."),
        (
            "a.b = 2024-05-02\n",
            "flow.toml: a.b: The value 2024-05-02 is a date; put it into quotes to make it a text.",
        ),
        ("a = [nan]\n", "flow.toml: a[0]: The number nan is not finite"),
        ("a = 9223372036854775808\n", "flow.toml: a: The whole number does not fit into 64 bits"),
        ("a = " + "9" * 5_000, "flow.toml:1:1: A number of the document does not fit into 64 bits."),
        ('a = "\\u0000"', "flow.toml: a: The text has a NUL character at position 1"),
        ("a = " + "[" * 70 + "]" * 70, "flow.toml: a[0]"),
        ("a = " + "[" * 9_999, "flow.toml:1:1: The document is nested deeper than 64 levels."),
    ],
)
def test_toml_refusals(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(text, "toml", "flow.toml")
    assert str(caught.value).startswith(message)


@given(st.text(max_size=40))
def test_any_toml_is_read_or_refused(text: str) -> None:
    with suppress(BadInput):
        load(text, "toml", "flow.toml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"none\.yaml: The specification cannot be read: No such file or directory"
    ):
        load_file(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_bytes(b"name: a\nuser: \xe9\n")
    with pytest.raises(BadInput, match=r"flow\.yaml:2: The file is not UTF-8: byte 0xe9 cannot be decoded"):
        load_file(path)


def test_all_violations_of_a_file_are_lines_with_places(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(
        "files:\n- {name: raw, path: raw.csv}\njobs:\n- name: a\n  comand: x\n  input_files: [raw]\n"
    )
    with pytest.raises(BadInput) as caught:
        read_file(path, directory=tmp_path)
    assert str(caught.value).splitlines() == [
        f"{path}:4:3: jobs[0].command: The field 'command' is missing; it is required here.",
        f"{path}:5:3: jobs[0].comand: There is no field 'comand' here. Did you mean 'command'?",
        f"{path}:6:17: jobs[0].input_files[0]: File 'raw' does not exist at 'raw.csv', and no job produces it.",
    ]


def test_inputs_are_looked_for_in_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("files:\n- path: raw.csv\njobs:\n- {name: a, command: x, input_files: [raw.csv]}\n")
    (tmp_path / "raw.csv").touch()
    assert read_file(path, directory=tmp_path).jobs[0].input_files == ("raw.csv",)


def test_a_path_that_no_system_accepts_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(
        f"files:\n- {{name: x, path: {'x' * 5_000}}}\njobs:\n- {{name: a, command: x, input_files: [x]}}\n"
    )
    with pytest.raises(BadInput, match="File 'x' does not exist"):
        read_file(path, directory=tmp_path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_the_examples_are_accepted(path: Path, tmp_path: Path) -> None:
    assert read_file(path, directory=tmp_path).jobs


def test_the_same_workflow_in_every_format_is_the_same(tmp_path: Path) -> None:
    texts = {
        "a.yaml": "name: x\njobs:\n  - name: a\n    command: run\n    priority: 2\n",
        "a.json": '{"name": "x", "jobs": [{"name": "a", "command": "run", "priority": 2}]}',
        "a.json5": "{name: 'x', jobs: [{name: 'a', command: 'run', priority: +2}]}",
        "a.toml": 'name = "x"\n[[jobs]]\nname = "a"\ncommand = "run"\npriority = 2\n',
    }
    specifications = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        specifications.append(read_file(tmp_path / name, directory=tmp_path))
    assert all(specification == specifications[0] for specification in specifications)
