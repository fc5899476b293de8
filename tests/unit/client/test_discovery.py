from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest

from lading.toolkit.client.discovery import RunFile, Sleeping, discover
from lading.toolkit.client.target import Target
from lading.toolkit.errors import BadInput, Unavailable
from lading.toolkit.private_files import boot_id, make_private_directory, write_private
from lading.toolkit.settings import load_settings
from lading.toolkit.wire.files import ServerFile

GONE_PID = 2**22 + 1


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("LADING_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


def put_server(
    path: Path, *, url: str = "http://127.0.0.1:1", pid: int | None = None, host: str | None = None
) -> Path:
    make_private_directory(path.parent)
    token_file = path.with_suffix(".token")
    write_private(token_file, b"token-of-" + path.stem.encode() + b"\n")
    record = ServerFile(
        url=url,
        server_id="id1",
        pid=os.getpid() if pid is None else pid,
        hostname=host or socket.gethostname(),
        boot_id=boot_id(),
        database="",
        token_file=str(token_file),
    )
    write_private(path, msgspec.json.encode(record))
    return path


def found(**options: str | None) -> Target | Sleeping:
    return discover(load_settings(options))


def test_an_option_outranks_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    put_server(Path("output/.lading/server.json"))
    monkeypatch.setenv("LADING_SERVER_URL", "http://env:1")
    target = found(server_url="http://option:2")
    assert isinstance(target, Target)
    assert target.url == "http://option:2"


def test_the_environment_outranks_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    put_server(Path("output/.lading/server.json"))
    monkeypatch.setenv("LADING_SERVER_URL", "http://env:1")
    monkeypatch.setenv("LADING_TOKEN", "from-env")
    target = found()
    assert isinstance(target, Target)
    assert (target.url, target.token) == ("http://env:1", "from-env")


def test_the_nearest_run_upwards_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_server(home / "work" / "output" / ".lading" / "server.json")
    below = home / "work" / "deep" / "deeper"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    target = found()
    assert isinstance(target, Target)
    assert (target.server_file, target.token) == (path, "token-of-server")


def test_two_equally_near_are_named(home: Path) -> None:
    put_server(home / "work/output/.lading/server.json", url="http://a:1")
    put_server(home / "work/.lading/server.json", url="http://b:2")
    with pytest.raises(BadInput, match=r"http://a:1.*http://b:2"):
        found()


def test_two_of_the_state_folder_are_named(home: Path) -> None:
    put_server(home / "state/lading/servers/one.json", url="http://a:1")
    put_server(home / "state/lading/servers/two.json", url="http://b:2")
    with pytest.raises(BadInput, match=r"http://a:1.*http://b:2"):
        found()


def test_a_gone_server_is_skipped_and_named(home: Path) -> None:
    path = put_server(home / "work/output/.lading/server.json", pid=GONE_PID)
    with pytest.raises(Unavailable, match=str(path)):
        found()
    put_server(home / "state/lading/servers/one.json", url="http://a:1")
    target = found()
    assert isinstance(target, Target)
    assert target.url == "http://a:1"


def test_a_server_of_another_host_is_not_judged(home: Path) -> None:
    put_server(home / "work/output/.lading/server.json", pid=GONE_PID, host="elsewhere")
    assert isinstance(found(), Target)


def test_an_ended_run_can_be_read(home: Path) -> None:
    path = put_server(home / "work/output/.lading/server.json", pid=GONE_PID)
    database = path.parent / "lading.db"
    database.touch()
    assert found() == Sleeping(path.parent, str(database))


def test_an_ended_run_says_where_its_database_is(home: Path) -> None:
    folder = home / "elsewhere/.lading"
    make_private_directory(folder)
    database = home / "other.db"
    database.touch()
    write_private(folder / "run.json", msgspec.json.encode(RunFile(database=str(database))))
    assert discover(load_settings(), output=home / "elsewhere") == Sleeping(folder, str(database))


def test_an_output_folder_outranks_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_server(home / "elsewhere/.lading/server.json")
    monkeypatch.setenv("LADING_SERVER_URL", "http://env:1")
    target = discover(load_settings(), output=home / "elsewhere")
    assert isinstance(target, Target)
    assert target.server_file == path


def test_server_and_output_together_are_refused(home: Path) -> None:
    with pytest.raises(BadInput, match="--server"):
        discover(load_settings({"server_url": "http://a:1"}), output=home)


def test_nothing_found_says_what_to_do() -> None:
    with pytest.raises(Unavailable, match="lading serve"):
        found()


def test_a_known_address_brings_its_own_token(home: Path) -> None:
    put_server(home / "state/lading/servers/one.json", url="http://a:1")
    target = found(server_url="http://a:1/")
    assert isinstance(target, Target)
    assert target.token == "token-of-one"


def test_a_token_never_follows_an_address_of_another_source(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "work/.lading.toml").write_text('server_url = "http://evil:1"\n')
    monkeypatch.setenv("LADING_TOKEN", "mine")
    target = found()
    assert isinstance(target, Target)
    assert (target.url, target.token) == ("http://evil:1", None)

    monkeypatch.setenv("LADING_SERVER_URL", "http://mine:1")
    other = found(server_url="http://other:1")
    assert isinstance(other, Target)
    assert other.token is None


def test_an_open_token_file_is_refused(home: Path) -> None:
    token_file = home / "token"
    token_file.write_text("abc")
    token_file.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        found(server_url="http://a:1", token_file=str(token_file))


def test_a_server_file_that_others_can_write_is_refused(home: Path) -> None:
    path = put_server(home / "work/output/.lading/server.json")
    path.chmod(0o666)
    with pytest.raises(BadInput, match=str(path)):
        found()


def test_a_restarted_server_is_followed_only_with_the_same_id(home: Path) -> None:
    path = put_server(home / "work/output/.lading/server.json", url="http://a:1")
    target = Target.from_server_file(path)
    assert target.reread() is None
    put_server(path, url="http://a:2")
    fresh = target.reread()
    assert fresh is not None
    assert fresh.url == "http://a:2"
    record = msgspec.json.decode(path.read_bytes(), type=ServerFile)
    record.server_id = "another"
    write_private(path, msgspec.json.encode(record))
    assert target.reread() is None


def test_a_server_that_moves_from_job_to_job_is_never_gone(home: Path) -> None:
    path = put_server(home / "state" / "lading" / "servers" / "one.json", pid=2**22 - 1)
    record = msgspec.json.decode(path.read_bytes(), type=ServerFile)
    with pytest.raises(Unavailable):
        found()
    record.chain = "/shared/project.db.slurm/chain.json"
    write_private(path, msgspec.json.encode(record))
    target = found()
    assert isinstance(target, Target)
    assert target.chain == Path("/shared/project.db.slurm/chain.json")
