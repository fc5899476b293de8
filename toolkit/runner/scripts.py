"""The scripts that a node runs beside its jobs: the worker's start-up, the workflow's completion.

They are started through the guardian, as jobs are: whatever becomes of us, nothing of them stays.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from lading.toolkit.errors import LadingError, Unavailable
from lading.toolkit.runner.assignment import Place, UnusableCommand, split_command
from lading.toolkit.runner.channel import GuardianChannel
from lading.toolkit.runner.connection import Connection
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.messages import Launch, RawEnd
from lading.toolkit.wire.extensions import CompletionScript, CompletionScriptReport

_PREFIX: Final = "script-"
_TRIES: Final = 8
_LONGEST_PAUSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ScriptEnd:
    """How a script ended; `failure` is empty when it did what it should."""

    code: int
    failure: str = ""
    stdout_path: str | None = None
    stderr_path: str | None = None


class Scripts:
    """Runs scripts of one node, each to its end."""

    def __init__(
        self,
        place: Place,
        node: str,
        channel: GuardianChannel,
        connection: Connection,
        token: str,
        journal: Journal,
    ) -> None:
        self._place = place
        self._node = node
        self._channel = channel
        self._connection = connection
        self._token = token
        self._journal = journal
        self._ends: dict[str, asyncio.Future[RawEnd]] = {}

    @staticmethod
    def owns(attempt: str) -> bool:
        """Tell whether what the guardian speaks of is a script, not a job."""
        return attempt.startswith(_PREFIX)

    def on_ended(self, end: RawEnd) -> None:
        """Take the guardian's word that a script is over."""
        self._channel.send("forget", attempts=[end["id"]])
        future = self._ends.pop(end["id"], None)
        if future is not None and not future.done():
            future.set_result(end)

    def on_refused(self, attempts: Sequence[str]) -> None:
        """Take the guardian's word that it did not start scripts: the lease had ended."""
        for attempt in attempts:
            future = self._ends.pop(attempt, None)
            if future is not None and not future.done():
                future.set_exception(Unavailable("the lease had ended"))

    async def run(self, name: str, script: str) -> ScriptEnd:
        """Run a script in the workflow's working directory; its output goes beside that of the jobs."""
        stem = Path(self._place.output_directory, f"{name}_{self._node}")
        self._journal.info(f"Script {name}: {script}")
        try:
            argv = split_command(script, None)
        except UnusableCommand as error:
            return ScriptEnd(126, str(error))
        launch: Launch = {
            "id": f"{_PREFIX}{name}",
            "argv": argv,
            "env": {"TORC_WORKFLOW_KEY": self._place.workflow, "LADING_WORKFLOW": self._place.workflow},
            "cwd": self._place.working_directory,
            "stdout": f"{stem}.o",
            "stderr": f"{stem}.e",
            "outputs": [],
        }
        future = self._ends[launch["id"]] = asyncio.get_running_loop().create_future()
        self._channel.send("launch", jobs=[launch])
        try:
            end = await future
        except Unavailable as error:
            return ScriptEnd(126, str(error))
        failure = "" if end["code"] == 0 else end["failure"] or f"it ended with {end['code']}"
        return ScriptEnd(end["code"], failure, launch["stdout"], launch["stderr"])

    async def complete_workflow(self) -> None:
        """Claim the workflow's completion script; run and report it if it is ours to run."""
        try:
            answer = await self._post("claim_completion_script", b"{}")
            claimed = msgspec.json.decode(answer, type=CompletionScript)
            if claimed.script is None:
                return
            end = await self.run("workflow_completion", claimed.script)
            self._journal.info(f"The completion script ended with {end.code}.")
            report = CompletionScriptReport(
                run_id=claimed.run_id,
                return_code=end.code,
                message=end.failure,
                stdout_path=end.stdout_path,
                stderr_path=end.stderr_path,
            )
            await self._post("report_completion_script", msgspec.json.encode(report))
        except (LadingError, msgspec.DecodeError) as error:
            self._journal.error(f"The completion script: {error}")

    async def _post(self, verb: str, body: bytes) -> bytes:
        """Send a document until it is answered; the key makes a repeated claim the same claim."""
        node = quote(self._node, safe="")
        path = f"/workflows/{quote(self._place.workflow, safe='')}/compute_nodes/{node}/{verb}"
        key, pause = secrets.token_urlsafe(24), 0.1
        for number in range(1, _TRIES + 1):
            try:
                return await self._connection.post(path, body, token=self._token, idempotency_key=key)
            except Unavailable:
                if number == _TRIES:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last try raises")
