"""A server that moves from job to job: its token and its address file outlive each of them."""

from __future__ import annotations

import json
import shutil
import ssl
from pathlib import Path

import pytest

from lading.api.in_slurm import chain_folder, check_no_other, config_of, own_certificate
from lading.api.server_process import ServerOptions
from lading.toolkit.cli.server_chain import begin_chain, count_failure, forget_failures, stopped_because
from lading.toolkit.errors import BadInput, Conflict
from lading.toolkit.private_files import make_private_directory, write_private
from lading.toolkit.wire.files import ServerChain
from tests.lib.service import running_service


def chain_of(location: str, server_file: Path) -> Path:
    folder = chain_folder(location)
    make_private_directory(folder)
    chain = ServerChain(
        name="lading-server-1",
        config={},
        options={},
        server_file=str(server_file),
        working_directory="/",
        log="",
    )
    begin_chain(folder / "chain.json", chain)
    return folder / "chain.json"


async def test_token_and_address_stay_until_the_chain_is_stopped(location: str, tmp_path: Path) -> None:
    server_file = tmp_path / "server.json"
    chain_file = chain_of(location, server_file)
    options = ServerOptions(location, server_file=server_file, chain=chain_file)
    async with running_service(options) as service:
        token = service.token
    assert json.loads(server_file.read_text())["chain"] == str(chain_file)
    async with running_service(options) as service:
        assert service.token == token
        assert (await service.call("GET", "/server")).status == 200
    # A token that this database never made for that place is not taken over.
    write_private(tmp_path / "token", b"lading_of_somebody_else\n")
    async with running_service(options) as service:
        assert service.token not in {token, "lading_of_somebody_else"}
        assert (await service.call("GET", "/server", token=token)).status == 401
        write_private(chain_file.with_name("stopped"), b"a person stopped it\n")
    assert not server_file.exists()


def test_a_second_server_is_refused_between_two_jobs(tmp_path: Path) -> None:
    location = str(tmp_path / "lading.db")
    check_no_other(location)
    chain_file = chain_of(location, tmp_path / "server.json")
    with pytest.raises(Conflict, match="lading-server-1"):
        check_no_other(location)
    write_private(chain_file.with_name("stopped"), b"enough\n")
    assert stopped_because(chain_file) == "enough"
    check_no_other(location)


def test_failures_are_counted_in_a_row(tmp_path: Path) -> None:
    chain_file = chain_of(str(tmp_path / "lading.db"), tmp_path / "server.json")
    assert [count_failure(chain_file), count_failure(chain_file)] == [1, 2]
    forget_failures(chain_file)
    assert count_failure(chain_file) == 1


def test_a_file_may_hold_nothing_but_the_config_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("schedulers:\n  slurm_schedulers:\n    - {name: small, account: science, nodes: 1}\n")
    assert config_of(str(path)) == config_of(f"{path}:small")
    assert config_of(str(path))["account"] == "science"
    named = tmp_path / "a:b.yaml"
    named.write_text(path.read_text())
    assert config_of(str(named))["name"] == config_of(f"{named}:small")["name"] == "small"
    path.write_text("schedulers: {slurm_schedulers: [{name: small, account: science, nodes: 0}]}")
    with pytest.raises(BadInput, match="nodes"):
        config_of(str(path))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl: it makes the certificate")
def test_the_certificate_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "project.db.slurm")
    certificate, key = own_certificate(tmp_path / "project.db.slurm")
    text = certificate.read_text()
    assert [path.stat().st_mode & 0o777 for path in (certificate, key)] == [0o600, 0o600]
    assert own_certificate(tmp_path / "project.db.slurm") == (certificate, key)
    assert certificate.read_text() == text
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def test_without_openssl_a_person_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="--plain-http"):
        own_certificate(tmp_path)
