"""`lading slurm` where there is no Slurm: what is asked wrongly is refused by its field, and nothing is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from lading.schedulers.slurm.commands import slurm
from lading.toolkit.cli.allocations import allocations
from tests.unit.cli_server.conftest import Shell

ADD = ("slurm", "add-config", "--name", "x", "--account", "a")


@pytest.fixture
def key(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a started workflow with two configs, one of which is named with digits."""
    nowhere = tmp_path / "no_programs"
    nowhere.mkdir()
    monkeypatch.setenv("PATH", str(nowhere))
    monkeypatch.setenv("LADING_WORKFLOW", "")
    configs = [
        {"name": "one", "account": "a", "nodes": 1, "walltime": "01:00:00"},
        {"name": "2", "account": "a", "nodes": 1},
    ]
    made = {
        "name": "w",
        "jobs": [{"name": "a", "command": "true"}],
        "schedulers": {"slurm_schedulers": configs},
    }
    Path("w.json").write_text(json.dumps(made))
    return str(shell.json("submit-workflow", "w.json")["_key"])


def configs_of(shell: Shell) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shell.json("slurm", "list-configs")["configs"]
    return found


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("slurm", "add-config", "--account", "a"), "'--name'"),
        (("slurm", "add-config", "--name", "x"), "'--account'"),
        (("slurm", "add-config", "--name", "x", "--account", ""), "account: it is missing"),
        (("slurm", "add-config", "--name", "", "--account", "a"), "name: ''"),
        (("slurm", "add-config", "--name", "one", "--account", "a"), "name: 'one' is that of config"),
        ((*ADD, "--nodes", "0"), "0 is not in the range"),
        ((*ADD, "--nodes", "-3"), "-3 is not in the range"),
        ((*ADD, "--nodes", "two"), "'two' is not a valid integer"),
        ((*ADD, "--cpus", "1.5"), "'1.5' is not a valid integer"),
        ((*ADD, "--gpus", "0"), "0 is not in the range"),
        ((*ADD, "--walltime", "nonsense"), "walltime: 'nonsense'"),
        ((*ADD, "--walltime", "00:00:00"), "walltime: '00:00:00' is no time"),
        ((*ADD, "--walltime", "-1"), "walltime: '-1'"),
        ((*ADD, "--mem", "lots"), "mem: 'lots' is not a size"),
        ((*ADD, "--tmp", "-5"), "tmp: '-5' is not a size"),
        ((*ADD, "--extra", "--error=x"), "extra: '--error=x' is not accepted"),
        ((*ADD, "--extra", "'"), "extra: "),
        ((*ADD, "--set-up", "true\nfalse"), "set_up: "),
        ((*ADD, "--partition", "a\nb"), "partition: "),
        ((*ADD, "--min-allocations", "5", "--max-allocations", "2"), "min_allocations: 5"),
        ((*ADD, "-w", "999"), "no such workflow: 999"),
        ((*ADD, "--format", "xml"), "'xml' is not one of"),
        (("slurm", "modify-config", "one"), "Nothing to change"),
        (("slurm", "modify-config", "nosuch", "--nodes", "2"), "has no Slurm config 'nosuch'; it has: "),
        (("slurm", "modify-config", "", "--nodes", "2"), "has no Slurm config ''"),
        (("slurm", "modify-config", "one", "--walltime", "junk"), "walltime: 'junk'"),
        (("slurm", "modify-config", "one", "--account", ""), "account: it is missing"),
        (("slurm", "list-configs", "-w", "999"), "no such workflow: 999"),
        (("slurm", "render", "nosuch"), "has no Slurm config 'nosuch'"),
        (("slurm", "render", "one", "--count", "0"), "0 is not in the range"),
        (("slurm", "schedule-nodes", "nosuch"), "has no Slurm config 'nosuch'"),
        (("slurm", "schedule-nodes", "one", "--count", "-1"), "-1 is not in the range"),
        (("slurm", "schedule-nodes", "one", "--max-parallel-jobs", "0"), "0 is not in the range"),
        (("slurm", "recommend-nodes", "nosuch"), "has no Slurm config 'nosuch'"),
        (("slurm", "recommend-nodes", "one"), "There is no sinfo here"),
        (("slurm", "recommend-nodes", "one", "--memory-gib", "nan"), "'nan' is not a finite number"),
        (("slurm", "recommend-nodes", "one", "--memory-gib", "inf"), "'inf' is not a finite number"),
        (
            ("slurm", "recommend-nodes", "2", "--cpus", "4", "--memory-gib", "4"),
            "walltime: config 2 has none",
        ),
        (("slurm", "run-jobs", "--workflow", "999"), "no such workflow: 999"),
        (("allocations", "list", "--status", "nosuch"), "'nosuch' is not one of"),
        (("allocations", "show", "999"), "no such scheduled compute node: 999"),
        (("allocations", "show", ""), "'' is not a key"),
        (("allocations", "cancel", "999", "998"), "no such allocation: 999"),
        (("allocations", "drain", "999"), "no such allocation: 999"),
        (("allocations", "logs", "999"), "no such scheduled compute node: 999"),
        (("allocations", "logs", "1", "--tail", "0"), "0 is not in the range"),
        (("serve", "--in-slurm", "w.json:one"), "there is no Slurm here: There is no scontrol here"),
        (("serve", "--in-slurm", "w.json"), "has 2 Slurm configs"),
        (("serve", "--in-slurm", ""), "there is no such file"),
        (("serve", "--longest-wait", "nan"), "'nan' is not a finite number"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else value[:24],
)
def test_what_is_asked_wrongly_is_refused(
    shell: Shell, key: str, command: tuple[str, ...], words: str
) -> None:
    before = configs_of(shell)
    said = shell.refused(*command)
    assert words in said
    assert "Traceback" not in said
    assert configs_of(shell) == before


def test_two_configs_of_one_name_are_told_by_their_keys(shell: Shell, key: str) -> None:
    first = next(item["_key"] for item in configs_of(shell) if item["name"] == "one")
    second = shell.client.add_document(key, "slurm_schedulers", {"name": "one", "account": "b", "nodes": 1})
    said = shell.refused("slurm", "render", "one")
    assert f"give a key, one of: {first} (one), {second['_key']} (one)." in said
    assert "--account=b" in shell.ok("slurm", "render", str(second["_key"]))


def test_a_config_is_made_changed_and_cleared(shell: Shell, key: str) -> None:
    made = shell.json(*ADD, "--mem", "0", "--partition", "long", "--set-up", "module load gcc")["_key"]
    shell.ok("slurm", "modify-config", "x", "--partition", "", "--mem", "64G")
    (config,) = [item for item in configs_of(shell) if item["_key"] == made]
    assert (config["mem"], config.get("partition"), config["set_up"]) == ("64G", None, ["module load gcc"])


def test_no_slurm_is_an_answer(shell: Shell, key: str) -> None:
    plain = shell.call("slurm", "probe", "--from-node", "one")
    assert (plain.exit_code, plain.stdout[:16]) == (1, "Slurm here: no, ")
    listed = shell.call("slurm", "probe", "--format", "json")
    assert listed.exit_code == 1
    (answer,) = json.loads(listed.stdout)["answers"]
    assert (answer["answer"], "scontrol" in answer["reason"]) == (False, True)


@pytest.mark.parametrize("group", [slurm, allocations], ids=["slurm", "allocations"])
def test_every_help_has_examples(shell: Shell, group: click.Group) -> None:
    for name in group.commands:
        text = shell.ok(str(group.name), name, "--help")
        assert "Examples:" in text, name
        assert f"lading {group.name} {name}" in text or name == "run-jobs"
