"""A program that takes a guardian's flags and keeps its promises on lock, record and marker."""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--node-file", "--lock-file", "--record-file", "--log-file"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--cpus", "--memory-bytes", "--max-parallel-jobs"):
        parser.add_argument(name, type=int)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    orders = json.loads(options.node_file.read_text())
    if orders.get("fail"):
        sys.stdout.write("boom: the node file is bad\n")
        sys.exit(4)
    time.sleep(orders.get("delay", 0))
    lock = os.open(options.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(75)
    if orders.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The job stands for what a guardian leaves behind when it is killed.
    job = subprocess.Popen(["sleep", "300"], start_new_session=True)
    default = Path(orders.get("output_directory", ".")) / "starts"
    with Path(orders.get("starts", default)).open("a") as starts:
        starts.write(f"{os.getpid()} {job.pid} {os.environ['LADING_ALLOCATION']}\n")
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = {"pid": os.getpid(), "start_ticks": int(fields[19]), "boot_id": boot}
    temporary = options.record_file.with_suffix(".new")
    temporary.write_text(json.dumps(record))
    temporary.replace(options.record_file)
    environment = {name: value for name, value in os.environ.items() if name.startswith(("LADING", "PG"))}
    said = {"argv": sys.argv[1:], "environment": environment, "cwd": str(Path.cwd())}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    job.wait()


main()
