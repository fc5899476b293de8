"""What Slurm does not accept: said with its own words and the field's name, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pwd
import re

import pytest

from lading.schedulers.slurm import SlurmBackend
from lading.toolkit.errors import BackendError, CapacityError, PermanentError, TransientError
from lading.toolkit.submitter.__main__ import usable_backends
from tests.lib.waiting import until
from tests.slurm.host import document
from tests.slurm.lab import TRANSPORT, make_backend, make_request, waiting_templates
from tests.slurm.people import at_home

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def _stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("LADING_SBATCH_TEMPLATES", str(waiting_templates(tmp_path / "templates")))


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"partition": "nosuch"}, "partition", "nosuch"),
        ({"account": "nosuch"}, "account", "Invalid account"),
        ({"qos": "nosuch"}, "qos", "Invalid qos"),
        ({"walltime": "2-00:00:00"}, "walltime", "1-00:00:00"),
        ({"gres": "gpu:h100:1"}, "gres", "not available"),
        ({"mem": "9000G"}, "mem", "not available"),
        ({"nodes": 3}, "nodes", "up to 2"),
        ({"partition": "single", "nodes": 2}, "nodes", "up to 1"),
        ({"constraint": "nosuch"}, "constraint", "Invalid feature"),
        ({"reservation": "nosuch"}, "reservation", "reservation"),
        pytest.param({"extra": "--nosuch-option"}, "extra", "unrecognized option", marks=pytest.mark.sbatch),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_can_never_run_is_refused_by_field(on_b, tmp_path, config, field, words):
    with pytest.raises(PermanentError) as caught:
        make_backend().submit(make_request(tmp_path, "lading-refused", **config))
    assert field in str(caught.value).partition(":")[0]
    assert words in str(caught.value)
    assert on_b.queue() == []


def test_a_closed_partition_is_waited_for(on_b, tmp_path):
    with pytest.raises(CapacityError, match=r"partition: 'closed' is DOWN"):
        make_backend().submit(make_request(tmp_path, "lading-closed", partition="closed"))
    assert on_b.queue() == []


def test_the_users_limit_of_jobs_is_waited_for(on_b, guest, tmp_path):
    """As the unprivileged user: two jobs, then no third until one has ended."""
    folder = tmp_path / "guest"
    folder.mkdir()
    user = pwd.getpwnam(guest)
    os.chown(folder, user.pw_uid, user.pw_gid)
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    # All that the other user's process needs is loaded now: the interpreter's folder may be closed to it.
    make_backend().render(make_request(folder, "lading-guest-0"))
    backend = make_backend()

    def work() -> str:
        made = [backend.submit(make_request(folder, f"lading-guest-{number}"))[0] for number in (1, 2)]
        try:
            backend.submit(make_request(folder, "lading-guest-3"))
        except CapacityError as error:
            backend.cancel([allocation.external_id for allocation in made])
            return str(error)
        return "a third job was accepted"

    said = as_user(user, work)
    # Which of the limits, sbatch alone says.
    assert "job submit limit" in said
    assert "MaxSubmitJob" in said or TRANSPORT == "submits"
    assert not any("lading-guest-3" in line for line in on_b.queue())


REFUSED = {
    "partition": ("nosuch", "none of this cluster; accepted: closed, main, single, urgent"),
    "account": ("nosuch", "Invalid account"),
    "qos": ("nosuch", "Invalid qos"),
    "walltime": ("2-00:00:00", "accepted: up to 1-00:00:00"),
    "gres": ("gpu:h100:1", "Requested node configuration is not available"),
}


@pytest.fixture
def person(on_b, guest, open_python):
    with at_home(guest, open_python) as user:
        user.lading(
            "serve", "--detach", "--host", on_b.address, "--port", "0", "--plain-http", "--database",
            str(user.home / "lading.db"),
        )  # fmt: skip
        yield user
        user.command("stop")


def test_a_person_reads_what_slurm_refuses_and_why(on_b, person):
    """From the file to the list of configs, and nothing is left pending."""
    plain = document([])["schedulers"]["slurm_schedulers"][0]
    configs = [{**plain, "name": field, field: value} for field, (value, _) in REFUSED.items()]
    made = document(
        [{"name": field, "command": "true", "scheduler": f"slurm_schedulers/{field}"} for field in REFUSED]
    )
    made["schedulers"]["slurm_schedulers"] = configs
    (person.home / "workflow.json").write_text(json.dumps(made))
    key = str(person.lading("submit-workflow", "workflow.json")["_key"])

    def paused() -> dict[str, str]:
        listed = person.lading("slurm", "list-configs", "-w", key)["configs"]
        return {item["name"]: item["paused_reason"] for item in listed if item.get("paused_reason")}

    until(lambda: len(paused()) == len(REFUSED), 90.0, "all are refused", pause=1.0)
    for field, reason in paused().items():
        assert field in reason.partition(":")[0]
        assert REFUSED[field][1] in reason
    assert on_b.queue() == []
    assert {item["status"] for item in person.lading("allocations", "list", "-w", key)["allocations"]} == {
        "complete"
    }


def test_a_person_reads_that_the_limit_of_jobs_is_reached(on_b, person):
    jobs = [{"name": f"waits{number}", "command": "sleep 600"} for number in range(3)]
    made = document(jobs, max_allocations=3, cpus=1, array=False, walltime="01:00:00")
    # They stay: when one ends there is room for a third, and nothing to tell.
    made["resource_requirements"][0]["runtime"] = "PT30M"
    (person.home / "workflow.json").write_text(json.dumps(made))
    key = str(person.lading("submit-workflow", "workflow.json")["_key"])

    def reasons() -> str:
        return " ".join(person.lading("workflows", "status", key)["reasons"])

    told = re.compile("max_allocations: Slurm takes no more jobs of this user now: .*MaxSubmitJob")
    until(lambda: told.search(reasons()), 240.0, "the limit is told", pause=0.5)
    assert len(on_b.queue()) == 2
    person.command("workflows", "cancel", key)
    until(lambda: on_b.queue() == [], 90.0, "nothing is left", pause=0.5)


def test_an_array_that_is_larger_than_the_limit_comes_in_parts(on_b, person):
    jobs = [{"name": f"short{number}", "command": "sleep 1"} for number in range(4)]
    made = document(jobs, max_allocations=4, min_allocations=4, cpus=1)
    (person.home / "workflow.json").write_text(json.dumps(made))
    person.command("submit-workflow", "workflow.json", "--wait")
    until(lambda: on_b.queue() == [], 90.0, "nothing is left", pause=0.5)


def as_user(user, work):
    """Do something as another user, in a child process; return what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.environ |= {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
            os.write(writer, work().encode())
        except BaseException as error:  # noqa: BLE001 the parent is told
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


def test_a_controller_that_is_away_is_weather(on_a, tmp_path, monkeypatch):
    lost = tmp_path / "slurm.conf"
    text = (on_a.folder / "slurm.conf").read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort="))
    lost.write_text(text.replace(port, "SlurmctldPort=9").replace("MessageTimeout=30", "MessageTimeout=2"))
    monkeypatch.setenv("SLURM_CONF", str(lost))
    with pytest.raises(TransientError, match="Unable to contact"):
        make_backend().submit(make_request(tmp_path, "lading-weather"))
    found = make_backend().probe()
    assert (found.available, found.is_weather) == (False, True)
    assert list(usable_backends(["slurm"])) == ["slurm"], "a submitter that starts now can use it later"
    with monkeypatch.context() as nowhere:
        nowhere.setenv("PATH", str(tmp_path))
        assert list(usable_backends(["slurm"])) == []


NASTY = "a 'b\" $(touch pwned) `touch pwned` ; touch pwned # %j"


@pytest.mark.sbatch
def test_names_and_paths_are_quoted(on_a, tmp_path, monkeypatch):
    folder = tmp_path / NASTY
    folder.mkdir()
    request = make_request(
        folder, "lading-quoted", extra=f"--comment='{NASTY.replace(chr(39), '')}' --nice=1"
    )
    backend: SlurmBackend = make_backend()
    [allocation] = backend.submit(request)
    job = allocation.external_id.rpartition(":")[2]
    dump = folder / "lading-quoted.0.json.environment"
    until(dump.exists, 20.0, "the job's own words")
    assert [path.name for path in (folder / "output").iterdir()] == [f"slurm_{job}.out"]
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.parametrize(
    "field", ["account", "partition", "qos", "mem", "constraint", "extra", "exclude", "gres"]
)
@pytest.mark.parametrize("letter", ["\n", "\r", "\0", "\u2028"], ids=["LF", "CR", "NUL", "LS"])
def test_line_breaks_are_refused(tmp_path, field, letter):
    with pytest.raises(BackendError, match=f"{field}: .*line break"):
        make_backend().render(
            make_request(tmp_path, "lading-lines", config={field: f"x{letter}#SBATCH --uid=0"})
        )


def test_a_set_up_line_is_one_line(tmp_path):
    text = make_backend().render(make_request(tmp_path, "lading-set-up", set_up=["module load 'gcc'"]))
    assert "\nmodule load 'gcc'\n" in text
    with pytest.raises(PermanentError, match="set_up: .*line break"):
        make_backend().render(make_request(tmp_path, "lading-set-up", set_up=["true\nfalse"]))


@pytest.mark.parametrize(
    "extra",
    ["--job-name=x", "-J x", "-Jx", "--array=1-9", "--wrap=true", "--export=ALL", "--output=x", "-o x", "-ox",
     "--error=x", "-e x", "--out=x", "--err x", "-Hox", "--nice=1 --job=x"],
)  # fmt: skip
def test_extra_does_not_decide_what_lading_decides(tmp_path, extra):
    with pytest.raises(PermanentError, match=r"extra: '-.*' is not accepted: .*Accepted are all options"):
        make_backend().render(make_request(tmp_path, "lading-extra", extra=extra))


@pytest.mark.parametrize(
    "extra",
    ["--nice=10", "--open-mode=truncate", "--wait-all-nodes=1", "-H", "-C oxygen", "-Coxygen", "--no-kill"],
)
def test_extra_takes_every_other_option(tmp_path, extra):
    text = make_backend().render(make_request(tmp_path, "lading-extra", extra=extra))
    assert f"#SBATCH {extra.split()[-1]}" in text
