"""The application: routes, middlewares, and what runs in the background while it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping

from aiohttp import web

from lading.api import health, openapi
from lading.api.auth import AUTHENTICATOR, Authenticator
from lading.api.context import SERVICES
from lading.api.dispatch import Dispatcher
from lading.api.extensions.routes import ROUTES as EXTENSION_ROUTES
from lading.api.middlewares import guarding_host, observing
from lading.api.router import ROUTER, Router
from lading.api.routing import Route
from lading.api.services import sweeper
from lading.api.services.identity import Principal
from lading.api.services.resources import Services
from lading.api.services.wakeups import Wakeups
from lading.api.state import STATE, ServerState
from lading.api.storage.migrate import server_id
from lading.api.storage.unit_of_work import Database
from lading.api.torc.routes import ROUTES as TORC_ROUTES
from lading.toolkit.clock import Clock, SystemClock
from lading.toolkit.wire.extensions import MAXIMUM_WAIT_SECONDS

log = logging.getLogger("lading.api")

ROUTES: tuple[Route, ...] = (*TORC_ROUTES, *EXTENSION_ROUTES, *health.ROUTES, *openapi.ROUTES)

GRACE_SECONDS = 2.0
"""How long requests that are being handled may take after the server was asked to stop."""
SHUTDOWN_SECONDS = 5.0
"""How long connections have to take their last answers."""
_LONGEST_PAUSE_SECONDS = 30.0


async def create_services(
    database: Database,
    *,
    clock: Clock | None = None,
    read_only: bool = False,
    authenticated: bool = True,
    local_cpus: int | None = None,
    longest_wait_seconds: float = MAXIMUM_WAIT_SECONDS,
) -> Services:
    """Return the services over an open database whose schema is current."""
    wakeups = Wakeups(longest_wait_seconds)
    database.subscribe(wakeups.publish)
    return Services(
        database=database,
        clock=clock or SystemClock(),
        wakeups=wakeups,
        server_id=await server_id(database),
        read_only=read_only,
        authenticated=authenticated,
        local_cpus=local_cpus,
    )


def create_app(
    services: Services,
    *,
    state: ServerState | None = None,
    fixed_tokens: Mapping[str, Principal] | None = None,
    allowed_hosts: Collection[str] | None = (),
    routes: Iterable[Route] = ROUTES,
) -> web.Application:
    """Return the application over services whose database is open.

    `allowed_hosts` are the names besides loopback's that a Host header may carry; None: any.
    """
    state = state or ServerState()
    authenticator = Authenticator(
        services.database, services.clock, required=services.authenticated, fixed=fixed_tokens
    )
    services.wakeups.on_tokens_changed(authenticator.forget)
    router = Router(routes)
    app = web.Application(middlewares=[observing(state.metrics), guarding_host(allowed_hosts)])
    app[SERVICES] = services
    app[STATE] = state
    app[ROUTER] = router
    app[AUTHENTICATOR] = authenticator
    dispatcher = Dispatcher(router, services, authenticator, state)
    app.router.add_route("*", "/{path:.*}", dispatcher.__call__)

    async def stop(_app: web.Application) -> None:
        state.stopping.set()
        # Whoever waits looks once more and answers if there is something to say.
        services.wakeups.close()
        await dispatcher.end_all(GRACE_SECONDS)

    app.on_shutdown.append(stop)
    if not services.read_only:
        app.cleanup_ctx.append(_background(services, state))
    return app


def _background(services: Services, state: ServerState) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_keep(state, "sweeper", lambda: sweeper.run(services)))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return context


async def _keep(state: ServerState, name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a background part again whenever it fails: a database that was away for a minute comes back."""
    pause = 1.0
    while True:
        try:
            await run()
            return
        except Exception as error:
            log.exception(
                "A background part of the server failed; it is started again.", extra={"part": name}
            )
            state.degraded[name] = (
                f"{type(error).__name__}; tried again in {pause:.0f} s; see the server's log"
            )
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        state.degraded.pop(name, None)
