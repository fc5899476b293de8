"""What a runner measured is stored once, whatever answers are lost."""

from __future__ import annotations

from tests.api.test_completion_script import Node, begin
from tests.lib.service import Service


async def test_statistics_that_are_told_again_are_stored_once(server: Service) -> None:
    key = await begin(server)
    node, other = await Node(server, key).register(), await Node(server, key).register()
    first = {"number": 2**53 - 1, "stats": [{"resource_type": "Process", "job_key": "7", "num_samples": 1}]}
    second = {"number": 5, "stats": [{"resource_type": "CPU", "num_samples": 3}]}
    # The answer was lost; the next request tells the same, and what is new.
    await node.sync(node_statistics=[first])
    await node.sync(node_statistics=[first, second])
    await node.sync(node_statistics=[second], leave=True)
    await other.sync(node_statistics=[second])
    found = (await server.ok("GET", f"/workflows/{key}/compute_node_stats"))["items"]
    assert [document["stats"][0]["resource_type"] for document in found] == ["Process", "CPU", "CPU"]
    edges = (await server.ok("GET", f"/workflows/{key}/edges/node_used"))["items"]
    assert [edge["_from"].rpartition("/")[2] for edge in edges] == [node.key, node.key, other.key]
    assert [edge["_to"] for edge in edges] == [document["_id"] for document in found]
