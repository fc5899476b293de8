"""From a scheduler document to the script that sbatch gets. Whatever a person wrote is quoted or refused."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from lading.toolkit.backends import LaunchRequest
from lading.toolkit.domain.values import parse_walltime
from lading.toolkit.errors import BadInput, PermanentError

_OUTPUT: Final = "`lading allocations logs` reads slurm_JOB.out in the workflow's output folder"
_OWN_OPTIONS: Final = {
    "--job-name": "the name by which a launch is found again",
    "-J": "the name by which a launch is found again",
    "--array": "the number of allocations decides on it",
    "-a": "the number of allocations decides on it",
    "--parsable": "the answer is read by Lading",
    "--wrap": "the script is Lading's",
    "--wait": "Lading does not wait for a job's end",
    "-W": "Lading does not wait for a job's end",
    "--test-only": "Lading tests before it submits",
    "--export": "name variables in a job's env instead",
    "--export-file": "name variables in a job's env instead",
    "--output": _OUTPUT,
    "-o": _OUTPUT,
    "--error": _OUTPUT,
    "-e": _OUTPUT,
}
_FLAGS: Final = frozenset("hHIkOQsuvVW")
"""Letters of sbatch that take no value: others may follow in the same word."""
# Field of the document -> option of sbatch, in the order in which they are written.
_OPTIONS: Final = {
    "account": "--account",
    "partition": "--partition",
    "qos": "--qos",
    "nodes": "--nodes",
    "ntasks_per_node": "--ntasks-per-node",
    "cpus": "--cpus-per-task",
    "mem": "--mem",
    "gres": "--gres",
    "gpus": "--gpus-per-node",
    "tmp": "--tmp",
    "walltime": "--time",
    "constraint": "--constraint",
    "exclude": "--exclude",
    "reservation": "--reservation",
}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


@dataclass(frozen=True, slots=True)
class Script:
    """One call of sbatch."""

    name: str
    """Of the job: the tag, and the row where each row is a job of its own."""
    text: str
    rows: tuple[int, ...]
    """The rows of the launch that it brings about; several are the tasks of an array, from 1."""
    options: tuple[str, ...] = ()
    """Of sbatch, one word each, as the text's #SBATCH lines have them."""


class _Verbatim(str):
    """Text that a template prints as it is."""

    __slots__ = ()


def scripts_of(request: LaunchRequest, templates: Path | None = None) -> list[Script]:
    """Return the scripts of a launch: one array, or one job for each row. Raises PermanentError."""
    count = len(request.node_files)
    if count > 1 and request.config.get("array") is False:
        return [_script(request, [row], f"{request.tag}-{row}", templates) for row in range(count)]
    return [_script(request, range(count), request.tag, templates)]


def options_of(request: LaunchRequest, rows: Sequence[int], name: str) -> list[str]:
    """Return the options of sbatch for these rows, one word each."""
    config = request.config
    words = [f"--job-name={name}", *options_of_config(config), *_wholeness(config)]
    is_array = len(rows) > 1
    if is_array:
        words.append(f"--array=1-{len(rows)}")
    folder = one_line("output_directory", request.output_directory).replace("%", "%%")
    if "\\" in folder:
        raise PermanentError(
            f"output_directory: {folder!r} has a backslash, which Slurm takes out of file names."
        )
    words.append(f"--output={folder}/slurm_{'%A_%a' if is_array else '%j'}.out")
    # A job that Slurm starts again goes on in the same file, and is known by its restart count.
    words += ["--open-mode=append", "--requeue"]
    words.append(f"--chdir={one_line('working_directory', request.working_directory)}")
    return words + extra_options(config.get("extra"))


def options_of_config(config: Mapping[str, Any]) -> list[str]:
    """Return the options that a document's own fields stand for, without `extra`."""
    return [
        f"{option}={one_line(field, value)}"
        for field, option in _OPTIONS.items()
        if (value := config.get(field)) is not None
    ]


def extra_options(text: str | None) -> list[str]:
    """Split `extra` into words as a shell would, expanding nothing; refuse what Lading decides itself."""
    if not text:
        return []
    try:
        words = shlex.split(one_line("extra", text))
    except ValueError as error:
        raise PermanentError(f"extra: {text!r} cannot be split into options: {error}.") from error
    for word in words:
        name = _own_option(word)
        if name is not None:
            refused = ", ".join(sorted(name for name in _OWN_OPTIONS if name.startswith("--")))
            raise PermanentError(
                f"extra: {word!r} is not accepted: {_OWN_OPTIONS[name]}. Accepted are all options of sbatch but "
                f"{refused} and their letters."
            )
    if words and not words[0].startswith("-"):
        raise PermanentError(
            f"extra: {text!r} begins with no option; accepted is a text such as '--nice=10'."
        )
    return words


def _own_option(word: str) -> str | None:
    """Return which option of Lading's a word of `extra` means, as sbatch reads it; None for another."""
    if word.startswith("--"):
        # sbatch takes the beginning of a name, too: `--out` is `--output`.
        name = word.partition("=")[0]
        return next((own for own in _OWN_OPTIONS if len(name) > 2 and own.startswith(name)), None)
    if not word.startswith("-"):
        return None
    for letter in word[1:]:
        if f"-{letter}" in _OWN_OPTIONS:
            return f"-{letter}"
        if letter not in _FLAGS:
            # What follows is this letter's value.
            return None
    return None


def walltime_seconds(config: Mapping[str, Any]) -> int | None:
    """Return how long an allocation may last; None when the document does not say."""
    text = config.get("walltime")
    if text is None:
        return None
    try:
        seconds = parse_walltime(str(text))
    except BadInput as error:
        raise PermanentError(f"walltime: {error}") from error
    if seconds == 0:
        # To Slurm it means no limit at all.
        raise PermanentError(
            f"walltime: {text!r} is no time; accepted is at least '00:01:00', or none for the partition's own limit."
        )
    return seconds


def _wholeness(config: Mapping[str, Any]) -> list[str]:
    """Ask for whole nodes unless the document says what part: a bare `--nodes=1` gets a single CPU."""
    exclusive = config.get("exclusive")
    if exclusive is None:
        exclusive = not any(config.get(field) for field in ("cpus", "ntasks_per_node", "extra"))
    if not exclusive:
        return []
    return ["--exclusive"] if config.get("mem") else ["--exclusive", "--mem=0"]


def _script(request: LaunchRequest, rows: Sequence[int], name: str, templates: Path | None) -> Script:
    options = tuple(options_of(request, rows, name))
    return Script(name, _render(request, rows, options, templates), tuple(rows), options)


def _render(
    request: LaunchRequest, rows: Sequence[int], options: Sequence[str], templates: Path | None
) -> str:
    try:
        from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, TemplateError
    except ImportError as error:
        raise PermanentError(
            "Slurm needs Jinja2 where it is submitted from: pip install 'lading[slurm]'."
        ) from error
    folders = [templates] if templates is not None else []
    own = Path(str(files("lading.sbatch_templates")))
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in (*folders, own)]),
        # Not for HTML: each value is quoted for the shell by `quoted`.
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        finalize=quoted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["verbatim"] = _verbatim
    environment.filters["directive"] = directive
    if request.parameters.get("start_one_worker_per_node"):
        template = "per_node.sh.j2"
    else:
        template = "array.sh.j2" if len(rows) > 1 else "single.sh.j2"
    values = {
        "tag": request.tag,
        "options": list(options),
        "set_up": list(request.config.get("set_up") or ()),
        "node_files": [str(request.node_files[row]) for row in rows],
        "first_row": rows[0],
        "runner": _runner(request),
        "config": dict(request.config),
    }
    try:
        return environment.get_template(template).render(values)
    except TemplateError as error:
        raise PermanentError(f"The template {template} cannot be used: {error}") from error


def _runner(request: LaunchRequest) -> list[str]:
    words = [sys.executable, "-P", "-m", "lading.toolkit.runner"]
    seconds = walltime_seconds(request.config)
    if seconds:
        # Until the server hears from Slurm when this allocation ends: no job that cannot fit is begun.
        words += ["--time-limit-seconds", str(seconds)]
    jobs = request.parameters.get("max_parallel_jobs") or request.config.get("max_parallel_jobs")
    if jobs:
        words += ["--max-parallel-jobs", str(int(jobs))]
    name = "cpu_affinity_cpus_per_job"
    cpus_per_job = request.parameters.get(name) or request.config.get(name)
    if cpus_per_job:
        words += ["--cpu-affinity-cpus-per-job", str(int(cpus_per_job))]
    return words


def quoted(value: object) -> str:
    """Print a value as one word of the shell, whatever is in it."""
    return str(value) if isinstance(value, _Verbatim) else shlex.quote(one_line("a value", value))


def directive(value: object) -> str:
    """Print a value as one word of an #SBATCH line: there a backslash counts, and only within quotes."""
    text = one_line("an option", value)
    if _PLAIN.fullmatch(text):
        return _Verbatim(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return _Verbatim(f'"{escaped}"')


def _verbatim(value: object) -> str:
    return _Verbatim(one_line("set_up", value))


def one_line(field: str, value: object) -> str:
    """Return the text of a value; refuse what would begin a new line of the script."""
    text = str(value)
    for letter in text:
        if letter in "\n\r\0\v\f\x1c\x1d\x1e\x85\u2028\u2029":
            raise PermanentError(
                f"{field}: {text!r} has a line break or NUL, which no option of sbatch can hold."
            )
    return text
