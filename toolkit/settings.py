"""What the `lading` command is told apart from its arguments, and by whom.

An option outranks the environment (`LADING_*`), which outranks the project's `.lading.toml`, which
outranks the user's `config.toml`, which outranks the default. Each source is checked by itself, so
that a refusal names the file or the variable that is wrong; and who said what is kept, because a
token must never follow an address that somebody else chose.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lading.toolkit.errors import BadInput, Violation
from lading.toolkit.private_files import make_private_directory

ENVIRONMENT_PREFIX = "LADING_"
PROJECT_FILE = ".lading.toml"
USER_FILE = "config.toml"
_PATH_FIELDS = frozenset({"token_file", "output", "sbatch_templates", "pyslurm_python"})
_SECRET_FIELDS = frozenset({"token", "password", "secret"})


class Origin(IntEnum):
    """Who set a value; the higher one wins."""

    DEFAULT = 0
    USER = 1
    PROJECT = 2
    ENVIRONMENT = 3
    OPTION = 4


class Settings(BaseSettings):
    """All settings; none of them is a secret."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    server_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+\S*$")
    """Base address of the server, any path prefix included."""
    token_file: Path | None = None
    """0600 file with the bearer token for `server_url`."""
    output_format: Literal["table", "csv", "json"] = "table"
    output: Path = Path("output")
    """Where job output, spools and an embedded server's database go."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    database: str | None = None
    """Path of a SQLite file, or postgres://HOST/NAME; never with a password in it."""
    slurm_transport: Literal["commands", "pyslurm", "auto"] = "commands"
    """How Slurm is asked: by its own programs, by pyslurm, or by pyslurm where that works."""
    pyslurm_python: Path | None = None
    """The Python that has pyslurm; by default the one that Lading runs under."""
    sbatch_templates: Path | None = None
    """Folder of a site's own templates for Slurm; each one found there replaces ours of that name."""
    user: str | None = None
    """Owner of new workflows; by default the login name."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing by itself: `load_settings` reads the sources one by one."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    values: Settings
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()
    layers: Mapping[Origin, Mapping[str, Any]] = field(default_factory=dict)

    def origin(self, name: str) -> Origin:
        """Say who set a value."""
        return self.origins.get(name, Origin.DEFAULT)


def load_settings(
    options: Mapping[str, Any] | None = None, *, directory: Path | None = None
) -> LoadedSettings:
    """Read all sources as seen from a folder (by default the working directory)."""
    warnings: list[str] = []
    layers: dict[Origin, Mapping[str, Any]] = {}
    for origin, place, content in _sources(options or {}, directory or Path.cwd(), warnings):
        layers[origin] = _checked(content, place)
    merged: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for origin in sorted(layers):
        merged.update(layers[origin])
        origins.update(dict.fromkeys(layers[origin], origin))
    return LoadedSettings(Settings(**merged), origins, tuple(warnings), layers)


def config_directory() -> Path:
    """Return the folder of the user's `config.toml`."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def state_directory(*, create: bool = True) -> Path:
    """Return the folder where running servers leave their addresses, made 0700 if it is missing."""
    path = _xdg("XDG_STATE_HOME", ".local/state")
    if create:
        make_private_directory(path)
    return path


def _xdg(variable: str, default: str) -> Path:
    # The XDG rules: a relative path counts as unset.
    given = os.environ.get(variable, "")
    base = Path(given) if given.startswith("/") else Path.home() / default
    return base / "lading"


def _sources(
    options: Mapping[str, Any], directory: Path, warnings: list[str]
) -> Iterator[tuple[Origin, str, dict[str, Any]]]:
    yield Origin.OPTION, "option", {name: value for name, value in options.items() if value is not None}
    yield Origin.ENVIRONMENT, "environment", dict(EnvSettingsSource(Settings)())
    project = _project_file(directory.absolute(), warnings)
    if project is not None:
        yield Origin.PROJECT, str(project), _read_toml(project)
    user = config_directory() / USER_FILE
    if user.is_file():
        yield Origin.USER, str(user), _read_toml(user)


def _project_file(directory: Path, warnings: list[str]) -> Path | None:
    for folder in (directory, *directory.parents):
        path = folder / PROJECT_FILE
        try:
            status = path.stat()
        except OSError:
            continue
        # On a shared machine anybody may put a file into /tmp or into a group's folder.
        if status.st_uid != os.getuid():
            warnings.append(f"{path} is ignored: it belongs to another user (uid {status.st_uid}).")
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            warnings.append(f"{path} is ignored: others can write to it; run: chmod go-w {path}")
        else:
            return path
        return None
    return None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = dict(TomlConfigSettingsSource(Settings, toml_file=path)())
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    for name in _PATH_FIELDS & content.keys():
        if isinstance(content[name], str):
            # A relative path means the same wherever the command is called.
            content[name] = path.parent / Path(content[name]).expanduser()
    return content


def _checked(content: dict[str, Any], place: str) -> dict[str, Any]:
    try:
        Settings(**content)
    except ValidationError as error:
        raise BadInput.of([_violation(item, place) for item in error.errors()]) from error
    return content


def _violation(item: Any, place: str) -> Violation:
    name = str(item["loc"][0])
    where = f"{ENVIRONMENT_PREFIX}{name.upper()}" if place == "environment" else f"{place}: {name}"
    if name in _SECRET_FIELDS:
        return Violation(where, "A secret does not belong into settings; name a 0600 file with token_file.")
    if item["type"] == "extra_forbidden":
        accepted = ", ".join(Settings.model_fields)
        near = difflib.get_close_matches(name, list(Settings.model_fields), 1)
        return Violation(
            where,
            f"There is no such setting; accepted are {accepted}.",
            None,
            accepted,
            near[0] if near else None,
        )
    value = item["input"]
    if name == "server_url":
        return Violation(
            where, f"{value!r} is not an address; accepted is http://HOST:PORT or https://HOST:PORT."
        )
    return Violation(where, f"{value!r} is not accepted: {item['msg']}.", value)
