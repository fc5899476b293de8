from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lading.toolkit.client.session import Call, Patience, Session
from lading.toolkit.client.target import Target
from lading.toolkit.errors import BadInput, Unauthenticated, Unavailable
from tests.unit.client.scripted_server import Answer, ScriptedServer

ONCE = Patience(tries=1)


@pytest.fixture(autouse=True)
async def farewell() -> AsyncIterator[None]:
    """Let TLS say good-bye: a refused connection closes its socket only after the other side did."""
    yield
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        # What stays is the loop's own pipe.
        while len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-made key and certificate in one file, as a server makes them."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-subj", "/CN=lading", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


@pytest.fixture
def server(certificate: Path) -> Iterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    scripted = ScriptedServer(context)
    scripted.on("GET", "/ping", Answer({"message": "ok"}))
    yield scripted
    scripted.close()


def fingerprint_of(certificate: Path) -> str:
    text = certificate.read_text()
    end = "-----END CERTIFICATE-----"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)])).hexdigest()


async def test_the_pinned_certificate_is_trusted(server: ScriptedServer, certificate: Path) -> None:
    target = Target(server.url, "secret", fingerprint_of(certificate))
    async with Session(target, patience=ONCE) as session:
        assert await session.fetch(Call("GET", "/ping"), dict) == {"message": "ok"}


async def test_another_certificate_gets_nothing(server: ScriptedServer) -> None:
    async with Session(Target(server.url, "secret", "00" * 32), patience=ONCE) as session:
        with pytest.raises(Unauthenticated, match="pinned"):
            await session.send(Call("GET", "/ping"))
    assert server.seen == []


async def test_an_unknown_certificate_without_a_pin_gets_nothing(server: ScriptedServer) -> None:
    async with Session(Target(server.url, "secret"), patience=ONCE) as session:
        with pytest.raises(Unavailable, match="certificate"):
            await session.send(Call("GET", "/ping"))
    assert server.seen == []


async def test_a_pin_that_is_no_fingerprint_is_refused(server: ScriptedServer) -> None:
    async with Session(Target(server.url, "secret", "zz"), patience=ONCE) as session:
        with pytest.raises(BadInput, match="SHA-256"):
            await session.send(Call("GET", "/ping"))
    assert server.seen == []
