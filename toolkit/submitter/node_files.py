"""The files by which a runner that was just started finds its server: one per allocation row, 0600."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec

from lading.toolkit.backends import LaunchRequest
from lading.toolkit.client.target import Target
from lading.toolkit.errors import BadInput
from lading.toolkit.private_files import make_private_directory, read_private, write_private
from lading.toolkit.wire.files import NodeFile
from lading.toolkit.wire.submissions import Launch, NodeTokenResponse

_SUFFIX: Final = ".json"

GetToken = Callable[[str, str], Coroutine[Any, Any, NodeTokenResponse]]
"""(workflow, allocation) -> its token."""


class NodeFiles:
    """Writes, finds and removes the node files below a state directory."""

    def __init__(self, state_directory: Path) -> None:
        self._directory = state_directory / "nodes"
        self._backends = state_directory / "backends"
        make_private_directory(self._directory)
        make_private_directory(self._backends)

    def request_of(self, launch: Launch) -> LaunchRequest:
        """Return what a backend is asked for."""
        working = Path(launch.working_directory) if launch.working_directory else Path.cwd()
        output = Path(launch.output_directory) if launch.output_directory else working / "output"
        return LaunchRequest(
            tag=launch.tag,
            config=launch.config,
            node_files=[self._path(launch.tag, index) for index in range(launch.count)],
            output_directory=output,
            working_directory=working,
            state_directory=self._backends / launch.backend,
            parameters=launch.parameters,
        )

    async def prepare(self, launch: Launch, target: Target, get_token: GetToken, *, is_fresh: bool) -> None:
        """Write the file of each row; one that a runner may be reading is left alone."""
        if len(launch.allocations) != launch.count:
            raise BadInput(
                f"Launch {launch.tag} has {len(launch.allocations)} rows for {launch.count} nodes."
            )
        request = self.request_of(launch)
        make_private_directory(request.state_directory)
        for index, allocation in enumerate(launch.allocations):
            path = self._path(launch.tag, index)
            if not is_fresh and _belongs_to(path, allocation, target):
                continue
            answer = await get_token(launch.workflow, allocation)
            document = NodeFile(
                url=target.url,
                server_id=answer.server_id,
                token=answer.token,
                workflow=launch.workflow,
                allocation=allocation,
                tag=launch.tag,
                output_directory=str(request.output_directory),
                working_directory=str(request.working_directory),
                fingerprint=target.fingerprint,
                server_file=None if target.server_file is None else str(target.server_file.absolute()),
            )
            write_private(path, msgspec.json.encode(document))

    def forget(self, kept_tags: frozenset[str]) -> None:
        """Remove the files of all other tags: their rows are closed, their tokens open nothing."""
        for path in self._directory.glob(f"*{_SUFFIX}"):
            tag = path.name.removesuffix(_SUFFIX).rpartition(".")[0]
            if tag not in kept_tags:
                path.unlink(missing_ok=True)

    def document_of(self, allocation: str) -> NodeFile | None:
        """Return the file of an allocation, which stays until its row is closed; None when it is not here."""
        for path in self._directory.glob(f"*{_SUFFIX}"):
            document = _read(path)
            if document is not None and document.allocation == allocation:
                return document
        return None

    def _path(self, tag: str, index: int) -> Path:
        # The tag comes over the network and names a file.
        if not tag or not all(letter.isalnum() or letter in "-_" for letter in tag):
            raise BadInput(f"The tag {tag!r} is not letters, digits, '-' and '_'.")
        return self._directory / f"{tag}.{index}{_SUFFIX}"


def _belongs_to(path: Path, allocation: str, target: Target) -> bool:
    document = _read(path)
    return (
        document is not None and document.allocation == allocation and document.server_id == target.server_id
    )


def _read(path: Path) -> NodeFile | None:
    try:
        return msgspec.json.decode(read_private(path), type=NodeFile)
    except (OSError, BadInput, msgspec.MsgspecError):
        return None
