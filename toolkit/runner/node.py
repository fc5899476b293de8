"""The runner process from its first to its last moment: sweep, register, work, say bye."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lading.toolkit.errors import LadingError
from lading.toolkit.private_files import read_private
from lading.toolkit.runner import affinity, hardware, options, processes
from lading.toolkit.runner.channel import GuardianChannel
from lading.toolkit.runner.connection import Connection
from lading.toolkit.runner.journal import Journal
from lading.toolkit.runner.loop import Runner
from lading.toolkit.runner.registration import register, request_of
from lading.toolkit.wire.files import NodeFile

EXIT_REFUSED: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_BROKEN: Final = 70
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def serve(choice: options.Options, descriptor: int, guardian: str) -> int:
    """Register this node and run its jobs; return the exit code."""
    journal = Journal(choice.log_file, "runner")
    node_file = msgspec.json.decode(read_private(choice.node_file), type=NodeFile)
    beginning = _Beginning()
    channel = await GuardianChannel.open(descriptor, beginning.on_message, beginning.on_lost)
    loop = asyncio.get_running_loop()
    for number in (*_STOP_SIGNALS, signal.SIGTSTP, signal.SIGCONT):
        loop.add_signal_handler(number, beginning.on_signal, number)
    connection = Connection(node_file)
    code = EXIT_BROKEN
    try:
        found, remaining = await asyncio.to_thread(processes.sweep_orphans)
        if found:
            journal.warning(f"Killed {found} processes of dead runners; {len(remaining)} would not die.")
        node = await asyncio.to_thread(_node, choice)
        request = request_of(node_file, node, choice)
        registering = asyncio.ensure_future(register(connection, node_file, request, journal))
        registering.add_done_callback(beginning.wake)
        await beginning.awaken.wait()
        if not registering.done():
            registering.cancel()
            journal.info("Left before it was registered.")
            channel.send("bye")
            return 0
        registration = registering.result()
        journal.info(
            f"Registered as node {registration.response.compute_node} of workflow {node_file.workflow} "
            f"with {node.num_cpus} CPUs, {node.memory_bytes} bytes, {len(node.gpus)} GPUs."
        )
        runner = Runner(node_file, choice, guardian, connection, journal, registration, node, channel)
        beginning.hand_over(runner)
        code = await runner.run()
        channel.send("bye")
    except LadingError as error:
        journal.error(f"Refused: {error}")
        channel.send("bye")
        code = EXIT_UNREACHABLE if error.transient else EXIT_REFUSED
    finally:
        await connection.close()
        channel.close()
        # Lets the transport send its last bytes before the loop is closed.
        await asyncio.sleep(0)
    return code


class _Beginning:
    """Stands for the runner until there is one: remembers what it has to be told."""

    def __init__(self) -> None:
        self.awaken = asyncio.Event()
        """Set when the registration is over or we were told to stop."""
        self._runner: Runner | None = None

    def hand_over(self, runner: Runner) -> None:
        self._runner = runner

    def on_message(self, message: dict[str, Any]) -> None:
        if self._runner is not None:
            self._runner.on_message(message)
        elif message["op"] == "signal":
            self.wake()

    def on_signal(self, number: int) -> None:
        if self._runner is not None:
            self._runner.on_signal(number)
        elif number in _STOP_SIGNALS:
            self.wake()

    def on_lost(self) -> None:
        if self._runner is not None:
            self._runner.on_guardian_lost()
        else:
            self.wake()

    def wake(self, _done: object = None) -> None:
        self.awaken.set()


def _node(choice: options.Options) -> hardware.Node:
    found = hardware.node_of(hardware.observe(), os.environ)
    gpus = found.gpus
    if choice.gpus is not None:
        gpus = gpus[: choice.gpus] or tuple(str(index) for index in range(choice.gpus))
    num_cpus = choice.cpus or found.num_cpus
    groups: tuple[tuple[int, ...], ...] = ()
    if choice.cpu_affinity_cpus_per_job is not None:
        groups = affinity.cpu_groups(
            choice.cpu_affinity_cpus_per_job, affinity.numa_nodes(), num_cpus=num_cpus
        )
        num_cpus = len(groups)
    memory = choice.memory_bytes or found.memory_bytes
    return hardware.Node(num_cpus, memory, gpus, found.gpu_variable, groups)


def main(arguments: Sequence[str]) -> int:
    """Run as the guardian's child."""
    parser = argparse.ArgumentParser(prog="python -P -m lading.toolkit.runner.node")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--guardian", required=True)
    options.add_arguments(parser)
    namespace = parser.parse_args(arguments)
    choice = options.from_namespace(namespace)
    return asyncio.run(serve(choice, namespace.channel, namespace.guardian))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
