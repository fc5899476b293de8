"""Which transport the settings choose."""

from __future__ import annotations

import logging

from lading.schedulers.slurm.programs import Programs
from lading.schedulers.slurm.pyslurm_transport import Pyslurm
from lading.schedulers.slurm.transport import Transport
from lading.toolkit.errors import BackendError
from lading.toolkit.settings import Settings

logger = logging.getLogger("lading.slurm")


def chosen_transport(settings: Settings) -> Transport:
    """Return the transport that `slurm_transport` names; `auto` takes pyslurm where it answers now."""
    if settings.slurm_transport == "commands":
        return Programs()
    pyslurm = Pyslurm(settings.pyslurm_python)
    if settings.slurm_transport == "auto":
        try:
            pyslurm.description()
        except BackendError as error:
            logger.info("Slurm is asked by its commands: %s", error)
            return Programs()
    return pyslurm
