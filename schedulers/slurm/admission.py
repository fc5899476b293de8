"""Before the first submission of a config: Slurm takes and lets wait for ever what breaks a partition's limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lading.schedulers.slurm.listing import Partition
from lading.schedulers.slurm.script import Script, walltime_seconds
from lading.schedulers.slurm.transport import Transport
from lading.toolkit.domain.values import format_walltime
from lading.toolkit.errors import CapacityError, PermanentError


def admit(transport: Transport, config: Mapping[str, Any], scripts: Sequence[Script]) -> None:
    """Raise PermanentError for what can never run, CapacityError for what cannot now."""
    check_partitions(config, transport.partitions())
    # Each script of a launch asks for the same.
    transport.test(scripts[0], config)


def check_partitions(config: Mapping[str, Any], partitions: Sequence[Partition]) -> None:
    """Compare a config with the partitions that it names, or with the default one."""
    known = {partition.name: partition for partition in partitions}
    wanted = str(config.get("partition") or "")
    if wanted:
        names = [name for name in wanted.split(",") if name in known]
        if not names:
            accepted = ", ".join(sorted(known)) or "none"
            raise PermanentError(f"partition: {wanted!r} is none of this cluster; accepted: {accepted}.")
    else:
        names = [partition.name for partition in partitions if partition.is_default]
    objections = [objection for name in names if (objection := _objection(config, known[name])) is not None]
    if names and len(objections) == len(names):
        # Any one of several partitions suffices; all object, and the first says why.
        raise objections[0]


def _objection(config: Mapping[str, Any], partition: Partition) -> PermanentError | CapacityError | None:
    where = f"partition {partition.name!r}"
    asked = walltime_seconds(config)
    if asked is not None and partition.max_seconds is not None and asked > partition.max_seconds:
        most = format_walltime(int(partition.max_seconds))
        return PermanentError(
            f"walltime: {config['walltime']} is more than {where} allows; accepted: up to {most}."
        )
    nodes = int(config.get("nodes") or 1)
    limits = [limit for limit in (partition.max_nodes, partition.total_nodes) if limit is not None]
    if limits and nodes > min(limits):
        return PermanentError(
            f"nodes: {nodes} are more than {where} has for a job; accepted: up to {min(limits)}."
        )
    cpus = int(config.get("cpus") or 0) * int(config.get("ntasks_per_node") or 1)
    if partition.max_cpus_per_node is not None and cpus > partition.max_cpus_per_node:
        return PermanentError(
            f"cpus: {cpus} on a node are more than {where} allows; accepted: up to {partition.max_cpus_per_node}."
        )
    for field, allowed, denied in (
        ("account", partition.allow_accounts, partition.deny_accounts),
        ("qos", partition.allow_qos, ()),
    ):
        value = str(config.get(field) or "")
        if value and ((allowed is not None and value not in allowed) or value in denied):
            accepted = ", ".join(allowed) if allowed else f"any but {', '.join(denied)}"
            return PermanentError(f"{field}: {value!r} may not use {where}; accepted: {accepted}.")
    if not partition.is_up:
        return CapacityError(f"partition: {partition.name!r} is {partition.state}: nothing starts there now.")
    return None
