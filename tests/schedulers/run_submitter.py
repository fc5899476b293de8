"""A submitter whose local backend starts the stand-in runner: `run_submitter.py SERVER_FILE STATE`."""

import asyncio
import signal
import sys
from pathlib import Path

from lading.schedulers.local import LocalBackend
from lading.toolkit.log import configure_logging
from lading.toolkit.submitter.connection import Connection
from lading.toolkit.submitter.loop import Submitter


async def main() -> None:
    stand_in = Path(__file__).with_name("stand_in_runner.py")
    backend = LocalBackend([sys.executable, str(stand_in)], last_words_seconds=0.5)
    submitter = Submitter(Connection(Path(sys.argv[1])), {"local": backend}, Path(sys.argv[2]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, submitter.stop)
    await submitter.run()


configure_logging()
asyncio.run(main())
