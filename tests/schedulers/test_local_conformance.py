"""The local backend keeps what every backend promises."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lading.schedulers.local import LocalBackend
from lading.schedulers.local.processes import kill_marked, marked_processes
from lading.toolkit.backends import LaunchRequest
from lading.toolkit.private_files import boot_id
from tests.schedulers.conformance import Conformance

STAND_IN = [sys.executable, str(Path(__file__).with_name("stand_in_runner.py"))]


class LocalLab:
    unknown_id = f"local:elsewhere:{boot_id()[:-1]}x:1:1:lading-unknown.0"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[LocalBackend] = []
        self.markers: list[str] = []

    def backend(self) -> LocalBackend:
        self.made.append(LocalBackend(STAND_IN, last_words_seconds=0.0))
        return self.made[-1]

    def request(self, tag: str, count: int = 1) -> LaunchRequest:
        files = []
        for index in range(count):
            files.append(self.folder / f"node.{tag}.{index}.json")
            files[-1].write_text(json.dumps({"starts": str(self.folder / "starts")}))
            self.markers.append(f"{tag}.{index}")
        return LaunchRequest(
            tag=tag,
            config={},
            node_files=files,
            output_directory=self.folder / "output",
            working_directory=self.folder,
            state_directory=self.folder / "state",
        )

    def count(self) -> int:
        return sum(1 for found in marked_processes(self.markers).values() if found)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LocalLab]:
    made = LocalLab(tmp_path)
    yield made
    assert kill_marked(made.markers, 5.0) == {}
    for backend in made.made:
        for child in backend._children.values():
            child.wait()


class TestLocal(Conformance):
    pass
