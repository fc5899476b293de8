"""Kill whoever sends or stores a workflow. The promise: the whole workflow is stored, or nothing of it."""

from __future__ import annotations

import json
import time

import pytest

from tests.faults.lab import Lab

JOBS = 4_000
TRIES = 8


def _stored(lab: Lab) -> list[str]:
    """Return the keys of the workflows that are there, each of which must be whole."""
    listed = lab.lading("workflows", "list", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    keys = [str(item["_key"]) for item in json.loads(listed.stdout)["workflows"]]
    for key in keys:
        with lab.client() as client:
            assert sum(client.progress(key).counts.values()) == JOBS
    return keys


@pytest.mark.parametrize("victim", ["client", "server"])
def test_killed_in_the_middle_of_a_submission(lab: Lab, victim: str) -> None:
    """Killed at eight moments of a submission that is repeated under one key: one whole workflow at the end."""
    specification = lab.specification([0.0] * JOBS)
    path = lab.folder / "large.json"
    path.write_text(json.dumps(specification))
    submission = ("submit-workflow", str(path), "--no-start", "--idempotency-key")
    began = time.monotonic()
    assert lab.lading(*submission, "measured").returncode == 0
    length = time.monotonic() - began
    [measured] = _stored(lab)
    for number in range(TRIES):
        process = lab.begin_lading(*submission, "the-one")
        # Its first third is the start of Python and the reading of the file.
        lab.await_exit(process, length * (0.35 + 0.65 * number / TRIES))
        if victim == "client":
            process.kill()
            process.wait()
        else:
            lab.kill_server()
            lab.start_server()
            # A client that had begun tries again by itself; one that looked for a server just then gives up.
            assert process.wait(60) in {0, 3}, (lab.folder / "lading.log").read_text()
        assert len(_stored(lab)) <= 2
    last = lab.lading(*submission, "the-one", "--format", "json")
    assert last.returncode == 0, last.stderr
    assert sorted(_stored(lab)) == sorted([measured, json.loads(last.stdout)["_key"]])
    verdict = lab.lading("db", "verify", "--database", lab.database)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
