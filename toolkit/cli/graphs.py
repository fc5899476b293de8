"""`lading graphs`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click

from lading.toolkit.cli.context import Session, chosen_workflow, output_option, workflow_option
from lading.toolkit.cli.output import examples, note
from lading.toolkit.cli.xgmml import dot_of_xgmml
from lading.toolkit.errors import LadingError

_NAMES = ("job_job_dependencies", "job_file_dependencies", "job_user_data_dependencies")
_DRAWING_SECONDS = 300.0


@click.group(
    epilog=examples(
        "lading graphs plot job_job_dependencies",
        "lading graphs plot --picture dot --directory pictures",
    )
)
def graphs() -> None:
    """Draw what depends on what."""


@graphs.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(_NAMES))
@click.option(
    "--picture", type=click.Choice(["svg", "dot"]), default="svg", show_default=True, help="What to write."
)
@click.option("-k", "--keep-dot-file", is_flag=True, help="Keep the DOT file beside the SVG.")
@click.option(
    "-o",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where to write. [default: here]",
)
@workflow_option
@output_option
@click.pass_obj
def plot(
    session: Session,
    *,
    names: tuple[str, ...],
    picture: str,
    keep_dot_file: bool,
    directory: Path,
    workflow: str | None,
    folder: Path | None,
) -> None:
    """Write graphs of a workflow as SVG (by default all three); prints the names of the files.

    SVG needs the program `dot` of Graphviz. Where it is missing, the DOT text is written.
    """
    program = shutil.which("dot") if picture == "svg" else None
    if picture == "svg" and program is None:
        note("The program `dot` (package graphviz) is not installed: the graphs are written as DOT text.")
    with session.reader(folder) as client:
        key = chosen_workflow(client, workflow)
        texts = {name: client.dot_graph(key, name) for name in names or _NAMES}
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _write_graph(program, text, directory / name, keep_dot_file=keep_dot_file)


@graphs.command("plot-xgmml", epilog=examples("lading graphs plot-xgmml graph.xgmml --keep-dot-file"))
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-k", "--keep-dot-file", is_flag=True, help="Keep the DOT file beside the SVG.")
def plot_xgmml(*, file: Path, keep_dot_file: bool) -> None:
    """Draw a graph that another program wrote as XGMML; prints the names of the files.

    The pictures lie beside FILE. Without the program `dot` of Graphviz the DOT text is written.
    """
    text = dot_of_xgmml(file)
    program = shutil.which("dot")
    if program is None:
        note("The program `dot` (package graphviz) is not installed: the graph is written as DOT text.")
    _write_graph(program, text, file.with_suffix(""), keep_dot_file=keep_dot_file)


def _write_graph(program: str | None, text: str, stem: Path, *, keep_dot_file: bool) -> None:
    """Write one graph as SVG, as DOT, or as both."""
    if program is None or keep_dot_file:
        source = stem.with_name(f"{stem.name}.dot")
        source.write_text(text, encoding="utf-8")
        click.echo(str(source))
    if program is not None:
        target = stem.with_name(f"{stem.name}.svg")
        _draw(program, text, target)
        click.echo(str(target))


def _draw(program: str, text: str, target: Path) -> None:
    try:
        result = subprocess.run(
            [program, "-Tsvg", "-o", str(target)],
            input=text,
            capture_output=True,
            text=True,
            timeout=_DRAWING_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LadingError(
            f"`dot` did not draw {target.name} within {_DRAWING_SECONDS:g} s; use --picture dot."
        ) from None
    if result.returncode != 0:
        raise LadingError(f"`dot` could not draw {target.name}: {result.stderr.strip()[:500]}")
