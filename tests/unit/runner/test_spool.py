from __future__ import annotations

from pathlib import Path

from lading.toolkit.runner.spool import Spool, encode_record, read_records


def record(attempt: str, text: str = "") -> bytes:
    return encode_record({"attempt_id": attempt, "return_code": 0, "message": text}, 12.5)


def test_reports_are_there_until_they_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "n1.jsonl"
    spool = Spool(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    spool.append({"a": record("a"), "b": record("b")})
    assert read_records(path)["a"] == (12.5, {"attempt_id": "a", "return_code": 0, "message": ""})
    spool.forget(["a"])
    assert "b" in read_records(path)
    spool.forget(["b"])
    assert path.stat().st_size == 0
    spool.close()
    assert not path.exists()


def test_what_is_not_forgotten_outlives_the_runner(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "n1.jsonl"
    spool = Spool(path)
    spool.append({"a": record("a")})
    spool.close()
    assert list(read_records(path)) == ["a"]


def test_a_torn_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "n1.jsonl"
    whole = record("a") + b"\n" + b"[1]\n" + record("b") + b"\n"
    for cut in range(len(record("c"))):
        path.write_bytes(whole + record("c")[:cut])
        assert list(read_records(path)) == ["a", "b"]


def test_no_file_is_no_reports(tmp_path: Path) -> None:
    assert read_records(tmp_path / "absent.jsonl") == {}


def test_a_large_file_is_written_anew_with_what_remains(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "n1.jsonl"
    spool = Spool(path)
    spool.append({"old": record("old", "x" * (1 << 20)), "kept": record("kept")})
    spool.forget(["old"])
    assert path.stat().st_size < 1000
    spool.append({"new": record("new")})
    assert list(read_records(path)) == ["kept", "new"]
    assert path.stat().st_mode & 0o777 == 0o600
    spool.close()
