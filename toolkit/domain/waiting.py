"""Why ready jobs wait: for a workflow, for one job, and for one config. Sentences a person can act on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lading.toolkit.domain.demand import (
    ConfigView,
    OpenCount,
    Sizing,
    WorkClass,
    lacks,
    may_run,
    per_allocation,
)


def explain(
    demand: Sequence[WorkClass],
    configs: Sequence[ConfigView],
    open_allocations: Mapping[str, OpenCount],
) -> list[str]:
    """Say why ready jobs wait, one sentence for each reason; empty when nothing holds them up."""
    reasons: dict[str, int] = {}
    for work in demand:
        if work.count:
            reason = _why_waiting(work, configs, open_allocations)
            if reason:
                reasons[reason] = reasons.get(reason, 0) + work.count
    return [f"{_jobs(count)} {reason}" for reason, count in reasons.items()]


def explain_job(
    work: WorkClass, configs: Sequence[ConfigView], open_allocations: Mapping[str, OpenCount]
) -> list[str]:
    """Say of each config that could run a ready job, or cannot, why no allocation of it does so now."""
    allowed = [config for config in configs if may_run(config, work)]
    if not allowed:
        return [_no_config(work)]
    reasons = []
    for config in allowed:
        missing = lacks(work, config)
        opened = open_allocations.get(config.id, OpenCount())
        if missing:
            reasons.append(f"{config.label} cannot run it: {'; '.join(missing)}")
        else:
            reasons.append(f"{config.label} could run it: {state_of(config, opened)}")
    return reasons


def state_of(config: ConfigView, opened: OpenCount) -> str:
    """Say what a config has open, and why no more comes."""
    parts = []
    if opened.active:
        parts.append(f"{_allocations(opened.active)} active")
    if opened.waiting:
        why = f": {'; '.join(opened.reasons)}" if opened.reasons else ""
        parts.append(f"{_allocations(opened.waiting)} waiting to start{why}")
    if opened.leaving:
        parts.append(f"{_allocations(opened.leaving)} leaving")
    hindrance = _hindrance(config, opened)
    if hindrance:
        parts.append(hindrance)
    return "; ".join(parts) or "an allocation is asked for"


def _hindrance(config: ConfigView, opened: OpenCount) -> str:
    """Say why nothing is launched from a config; empty when something may be."""
    if config.paused:
        return f"paused: {config.paused}"
    if config.max_allocations is None:
        return "none comes by itself, for it has no max_allocations; run `lading node run`, or set it"
    if opened.total >= config.max_allocations:
        return f"no more than its max_allocations, {config.max_allocations}"
    if config.retry_at:
        return f"the next one is asked for at {config.retry_at}, because {config.setback}"
    if config.sizing is Sizing.AWAITED:
        return "the batch system is asked what an allocation of it offers"
    return ""


def _no_config(work: WorkClass) -> str:
    if work.scheduler_config_id is not None:
        return f"ready for {work.scheduler_config_id}, which does not exist: give the jobs a scheduler that does."
    return "ready and the workflow has no scheduler config: add one, or run `lading node run`."


def _why_waiting(
    work: WorkClass, configs: Sequence[ConfigView], open_allocations: Mapping[str, OpenCount]
) -> str:
    allowed = [config for config in configs if may_run(config, work)]
    if not allowed:
        return _no_config(work)
    fitting = [config for config in allowed if per_allocation(work, config)]
    if not fitting:
        return _too_large(work, allowed)
    counts = [open_allocations.get(config.id, OpenCount()) for config in fitting]
    if any(count.active for count in counts):
        return ""
    waiting = sum(count.waiting for count in counts)
    if waiting:
        names = _names([c for c, count in zip(fitting, counts, strict=True) if count.waiting])
        return f"ready, waiting for {_allocations(waiting)} of {names} to start."
    return _why_none_comes(fitting)


def _why_none_comes(fitting: Sequence[ConfigView]) -> str:
    automatic = [config for config in fitting if config.max_allocations is not None]
    concerned = automatic or fitting
    if all(config.paused for config in concerned):
        why = "; ".join(f"{config.label} is paused: {config.paused}" for config in concerned)
        return f"ready and no allocation will come: {why}"
    if not automatic:
        return (
            f"ready and no allocation will come: {_names(fitting)} has no max_allocations;"
            " run `lading node run`, or set max_allocations."
        )
    if all(config.max_allocations == 0 for config in automatic):
        return f"ready and no allocation will come: {_names(automatic)} has max_allocations 0."
    usable = [config for config in automatic if config.max_allocations and not config.paused]
    awaited = [config for config in usable if config.sizing is Sizing.AWAITED]
    if awaited:
        return f"ready; the batch system is asked what an allocation of {_names(awaited)} offers."
    if usable and all(config.retry_at for config in usable):
        why = "; ".join(
            f"{config.label} is asked for again at {config.retry_at}, because {config.setback}"
            for config in usable
        )
        return f"ready; {why}"
    return ""


def _too_large(work: WorkClass, configs: Sequence[ConfigView]) -> str:
    """Say of each config what the jobs ask for beyond it."""
    misfits = "; ".join(f"{config.label}: {', '.join(lacks(work, config))}" for config in configs)
    return f"ready and fit no config: {misfits}."


def _names(configs: Sequence[ConfigView]) -> str:
    return ", ".join(config.label for config in configs)


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"


def _allocations(count: int) -> str:
    return "1 allocation" if count == 1 else f"{count} allocations"
