"""The blocking face of the client: the same verbs, for scripts, notebooks and the command line.

The coroutines run in a loop of a thread of their own, so that it also works where a loop runs already.
Each verb is one line that hands on the signature of its asynchronous twin; a test compares the two.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from lading.toolkit.client.api import AsyncLading
from lading.toolkit.client.session import Patience
from lading.toolkit.client.target import Target

P = ParamSpec("P")
R = TypeVar("R")


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lading-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end; an interruption here cancels it there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def is_closed(self) -> bool:
        """Whether the loop has ended."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        if self.is_closed:
            return
        # Iterations that somebody began and dropped hold connections.
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _blocking(
    verb: Callable[Concatenate[AsyncLading, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Lading, P], R]:
    @wraps(verb)
    def call(self: Lading, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._thread.run(verb(self._client, *args, **kwargs))

    return call


def _iterating(
    verb: Callable[Concatenate[AsyncLading, P], AsyncIterator[R]],
) -> Callable[Concatenate[Lading, P], Iterator[R]]:
    @wraps(verb)
    def call(self: Lading, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return self._iterate(verb(self._client, *args, **kwargs))

    return call


async def _next(items: AsyncIterator[R], end: object) -> R | object:
    return await anext(items, end)


async def _close(items: AsyncIterator[Any]) -> None:
    # Generators only: what else iterates has nothing to close.
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


class Lading:
    """A client of one server whose calls block. Use it as a context manager."""

    def __init__(self, target: Target | str, *, patience: Patience | None = None) -> None:
        self._client = AsyncLading(target, patience=patience)
        self._thread = LoopThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._thread.run(self._client.close())
        self._thread.close()

    @property
    def target(self) -> Target:
        """The server this client talks to."""
        return self._client.target

    def _iterate(self, items: AsyncIterator[R]) -> Iterator[R]:
        end = object()
        try:
            while (item := self._thread.run(_next(items, end))) is not end:
                yield item  # type: ignore[misc]
        finally:
            # A dropped iteration may be collected after its client was closed, which has closed it too.
            if not self._thread.is_closed:
                self._thread.run(_close(items))

    ping = _blocking(AsyncLading.ping)
    version = _blocking(AsyncLading.version)
    health = _blocking(AsyncLading.health)
    shutdown = _blocking(AsyncLading.shutdown)
    create_workflow = _blocking(AsyncLading.create_workflow)
    create_empty_workflow = _blocking(AsyncLading.create_empty_workflow)
    modify_workflow = _blocking(AsyncLading.modify_workflow)
    list_workflows = _iterating(AsyncLading.list_workflows)
    get_workflow = _blocking(AsyncLading.get_workflow)
    delete_workflow = _blocking(AsyncLading.delete_workflow)
    start_workflow = _blocking(AsyncLading.start_workflow)
    restart_workflow = _blocking(AsyncLading.restart_workflow)
    cancel_workflow = _blocking(AsyncLading.cancel_workflow)
    reset_workflow_status = _blocking(AsyncLading.reset_workflow_status)
    reset_job_status = _blocking(AsyncLading.reset_job_status)
    initialize_jobs = _blocking(AsyncLading.initialize_jobs)
    finish_auto_tune = _blocking(AsyncLading.finish_auto_tune)
    workflow_status = _blocking(AsyncLading.workflow_status)
    workflow_config = _blocking(AsyncLading.workflow_config)
    change_workflow_config = _blocking(AsyncLading.change_workflow_config)
    workflow_specification = _blocking(AsyncLading.workflow_specification)
    specification_example = _blocking(AsyncLading.specification_example)
    specification_template = _blocking(AsyncLading.specification_template)
    list_documents = _iterating(AsyncLading.list_documents)
    get_document = _blocking(AsyncLading.get_document)
    add_document = _blocking(AsyncLading.add_document)
    modify_document = _blocking(AsyncLading.modify_document)
    delete_document = _blocking(AsyncLading.delete_document)
    delete_documents = _blocking(AsyncLading.delete_documents)
    list_edges = _iterating(AsyncLading.list_edges)
    add_edge = _blocking(AsyncLading.add_edge)
    collection_names = _blocking(AsyncLading.collection_names)
    join = _iterating(AsyncLading.join)
    dot_graph = _blocking(AsyncLading.dot_graph)
    assign_resource_requirements = _blocking(AsyncLading.assign_resource_requirements)
    list_job_user_data = _iterating(AsyncLading.list_job_user_data)
    progress = _blocking(AsyncLading.progress)
    planning = _blocking(AsyncLading.planning)
    is_complete = _blocking(AsyncLading.is_complete)
    required_existing_files = _blocking(AsyncLading.required_existing_files)
    missing_user_data = _blocking(AsyncLading.missing_user_data)
    add_jobs = _blocking(AsyncLading.add_jobs)
    list_jobs = _iterating(AsyncLading.list_jobs)
    get_job = _blocking(AsyncLading.get_job)
    cancel_job = _blocking(AsyncLading.cancel_job)
    retry_job = _blocking(AsyncLading.retry_job)
    explain_job = _blocking(AsyncLading.explain_job)
    list_attempts = _iterating(AsyncLading.list_attempts)
    list_results = _iterating(AsyncLading.list_results)
    list_files = _iterating(AsyncLading.list_files)
    list_compute_nodes = _iterating(AsyncLading.list_compute_nodes)
    drain_compute_node = _blocking(AsyncLading.drain_compute_node)
    declare_compute_node_lost = _blocking(AsyncLading.declare_compute_node_lost)
    list_allocations = _iterating(AsyncLading.list_allocations)
    get_allocation = _blocking(AsyncLading.get_allocation)
    request_allocations = _blocking(AsyncLading.request_allocations)
    ready_job_requirements = _blocking(AsyncLading.ready_job_requirements)
    cancel_allocation = _blocking(AsyncLading.cancel_allocation)
    drain_allocation = _blocking(AsyncLading.drain_allocation)
    list_events = _iterating(AsyncLading.list_events)
    follow_events = _iterating(AsyncLading.follow_events)
    list_tokens = _iterating(AsyncLading.list_tokens)
    create_token = _blocking(AsyncLading.create_token)
    revoke_token = _blocking(AsyncLading.revoke_token)
