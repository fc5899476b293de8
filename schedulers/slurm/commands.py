"""`lading slurm`: what people do with Slurm configs."""

from __future__ import annotations

import click


@click.group()
def slurm() -> None:
    """Describe Slurm allocations, ask for them, and see what would be submitted."""
