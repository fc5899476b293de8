"""`lading jobs run-function` and `run-postprocess`: the jobs of a mapping. Not for people."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from lading.toolkit.cli.context import Session
from lading.toolkit.cli.output import examples, note
from lading.toolkit.client import Lading
from lading.toolkit.client.mapped_job import Job, run_function, run_postprocess, target_of_environment
from lading.toolkit.errors import LadingError

_EXIT_RAISED = 1


@click.command(
    "run-function", hidden=True, epilog=examples("lading jobs run-function     as the command of a job")
)
@click.pass_context
def run_function_command(ctx: click.Context) -> None:
    """Call the function that this job's user data names, and store what it returns."""
    _run(ctx, run_function)


@click.command(
    "run-postprocess", hidden=True, epilog=examples("lading jobs run-postprocess  as the command of a job")
)
@click.pass_context
def run_postprocess_command(ctx: click.Context) -> None:
    """Call the function that this job's user data names with the results of all jobs before it."""
    _run(ctx, run_postprocess)


def _run(ctx: click.Context, work: Callable[[Lading, Job], Any]) -> None:
    job = Job.of_environment(os.environ)
    with _client(ctx.obj) as client:
        try:
            work(client, job)
        except LadingError:
            raise
        except Exception:  # noqa: BLE001 - whatever the person's function raises is shown as it is
            note(traceback.format_exc())
            ctx.exit(_EXIT_RAISED)


@contextmanager
def _client(session: Session) -> Iterator[Lading]:
    target = target_of_environment(os.environ)
    if target is None:
        with session.client() as client:
            yield client
    else:
        with Lading(target) as client:
            yield client
