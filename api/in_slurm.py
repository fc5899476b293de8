"""`lading serve --in-slurm`: ask for the first job of a server that lives in Slurm, and wait until it answers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import msgspec

from lading.api.running import server_file_of
from lading.api.server_process import ServerOptions
from lading.api.storage.locks import find_holder
from lading.api.storage.opening import is_postgres, make_database, sqlite_path
from lading.toolkit.backends import KeepsServices, Service, load_backend
from lading.toolkit.cli.output import note
from lading.toolkit.cli.server_chain import (
    CHAIN_FILE,
    begin_chain,
    end_chain,
    read_chain,
    slurm_services,
    stopped_because,
)
from lading.toolkit.client.target import read_server_file
from lading.toolkit.errors import BackendError, BadInput, Conflict
from lading.toolkit.private_files import make_private_directory, write_private
from lading.toolkit.settings import LoadedSettings, state_directory
from lading.toolkit.specfile import read_file
from lading.toolkit.wire.files import ServerChain, ServerFile

_QUEUE_SECONDS: Final = 30.0
"""A job that has not begun by then may wait for hours: the command returns, and says so."""
_START_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.2
_ASK_SECONDS: Final = 5.0
_TAIL_LINES: Final = 8
_CERTIFICATE_DAYS: Final = 3_650


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the server once the command returns."""

    state: str
    """`serving`, or `waiting` in Slurm's queue."""
    slurm_job: str
    name: str
    url: str | None
    log: str
    database: str
    server_file: str
    reason: str = ""
    """Why it waits."""


@dataclass(frozen=True, slots=True)
class InSlurm:
    """What the command line asked for."""

    where: str
    """FILE or FILE:NAME."""
    location: str
    server_file: Path | None
    no_submitter: bool
    given: Mapping[str, Any]
    """Options of the server; those that nobody gave are left out."""


def serve_in_slurm(asked: InSlurm, settings: LoadedSettings) -> Begun:
    """Submit the first job; return when its server answers, or when it has waited in the queue for long."""
    config = config_of(asked.where)
    services = _available_services()
    folder = chain_folder(asked.location)
    chain_file = folder / CHAIN_FILE
    check_no_other(asked.location, services)
    _check_lock(asked.location)
    # Of a place that cannot be written, or a password in a URL, a person hears now.
    make_database(asked.location)
    make_private_directory(folder)
    server_file = (asked.server_file or server_file_of(asked.location, "slurm")).absolute()
    templates = settings.values.sbatch_templates
    chain = ServerChain(
        name=chain_name(asked.location),
        config=config,
        options=_options(asked, folder),
        server_file=str(server_file),
        working_directory=str(Path.cwd()),
        log=str(folder / "server.log"),
        no_submitter=asked.no_submitter,
        templates=None if templates is None else str(templates),
    )
    service = service_of(chain, chain_file)
    services.check_service(service)
    begin_chain(chain_file, chain)
    _announce_waiting(chain, chain_file)
    begin = _size(Path(chain.log))
    try:
        job = services.submit_service(service)
    except BackendError:
        server_file.unlink(missing_ok=True)
        end_chain(chain_file, "its first job could not be submitted")
        raise
    return _wait(services, chain, chain_file, job, begin)


def _announce_waiting(chain: ServerChain, chain_file: Path) -> None:
    """Let commands find the server before it has an address, `lading stop` among them."""
    path = Path(chain.server_file)
    if not path.parent.exists():
        make_private_directory(path.parent)
    record = ServerFile(
        url="",
        server_id="",
        pid=0,
        hostname="",
        boot_id="",
        database=chain.options["database"],
        chain=str(chain_file),
    )
    write_private(path, msgspec.json.encode(record))


def service_of(chain: ServerChain, chain_file: Path) -> Service:
    """Return what Slurm is asked for, the first time and by each of the jobs."""
    return Service(
        name=chain.name,
        config=chain.config,
        command=[sys.executable, "-P", "-m", "lading.api.server_job", str(chain_file)],
        working_directory=Path(chain.working_directory),
        log=Path(chain.log),
    )


def chain_name(location: str) -> str:
    """Return the one name of all jobs that serve a database."""
    return f"lading-server-{hashlib.sha256(location.encode()).hexdigest()[:12]}"


def chain_folder(location: str) -> Path:
    """Return the 0700 folder of a server in Slurm: beside the database, where all nodes see it."""
    if is_postgres(location):
        return state_directory() / "servers" / chain_name(location)
    database = sqlite_path(location)
    return database.with_name(f"{database.name}.slurm")


def check_no_other(location: str, services: KeepsServices | None = None) -> None:
    """Refuse a second server on a database whose server lives in Slurm, also between two of its jobs.

    With `services` Slurm is asked: a chain that broke, whose jobs are all gone, is no server any more.
    """
    chain_file = chain_folder(location) / CHAIN_FILE
    if not chain_file.exists() or stopped_because(chain_file) is not None:
        return
    chain = read_chain(chain_file)
    numbers = [] if services is None else [job.number for job in services.service_jobs(chain.name)]
    if services is not None and not numbers:
        return
    where = f"job {', '.join(numbers)}, " if numbers else ""
    raise Conflict(
        f"The server of the database {location} lives in Slurm ({where}squeue --name {chain.name}); its address is "
        f"in {chain.server_file}. Use that server, stop it with `lading stop`, or choose another --database."
    )


def _check_lock(location: str) -> None:
    """Refuse a database that another process holds here and now, before a job waits for it in vain."""
    if is_postgres(location) or not sqlite_path(location).exists():
        return
    holder = find_holder(sqlite_path(location))
    if holder is not None:
        raise Conflict(
            f"The database {location} is in use by {holder}. Use that server, stop it with `lading stop`, or "
            "choose another --database."
        )


def config_of(where: str) -> dict[str, Any]:
    """Return the Slurm config that FILE or FILE:NAME names. Raises BadInput."""
    file, name = Path(where), ""
    if not file.is_file():
        text, _, name = where.rpartition(":")
        file = Path(text)
        if not text or not file.is_file():
            raise BadInput(
                f"--in-slurm {where!r}: there is no such file; accepted is a workflow file with a Slurm config, "
                "FILE or FILE:NAME."
            )
    specification = read_file(file, directory=None, may_have_no_jobs=True)
    schedulers = specification.to_document().get("schedulers", {})
    configs = list(schedulers.get("slurm_schedulers", ()))
    found = [config for config in configs if not name or config.get("name") == name]
    known = ", ".join(repr(config.get("name")) for config in configs) or "none"
    if len(found) != 1:
        problem = f"has no Slurm config {name!r}" if name else f"has {len(configs)} Slurm configs"
        raise BadInput(
            f"--in-slurm {where!r}: {file} {problem}; accepted is FILE:NAME with one of slurm_schedulers: {known}."
        )
    return dict(found[0])


def _available_services() -> KeepsServices:
    found = load_backend("slurm").probe()
    if not found.available:
        raise BadInput(f"--in-slurm: there is no Slurm here: {found.reason}")
    return slurm_services()


def _options(asked: InSlurm, folder: Path) -> dict[str, Any]:
    """Return the server's options as JSON holds them, every path absolute."""
    known = {field.name for field in fields(ServerOptions)}
    options = {name: value for name, value in asked.given.items() if name in known and value is not None}
    for name in ("tls_certificate", "tls_key"):
        if name in options:
            options[name] = str(Path(options[name]).absolute())
    if not options.get("plain_http") and not {"tls_certificate", "tls_key"} & options.keys():
        options["tls_certificate"], options["tls_key"] = map(str, own_certificate(folder))
    return {**options, "database": asked.location}


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate of the chain's own and its key, made once; clients and runners pin it by `server.json`."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if certificate.is_file() and key.is_file():
        return certificate, key
    if shutil.which("openssl") is None:
        raise BadInput(
            "--in-slurm: there is no openssl here to make a certificate with; give --tls-certificate and --tls-key, "
            "or accept with --plain-http that tokens and data can be read on the network."
        )
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=lading", "-days", str(_CERTIFICATE_DAYS), "-keyout", str(key), "-out"]
    # The folder is 0700 from its beginning; under its name the certificate appears when all is done.
    unfinished = certificate.with_suffix(".new")
    outcome = subprocess.run([*command, str(unfinished)], capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise BadInput(f"--in-slurm: openssl makes no certificate: {outcome.stderr.strip()[-300:]}")
    key.chmod(0o600)
    unfinished.chmod(0o600)
    unfinished.replace(certificate)
    return certificate, key


def _wait(services: KeepsServices, chain: ServerChain, chain_file: Path, job: str, begin: int) -> Begun:
    began = asked = time.monotonic()
    reason, said = "", ""
    while True:
        begun = _begun(chain, job, reason)
        patience = _QUEUE_SECONDS if reason else _START_SECONDS
        if begun.state == "serving" or time.monotonic() > began + patience:
            return begun
        ended = stopped_because(chain_file)
        if ended is None and time.monotonic() - asked >= _ASK_SECONDS:
            asked = time.monotonic()
            jobs = services.service_jobs(chain.name)
            if not jobs and _begun(chain, job, reason).state != "serving":
                ended = "its first job has ended"
            reason = jobs[0].reason if jobs and all(one.is_waiting for one in jobs) else ""
            if reason not in {said, "None"}:
                note(f"Slurm job {job} waits: {reason}")
                said = reason
        if ended is not None:
            end_chain(chain_file, ended)
            Path(chain.server_file).unlink(missing_ok=True)
            raise BadInput(_failure(chain, job, begin))
        time.sleep(_LOOK_SECONDS)


def _begun(chain: ServerChain, job: str, reason: str) -> Begun:
    path = Path(chain.server_file)
    url = (read_server_file(path).url if path.is_file() else "") or None
    return Begun(
        state="serving" if url else "waiting",
        slurm_job=job,
        name=chain.name,
        url=url,
        log=chain.log,
        database=chain.options["database"],
        server_file=chain.server_file,
        reason="" if url else reason,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _failure(chain: ServerChain, job: str, begin: int) -> str:
    log = Path(chain.log)
    text = log.read_bytes()[begin:].decode("utf-8", "replace") if log.exists() else ""
    lines = text.splitlines()[-_TAIL_LINES:] or ["(nothing: does the node see the folder of the database?)"]
    return "\n".join(
        [f"The server did not start in Slurm job {job}. The end of its log:", *lines, f"(whole: {log})"]
    )
