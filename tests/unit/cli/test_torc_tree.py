"""torc's command tree: every command, and every option that is kept, stays acceptable under `lading`."""

from __future__ import annotations

import click
import pytest

from lading.toolkit.cli.main import main

LISTING = "-l --limit -s --skip"
SORTING = "--sort-by --reverse-sort"
TREE = {
    "": "-c --console-level -k --workflow-key -n --no-prompts -F --output-format -U --user -u --database-url --version",
    "collections join": f"-f {LISTING}",
    "collections join-by-edge": f"-f --outbound --inbound {LISTING}",
    "collections list": "",
    "collections show-join-configurations": "",
    "compute-nodes list": "",
    "compute-nodes list-resource-stats": "-x --exclude-process",
    "config create": "-F -u",
    "events list": f"-f {LISTING}",
    "events get-latest-event-timestamp": "",
    "events monitor": "-c --category",
    "export sqlite": "-f --force",
    "files add": "-n --name -p --path",
    "files delete": "",
    "files delete-all": "",
    "files list": f"-f {SORTING}",
    "graphs plot": "-k --keep-dot-file -o",
    "graphs plot-xgmml": "-k",
    "hpc slurm add-config": "-N --name -a --account -g --gres -m --mem -n --nodes -p --partition --qos -t --tmp "
    "--walltime -e --extra",
    "hpc slurm modify-config": "-a --account -g --gres -m --mem -n --nodes -p --partition --qos -t --tmp --walltime",
    "hpc slurm list-configs": "",
    "hpc slurm recommend-nodes": "-c --num-cpus -m --memory-gb",
    "hpc slurm schedule-nodes": "-m --max-parallel-jobs -n --num-hpc-jobs -S --start-one-worker-per-node",
    "hpc slurm run-jobs": "-c -m -o",
    "jobs add": "--cancel-on-blocking-job-failure --no-cancel-on-blocking-job-failure -c --command -k --key -n --name",
    "jobs list": f"-f {LISTING} {SORTING}",
    "jobs list-process-stats": LISTING,
    "jobs list-user-data": "--stores --consumes",
    "jobs delete": "",
    "jobs disable": "",
    "jobs reset-status": "",
    "jobs delete-all": "",
    "jobs assign-resource-requirements": "",
    "jobs run": "-c --cpu-affinity-cpus-per-job -m --max-parallel-jobs -o --output",
    "jobs run-function": "",
    "jobs run-postprocess": "",
    "reports results": "-r --run-id",
    "resource-requirements add": "-n -c --num-cpus -m --memory -r --runtime -N --num-nodes -a --apply-to-all-jobs",
    "resource-requirements modify": "-n -c --num-cpus -m --memory -r --runtime -N --num-nodes",
    "resource-requirements delete": "",
    "resource-requirements delete-all": "",
    "resource-requirements list": f"-f {LISTING} {SORTING}",
    "results delete": "",
    "results list": f"-f {LISTING} {SORTING}",
    "stats concatenate-process": "",
    "tui": "",
    "user-data add": "-d --data --ephemeral --not-ephemeral -n -s --stores -c --consumes",
    "user-data modify": "-n -d --ephemeral --not-ephemeral",
    "user-data delete": "",
    "user-data delete-all": "",
    "user-data get": "",
    "user-data list": f"-f {LISTING}",
    "workflows create": "-d --description -k --key -n --name",
    "workflows create-from-commands-file": "-c --cpus-per-job -d -k -m --memory-per-job -n -r --runtime-per-job",
    "workflows add-jobs-from-commands-file": "-c -m -r",
    "workflows create-from-json-file": "",
    "workflows modify": "-a --archive -d -n",
    "workflows cancel": "",
    "workflows delete": "",
    "workflows delete-all": "",
    "workflows list": f"-A --only-archived -i --include-archived -a --all-users -f {SORTING}",
    "workflows list-scheduler-configs": "",
    "workflows start": "-a --auto-tune-resource-requirements -i --ignore-missing-data",
    "workflows restart": "-d --dry-run -i --only-uninitialized",
    "workflows reset-status": "-f --failed-only -r --restart",
    "workflows process-auto-tune-resource-requirements-results": "",
    "workflows set-compute-node-parameters": "-e --expiration-buffer --wait-for-healthy-db "
    "-i --ignore-workflow-completion -w --wait-for-new-jobs",
    "workflows show": "",
    "workflows show-config": "",
    "workflows show-status": "",
    "workflows example": "",
    "workflows template": "",
}


@pytest.mark.parametrize("way", TREE)
def test_the_command_exists_with_its_options(way: str):
    command: click.Command = main
    for name in way.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"`{way}` has no {name}"
        command = found
    known = {text for item in command.params for text in (*item.opts, *item.secondary_opts)}
    assert [text for text in TREE[way].split() if text not in known] == []
