from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path

import pytest

from lading.toolkit.errors import BadInput
from lading.toolkit.log import configure_logging, redact
from lading.toolkit.settings import Origin, load_settings, state_directory


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("LADING_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "config" / "lading").mkdir(parents=True)
    (tmp_path / "work" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "deep")
    return tmp_path


def user_file(home: Path, text: str) -> None:
    (home / "config/lading/config.toml").write_text(text)


def project_file(home: Path, text: str) -> Path:
    path = home / "work/.lading.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_defaults() -> None:
    loaded = load_settings()
    assert loaded.values.output_format == "table"
    assert loaded.values.output == Path("output")
    assert loaded.origin("output") is Origin.DEFAULT


def test_each_source_outranks_the_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_file(home, 'user = "a"\nlog_level = "info"\noutput_format = "csv"\ndatabase = "d"\n')
    project_file(home, 'user = "b"\nlog_level = "debug"\noutput_format = "json"\n')
    monkeypatch.setenv("LADING_USER", "c")
    monkeypatch.setenv("LADING_LOG_LEVEL", "error")
    loaded = load_settings({"user": "d", "log_level": None})
    values = loaded.values
    assert (values.user, values.log_level, values.output_format, values.database) == (
        "d",
        "error",
        "json",
        "d",
    )
    origins = [loaded.origin(name) for name in ("user", "log_level", "output_format", "database")]
    assert origins == [Origin.OPTION, Origin.ENVIRONMENT, Origin.PROJECT, Origin.USER]


def test_paths_in_a_file_begin_at_the_file(home: Path) -> None:
    path = project_file(home, 'output = "results"\n')
    assert load_settings().values.output == path.parent / "results"


def test_a_project_file_that_others_can_write_is_ignored_and_named(home: Path) -> None:
    path = project_file(home, 'user = "b"\n')
    path.chmod(0o664)
    loaded = load_settings()
    assert loaded.values.user is None
    assert str(path) in loaded.warnings[0]
    assert "chmod go-w" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('output_formt = "csv"', ["output_formt", "output_format"]),
        ('output_format = "xml"', ["output_format", "xml"]),
        ('server_url = "head:80"', ["server_url", "head:80", "http://HOST:PORT"]),
        ("output = [", ["TOML"]),
        ('token = "t"', ["token_file", "secret"]),
    ],
)
def test_a_bad_file_is_named_with_its_field(home: Path, text: str, words: list[str]) -> None:
    path = project_file(home, text)
    with pytest.raises(BadInput) as caught:
        load_settings()
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADING_LOG_LEVEL", "loud")
    with pytest.raises(BadInput, match=r"LADING_LOG_LEVEL.*loud"):
        load_settings()


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADING_USER", "")
    assert load_settings().values.user is None


def test_the_state_folder_is_private(home: Path) -> None:
    path = state_directory()
    assert path == home / "state/lading"
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def-123",
        "token=hush99",
        '{"session_token": "hush99"}',
        "postgres://me:hush99@db/x",
        "PGPASSWORD=hush99",
    ],
)
def test_secrets_are_redacted(text: str) -> None:
    assert "hush99" not in redact(text)
    assert "abc.def" not in redact(text)


def test_json_logs_are_one_line_with_facts_and_without_secrets() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    try:
        configure_logging("info", stream, style="json")
        logging.getLogger("x").info("a\nb token=hush", extra={"job": "7", "session_token": "hush"})
    finally:
        root.handlers[:], root.level = kept
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["job"] == "7"
    assert "hush" not in line
    assert record["level"] == "info"


def test_human_logs_keep_one_line_a_record() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    try:
        configure_logging("info", stream, style="human")
        logging.getLogger("x").info("a\nforged \x1b[2J", extra={"job": "7"})
    finally:
        root.handlers[:], root.level = kept
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "job=7" in text
