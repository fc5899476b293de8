"""Kill the submitter between any two of its steps. The promise: never two runners of one tag."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Self

from lading.toolkit.runner.processes import ALLOCATION_MARK, environment_of
from tests.faults.lab import Lab
from tests.lib.waiting import until


class Watch:
    """Counts the living runners of each allocation, as often as it can look."""

    def __init__(self, lab: Lab) -> None:
        self.most_at_once: dict[str, int] = defaultdict(int)
        self.seen: dict[str, set[int]] = defaultdict(set)
        self._lab = lab
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            marks = {pid: environment_of(pid).get(ALLOCATION_MARK) for pid in self._lab.runners()}
            # One that is dying shows no environment any more.
            runners = {pid: tag for pid, tag in marks.items() if tag}
            for tag, number in Counter(runners.values()).items():
                self.most_at_once[tag] = max(self.most_at_once[tag], number)
            for pid, tag in runners.items():
                self.seen[tag].add(pid)


def _steps(lab: Lab) -> list[tuple[str, Callable[[], object]]]:
    """What can be seen from outside of the steps of a launch, in their order."""
    files = lab.folder / "state"
    records = files / "backends" / "local"
    return [
        ("its holder's name is written", (files / "submitter.lock").exists),
        ("the node's file is written", lambda: list(files.glob("nodes/*.json"))),
        ("the share of the host is written", lambda: list(records.glob("*.share"))),
        ("the guardian has been started", lab.guardians),
        ("the guardian's record is written", lambda: list(records.glob("*.json"))),
        ("the first job runs", lab.jobs),
    ]


def test_killed_after_every_step(lab: Lab) -> None:
    """One launch, and a submitter that dies after each step of it: one runner, one start of every job."""
    workflow = lab.submit(lab.specification())
    with Watch(lab) as watch:
        for what, has_come in _steps(lab):
            lab.start_submitter()
            until(has_come, 20, what, pause=0.001)
            lab.kill_submitter()
        lab.start_submitter()
        lab.await_completion(workflow)
    assert len(watch.seen) == 1
    assert set(watch.most_at_once.values()) == {1}
    assert [len(pids) for pids in watch.seen.values()] == [1]
    lab.check(workflow, again=())


def test_killed_again_and_again_with_its_runners(lab: Lab) -> None:
    """Submitters that live for one second or less, and runners that die: each launch is one runner, once."""
    workflow = lab.submit(lab.specification())
    with Watch(lab) as watch:
        for number, ends in enumerate((10, 60, 110)):
            for fraction in (0.5, 0.8, 1.1):
                # Longer or shorter than it takes to start: it dies on its way somewhere else each time.
                lab.start_submitter()
                lab.kill_submitter(after_seconds=fraction + 0.07 * number)
            lab.start_submitter()
            lab.await_ends(ends)
            lab.kill_submitter()
            for runner in lab.runners():
                lab.kill(runner)
        lab.start_submitter()
        lab.await_completion(workflow)
    assert set(watch.most_at_once.values()) == {1}
    assert {len(pids) for pids in watch.seen.values()} == {1}
    lab.check(workflow)
