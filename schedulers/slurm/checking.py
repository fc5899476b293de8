"""What is wrong with a Slurm config, as far as that can be told without asking Slurm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lading.schedulers.slurm.script import extra_options, one_line, options_of_config, walltime_seconds
from lading.toolkit.errors import PermanentError

_SIZE: Final = re.compile(r"\d+([KMGT]B?)?", re.IGNORECASE)


def check_config(config: Mapping[str, Any]) -> None:
    """Raise PermanentError, which names the field, for what sbatch could never take."""
    if not config.get("account"):
        raise PermanentError("account: it is missing; accepted is the name of what Slurm charges.")
    options_of_config(config)
    extra_options(config.get("extra"))
    walltime_seconds(config)
    for line in config.get("set_up") or ():
        one_line("set_up", line)
    for field in ("mem", "tmp"):
        value = config.get(field)
        if value is not None and _SIZE.fullmatch(str(value)) is None:
            raise PermanentError(
                f"{field}: {value!r} is not a size; accepted is a number of MiB, or one with K, M, G or T: '64G'."
            )
