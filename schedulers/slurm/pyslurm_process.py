"""The child process that talks to pyslurm: started when it is needed, given a time for each call, ended when it fails."""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from lading.schedulers.slurm.programs import clean_environment
from lading.schedulers.slurm.refusals import error_of_number
from lading.toolkit.errors import BackendError, PermanentError, TransientError

logger = logging.getLogger("lading.slurm")

_CHILD: Final = Path(__file__).with_name("pyslurm_child.py")
_CONFIGURATIONS: Final = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))
_LAST_WORDS: Final = 10
_GRACE_SECONDS: Final = 5.0


class PyslurmUnusable(PermanentError):
    """It is not installed, or not set up, for this server; no call was made."""


class PyslurmProcess:
    """One child, one question at a time; a child that dies or hangs costs that question alone."""

    def __init__(self, python: Path, *, held: Sequence[int] = ()) -> None:
        self._python = python
        self._held = tuple(held)
        self._mutex = threading.Lock()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._said: deque[str] = deque(maxlen=_LAST_WORDS)
        self._listener: threading.Thread | None = None

    def call(self, name: str, seconds: float, /, **arguments: Any) -> Any:
        """Ask the child; return what it answers.

        Raises TransientError when it does not, and then the call may have been carried out; another
        BackendError for what Slurm refuses.
        """
        with self._mutex:
            number = next(self._numbers)
            question = json.dumps({"id": number, "call": name, "arguments": arguments})
            process = self._running()
            try:
                answer = self._asked(process, question, number, time.monotonic() + seconds)
            except BaseException:
                # Whatever went wrong: an answer that comes late must not be taken for the next one's.
                self._end()
                raise
        if "error" in answer:
            raise error_of_number(answer["number"], answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the child; the next call starts another one."""
        with self._mutex:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            check_configuration(os.environ)
            self._process = self._start()
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: beside the child lies a `queue.py`, which is not the standard library's.
        command = [str(self._python), "-P", "-u", str(_CHILD)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment(os.environ) | {"LC_ALL": "C.UTF-8"},
                pass_fds=self._held,
                # Ctrl-C is for whoever started us; the child ends with its input.
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise PyslurmUnusable(f"pyslurm_python: {self._python} cannot be started: {error}") from error
        except OSError as error:
            raise TransientError(f"{self._python} cannot be started now: {error}") from error
        self._unread = b""
        self._said.clear()
        self._listener = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listener.start()
        return process

    def _listen(self, stream: IO[bytes]) -> None:
        """Read what libslurm prints, so that its pipe never fills."""
        for line in stream:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._said.append(text)
                logger.debug("pyslurm says: %s", text)
        stream.close()

    def _asked(
        self, process: subprocess.Popen[bytes], question: str, number: int, deadline: float
    ) -> Mapping[str, Any]:
        assert process.stdin is not None  # noqa: S101 it was asked for
        try:
            process.stdin.write(question.encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise self._death(process) from None
        while True:
            line = self._line(process, deadline)
            answer: Mapping[str, Any] = json.loads(line)
            if answer["id"] == number:
                return answer

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None  # noqa: S101 it was asked for
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TransientError("pyslurm did not answer in time; its process is ended.")
            read = os.read(process.stdout.fileno(), 1 << 20)
            if not read:
                raise self._death(process)
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self, process: subprocess.Popen[bytes]) -> BackendError:
        try:
            code = process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return TransientError("The process of pyslurm closed its output; it is ended.")
        if self._listener is not None:
            self._listener.join(_GRACE_SECONDS)
        words = "; ".join(self._said)[-500:] or "it said nothing"
        if any("No module named 'pyslurm'" in line for line in self._said):
            return PyslurmUnusable(
                f"pyslurm_python: {self._python} has no pyslurm; name a Python that has, or install it: "
                "pip install 'lading[pyslurm]'."
            )
        return TransientError(f"The process of pyslurm ended with code {code}: {words}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # No question is open, or it failed: there is nothing that it could finish in order.
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    logger.debug("The rest of a question to pyslurm is dropped.")
        if self._listener is not None:
            self._listener.join(_GRACE_SECONDS)


def check_configuration(environment: Mapping[str, str]) -> None:
    """Raise PyslurmUnusable where no slurm.conf can be read: there libslurm waits a minute and ends its process."""
    given = environment.get("SLURM_CONF")
    places = (Path(given),) if given else _CONFIGURATIONS
    if not any(os.access(place, os.R_OK) for place in places):
        looked = ", ".join(str(place) for place in places)
        raise PyslurmUnusable(
            f"slurm_transport: pyslurm needs a slurm.conf that can be read; there is none in {looked}. Name it "
            "with SLURM_CONF."
        )
