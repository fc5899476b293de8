"""The Slurm backend: an allocation is a Slurm job, or one task of a job array."""

from lading.schedulers.slurm.backend import SlurmBackend

__all__ = ["SlurmBackend"]
