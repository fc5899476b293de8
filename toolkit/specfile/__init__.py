"""Specification files: YAML, JSON, JSON5 and TOML text to one tree with places."""

from lading.toolkit.specfile.commands import from_command, from_commands, shell_word
from lading.toolkit.specfile.faults import describe_place
from lading.toolkit.specfile.files import Format, format_of, load, load_file, read_file

__all__ = [
    "Format",
    "describe_place",
    "format_of",
    "from_command",
    "from_commands",
    "load",
    "load_file",
    "read_file",
    "shell_word",
]
