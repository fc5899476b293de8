"""The server as a process: start, files, lock, ends; and the commands around its database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import orjson
import pytest
from click.testing import CliRunner

from lading.api.storage.locks import DatabaseLock, find_holder, lock_path
from lading.toolkit.cli.main import main
from lading.toolkit.client.target import Target
from lading.toolkit.errors import Conflict


@dataclass
class Process:
    child: subprocess.Popen[bytes]
    url: str
    end_pipe: int
    folder: Path

    def close_pipe(self) -> None:
        if self.end_pipe >= 0:
            os.close(self.end_pipe)
            self.end_pipe = -1

    def get(self, path: str) -> dict[str, object]:
        document: dict[str, object] = orjson.loads(self.read(path))
        return document

    def read(self, path: str) -> bytes:
        target = Target.from_server_file(self.folder / "server.json")
        request = Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {target.token}"})
        with urlopen(request, timeout=20) as response:
            assert response.status == 200
            content: bytes = response.read()
            return content


@contextmanager
def server_process(folder: Path, *extra: str, database: str | None = None) -> Iterator[Process]:
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    command = [sys.executable, "-P", "-m", "lading.api", "--server-file", str(folder / "server.json")]
    command += ["--database", database or str(folder / "lading.db")]
    command += ["--ready-fd", str(ready_write), "--end-fd", str(end_read), *extra]
    with (folder / "log").open("ab") as log:
        child = subprocess.Popen(
            command, pass_fds=[ready_write, end_read], stdout=log, stderr=log, start_new_session=True
        )
    os.close(ready_write)
    os.close(end_read)
    process = Process(child, "", end_write, folder)
    try:
        with os.fdopen(ready_read) as ready:
            process.url = ready.readline().strip()
        yield process
    finally:
        child.kill()
        child.wait()
        process.close_pipe()


def lading(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_it_answers_once_it_says_so_and_leaves_private_files(tmp_path: Path) -> None:
    with server_process(tmp_path) as process:
        assert process.url.startswith("http://127.0.0.1:")
        assert process.read("/ping")
        names = {path.name for path in tmp_path.iterdir()} - {"log"}
        assert {"lading.db", "lading.db-wal", "lading.db-shm", "lading.db.lock"} <= names
        assert {"server.json", "token"} <= names
        for name in names:
            assert (tmp_path / name).stat().st_mode & 0o077 == 0, name
        process.child.terminate()
        assert process.child.wait(20) == 0
    assert not (tmp_path / "server.json").exists()
    assert find_holder(tmp_path / "lading.db") is None


@pytest.mark.parametrize("way", ["pipe", "interrupt", "killed"])
def test_every_end_gives_the_database_free(tmp_path: Path, way: str) -> None:
    with server_process(tmp_path) as process:
        holder = find_holder(tmp_path / "lading.db")
        assert holder is not None
        assert (holder.pid, holder.url) == (process.child.pid, process.url)
        if way == "pipe":
            process.close_pipe()
        else:
            process.child.send_signal(signal.SIGINT if way == "interrupt" else signal.SIGKILL)
        assert process.child.wait(20) == (-signal.SIGKILL if way == "killed" else 0)
    with server_process(tmp_path) as process:
        assert process.get("/health")["status"] == "ok"


def test_a_second_server_is_refused_by_name_and_a_reader_is_not(tmp_path: Path) -> None:
    with server_process(tmp_path) as first:
        other = tmp_path / "other"
        other.mkdir()
        with server_process(other, database=str(tmp_path / "lading.db")) as second:
            assert second.url == ""
            assert second.child.wait(20) == 2
        told = (other / "log").read_text()
        assert f"process id {first.child.pid}" in told
        assert first.url in told
        with server_process(other, "--read-only", database=str(tmp_path / "lading.db")) as reader:
            assert reader.get("/server")["read_only"] is True
            target = Target.from_server_file(other / "server.json")
            request = Request(
                f"{reader.url}/tokens",
                data=b'{"scopes": ["user"]}',
                headers={"Authorization": f"Bearer {target.token}"},
                method="POST",
            )
            with pytest.raises(URLError, match="409"):
                urlopen(request, timeout=20)
        assert first.read("/health")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--host", "0.0.0.0"], "give --tls-certificate"),
        (["--tls-key", "/nonexistent"], "together"),
        (["--tls-key", "/nonexistent", "--tls-certificate", "/nonexistent"], "No such file"),
        (["--database", "postgres://me:secret@localhost/x"], "PGPASSFILE"),
        (["--database", "mysql://localhost/x"], "accepted are a path"),
        (["--database", "/"], "is a folder"),
        (["--database", "/nonexistent/lading.db", "--read-only"], "There is no database"),
        (["--ready-fd", "99"], "Descriptor 99"),
    ],
)
def test_what_cannot_work_is_refused_by_name(tmp_path: Path, extra: list[str], told: str) -> None:
    command = [sys.executable, "-P", "-m", "lading.api", "--database", str(tmp_path / "lading.db"), *extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lading.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with server_process(tmp_path) as process:
        assert process.child.wait(20) == 2
    assert "another program" in (tmp_path / "log").read_text()
    assert path.read_bytes()[100:] == before[100:]


def test_tls_is_pinned_by_the_fingerprint_in_the_server_file(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=lading",
        "-days",
        "2",
    ]
    made = subprocess.run([*command, "-keyout", key, "-out", certificate], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("openssl is not installed")
    options = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    with server_process(tmp_path, *options) as process:
        target = Target.from_server_file(tmp_path / "server.json")
        assert process.url.startswith("https://")
        assert target.fingerprint is not None
        from lading.toolkit.client import Lading

        with Lading(target) as client:
            assert client.health()["status"] == "ok"


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    database = tmp_path / "lading.db"
    with DatabaseLock(database, "server") as lock:
        lock.announce("http://127.0.0.1:1", "/x/server.json")
        with pytest.raises(Conflict, match=f"process id {os.getpid()} on .* at http://127.0.0.1:1"):
            DatabaseLock(database, "other").acquire()
    assert find_holder(database) is None
    assert lock_path(database).exists()


def test_tokens_through_the_owner_and_directly(tmp_path: Path) -> None:
    database = ["--database", str(tmp_path / "lading.db")]
    code, out, _ = lading("token", "create", "--label", "first", *database)
    assert code == 0
    direct = out.splitlines()[-1]
    with server_process(tmp_path) as process:
        code, out, told = lading("token", "create", "--scope", "read", "--expires", "1h", *database)
        assert code == 0, told
        request = Request(f"{process.url}/server", headers={"Authorization": f"Bearer {direct}"})
        assert urlopen(request, timeout=20).status == 200
        code, out, _ = lading("token", "list", "--format", "json", *database)
        labels = {item["label"]: item["id"] for item in orjson.loads(out)["tokens"]}
        assert lading("token", "revoke", labels["first"], *database)[0] == 0
        with pytest.raises(URLError, match="401"):
            urlopen(request, timeout=20)
    code, _, told = lading("token", "revoke", "999", *database)
    assert (code, told) == (2, "Error: no such token: 999\n")


def test_database_commands_beside_a_server_and_without(tmp_path: Path) -> None:
    database = ["--database", str(tmp_path / "lading.db")]
    assert lading("db", "check", *database)[0] == 2
    with server_process(tmp_path) as process:
        assert lading("db", "check", *database) == (0, "OK\n", "")
        code, _, told = lading("db", "upgrade", *database)
        assert code == 2
        assert f"process id {process.child.pid}" in told
        copy = tmp_path / "copy.db"
        assert lading("db", "backup", str(copy), *database)[0] == 0
        assert copy.stat().st_mode & 0o077 == 0
        assert lading("db", "check", "--database", str(copy)) == (0, "OK\n", "")
        code, _, told = lading("db", "backup", str(copy), *database)
        assert code == 2
        assert "exists" in told
    assert "nothing was changed" in lading("db", "upgrade", *database)[1]


def test_a_newer_database_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "lading.db"
    with server_process(tmp_path) as process:
        assert process.url
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE schema_version SET version = 99 WHERE version = 1")
        connection.commit()
    with server_process(tmp_path) as process:
        assert process.child.wait(20) == 2
    assert "schema version 99" in (tmp_path / "log").read_text()
    code, out, _ = lading("db", "check", "--database", str(path))
    assert code == 1
    assert "install a newer one" in out


def test_waiting_calls_do_not_hold_a_stop_up(tmp_path: Path) -> None:
    with server_process(tmp_path) as process:
        target = Target.from_server_file(tmp_path / "server.json")
        headers = {"Authorization": f"Bearer {target.token}"}
        made = Request(f"{process.url}/workflows", b'{"name": "w"}', headers, method="POST")
        with urlopen(made, timeout=20) as response:
            workflow = orjson.loads(response.read())["_key"]
        stream = urlopen(
            Request(f"{process.url}/workflows/{workflow}/events/stream", None, headers), timeout=30
        )
        assert stream.readline() == b": connected\n"
        waiting = Request(f"{process.url}/workflows/{workflow}/progress?after=99&wait=25", None, headers)
        with ThreadPoolExecutor(1) as executor:
            answer = executor.submit(urlopen, waiting, timeout=30)
            while b"lading_requests_in_flight 3" not in process.read("/metrics"):
                pass
            process.child.terminate()
            assert process.child.wait(15) == 0
            # Either the answer as it stands, or a word that it is worth coming back.
            error = answer.exception(10)
            assert error is None or (isinstance(error, HTTPError) and error.code == 503)
        assert stream.read() is not None
        stream.close()
