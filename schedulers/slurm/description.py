"""A script's options as the fields of pyslurm's JobSubmitDescription. Pure; what it cannot carry is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, Final

from lading.schedulers.slurm.node_shapes import memory_of
from lading.schedulers.slurm.script import Script, directive
from lading.toolkit.domain.values import parse_walltime
from lading.toolkit.errors import BadInput, PermanentError

_HOW: Final = "with `submit: pyslurm`"


def _mebibytes(option: str, value: str) -> int:
    size = memory_of(value)
    if size is None:
        raise PermanentError(f"{option}: {value!r} is not accepted {_HOW}; accepted is a size such as 64G.")
    return ceil(size / 2**20)


def _minutes(option: str, value: str) -> int:
    try:
        return ceil(parse_walltime(value) / 60)
    except BadInput as error:
        raise PermanentError(f"{option}: {error}") from error


def _resources(option: str, value: str) -> dict[str, int]:
    found = {}
    for part in value.split(","):
        name, _, count = part.rpartition(":")
        if not count.isdigit():
            name, count = part, "1"
        if not name or name.count(":") > 1 or "(" in part:
            raise PermanentError(
                f"{option}: {part!r} is not accepted {_HOW}; accepted is NAME[:TYPE]:COUNT, such as gpu:a100:2."
            )
        found[name] = int(count)
    return found


def _text(option: str, value: str) -> str:
    del option
    return value


def _count(option: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise PermanentError(f"{option}: {value!r} is not accepted {_HOW}; accepted is a number.") from error


# Option of sbatch -> name of the document's field, pyslurm's field, how the value is read.
_FIELDS: Final[Mapping[str, tuple[str, str, Callable[[str, str], Any]]]] = {
    "--job-name": ("name", "name", _text),
    "--account": ("account", "account", _text),
    "--partition": ("partition", "partitions", _text),
    "--qos": ("qos", "qos", _text),
    "--nodes": ("nodes", "nodes", _count),
    "--ntasks-per-node": ("ntasks_per_node", "ntasks_per_node", _count),
    "--cpus-per-task": ("cpus", "cpus_per_task", _count),
    "--mem": ("mem", "memory_per_node", _mebibytes),
    "--gres": ("gres", "gres_per_node", _resources),
    "--gpus-per-node": ("gpus", "gpus_per_node", _count),
    "--tmp": ("tmp", "temporary_disk_per_node", _mebibytes),
    "--time": ("walltime", "time_limit", _minutes),
    "--constraint": ("constraint", "constraints", _text),
    "--exclude": ("exclude", "excluded_nodes", _text),
    "--reservation": ("reservation", "reservations", _text),
    "--array": ("array", "array", _text),
    "--output": ("output_directory", "standard_output", _text),
    "--open-mode": ("open_mode", "log_files_open_mode", _text),
    "--chdir": ("working_directory", "working_directory", _text),
}
_FLAGS: Final[Mapping[str, tuple[str, Any]]] = {
    "--requeue": ("is_requeueable", True),
    "--exclusive": ("resource_sharing", "no"),
}


def description_of(
    script: Script, config: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields for a script. Raises PermanentError for what pyslurm cannot carry."""
    _check(script, config)
    fields: dict[str, Any] = {"script": script.text, "environment": dict(environment)}
    for word in script.options:
        option, _, value = word.partition("=")
        if word in _FLAGS:
            name, fixed = _FLAGS[word]
            fields[name] = fixed
        elif option in _FIELDS:
            member, name, read = _FIELDS[option]
            fields[name] = read(member, value)
        else:
            raise PermanentError(f"submit: {word!r} cannot be submitted {_HOW}; accepted: 'sbatch'.")
    gpus = fields.pop("gpus_per_node", None)
    if gpus is not None:
        # pyslurm knows no GPUs by node, but as a resource.
        fields["gres_per_node"] = {**fields.get("gres_per_node", {}), "gpu": gpus}
    # Slurm compares the tasks with the nodes, and pyslurm's default is a single one.
    fields["ntasks"] = fields.get("nodes", 1) * fields.get("ntasks_per_node", 1)
    return fields


def _check(script: Script, config: Mapping[str, Any]) -> None:
    if config.get("extra"):
        raise PermanentError(
            f"extra: {config['extra']!r} is not accepted {_HOW}: options of sbatch are read by sbatch alone."
        )
    if "--mem=0" in script.options:
        raise PermanentError(
            f"mem: whole nodes need it {_HOW}, which cannot ask for all the memory of a node; say how much, "
            "such as 64G, or take `cpus`."
        )
    own = {f"#SBATCH {directive(word)}" for word in script.options}
    for line in script.text.splitlines():
        if line.startswith("#SBATCH") and line not in own:
            raise PermanentError(
                f"sbatch_templates: the template's {line!r} is not read {_HOW}; accepted: the options of the config."
            )
