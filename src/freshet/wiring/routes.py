"""What hangs on which URL: the clients' protocols, the server API, and what operators look at."""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet.api.gateway_management import GatewayManagement
from freshet.api.http import ApiEndpoint
from freshet.api.openapi import Description
from freshet.api.routes import routes as api_routes
from freshet.commands.dispatch import Dispatcher
from freshet.commands.server import ServerOperations
from freshet.config import Config, admin_key_of, gateway_keys_of, metrics_key_of
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.endpoints.ai.routes import ai_routes
from freshet.endpoints.centrifuge import WebSocketEndpoint
from freshet.endpoints.durable.endpoint import durable_routes
from freshet.endpoints.gateway.endpoint import GatewayEndpoint
from freshet.endpoints.gateway.gateway import gateway_of
from freshet.endpoints.host_guard import HostGuard, Reply
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import answer, plain
from freshet.ops.admin.console import Console, console_config
from freshet.ops.admin.pages import admin_routes, root_routes
from freshet.ops.health import Health
from freshet.ops.metrics import MetricsEndpoint
from freshet.ops.routes import health_routes, metrics_routes
from freshet.ops.statsd import StatsdExporter
from freshet.policy.limits import AddressLimits
from freshet.policy.origin import Hosts, Origins
from freshet.policy.sigv4 import verifier_of
from freshet.runtime.admission import Admission
from freshet.runtime.server import SERVER, HttpBounds, InternalListener, RunningServer, TlsFiles
from freshet.transports.native import AcceptedSocket

PATHS = 1024  # whose routes are kept
LONGEST_KEPT = 300  # characters of one
NOTHING = (
    "Freshet has nothing at this path. Clients connect at connection/websocket or channels/{channel}; "
    "there are api/, metrics and health/live.\n"
)

Answer = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]


class _Said:
    """The same answer to requests and to WebSockets."""

    def __init__(self, response: Response) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(self._response, scope, receive, send)


class _Router(Router):
    """A WebSocket for which there is no path is refused as a request is: with 404."""

    def __init__(self, routes: list[BaseRoute]) -> None:
        super().__init__(routes, redirect_slashes=False)  # which would make an URL of whatever `Host` says
        self._find = lru_cache(PATHS)(self._route)  # most requests are like the one before: a poll, a post

    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "app" in scope:  # what is around it says so in its own way
            raise HTTPException(404, NOTHING.strip())
        await answer(plain(404, NOTHING), scope, receive, send)

    def accept(self, scope: Scope) -> AcceptedSocket | Response | None:
        """See `opening.Router`."""
        accept = getattr(self._endpoint(scope), "accept", None)
        return accept(scope) if accept is not None else None

    def reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """See `opening.Router`."""
        reply = getattr(self._endpoint(scope), "reply", None)
        return reply(scope, receive) if reply is not None else None

    def _endpoint(self, scope: Scope) -> object:
        """By the same routes as a call, and with the same scope."""
        path: str = scope["path"]
        find = self._find if len(path) <= LONGEST_KEPT else self._find.__wrapped__
        endpoint, found = find(scope["type"], scope.get("method", ""), scope.get("root_path", ""), path)
        scope.update(found)
        return endpoint

    def _route(self, kind: str, method: str, root_path: str, path: str) -> tuple[object, Scope]:
        """The endpoint of such a request, and what its scope has then."""
        scope: Scope = {"type": kind, "method": method, "root_path": root_path, "path": path}
        for route in self.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return getattr(route, "app", None), found
        return None, {}


class Routes:
    """clients: what hangs their protocols behind an opening. environment: where keys are, that the configuration has
    not. api_key: of the server API; None: there is none.

    beside: makes a node for the operators' own clients, who do not count with those of the application.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        operations: ServerOperations,
        clients: Callable[[Opening], list[BaseRoute]],
        environment: Mapping[str, str],
        *,
        api_key: str | None,
        beside: Callable[[Config], Dispatcher],
        dev: bool,
    ) -> None:
        self._beside = beside
        self._dispatcher = dispatcher
        self._operations = operations
        self._clients = clients
        self._environment = environment
        self._api_key = api_key
        self._dev = dev
        self.gateway = gateway_of(dispatcher, environment, dev=dev)

    def app(self, before: Answer) -> HostGuard:
        """What answers all that comes where clients come. before: stands before whatever comes elsewhere."""
        node, config = self._dispatcher.node, self._dispatcher.node.config
        server = SERVER.get() or RunningServer()
        server.http = HttpBounds(*msgspec.structs.astuple(config.http))
        server.refused = node.counts.refuse
        if config.tls.certificate and server.tls is None:  # the command line comes first
            server.tls = TlsFiles(*msgspec.structs.astuple(config.tls))
        origins = Origins(config.origins, dev=self._dev)
        clients = self._client_routes(origins, server)
        operators = self._operators(origins)
        health = health_routes(
            Health(config.health, lambda: node.state, lambda: node.pulse.away, lambda: node.wheel.lateness)
        )
        if (internal := config.internal).port:
            app = self._internal([*health, *operators])
            server.internal = InternalListener(internal.host, internal.port, internal.tls, partial(before, app))
            operators = []
        return self._public([*clients, *root_routes(dev=self._dev), *health, *operators])

    def _client_routes(self, origins: Origins, server: RunningServer) -> list[BaseRoute]:
        dispatcher, node, environment = self._dispatcher, self._dispatcher.node, self._environment
        limits, rates, buckets = node.config.limits, node.config.rates, node.sharing.buckets
        most, here = limits.sessions_per_address, node.registry.of_address
        addresses = AddressLimits(rates.address, node.clock.monotonic, most, here, buckets, rates.requests)
        opening = Opening(
            origins, node.admission, addresses, lambda: node.state == "draining" or server.is_full(), node.counts
        )
        verifier = verifier_of(gateway_keys_of(node.config, environment), node.clock)
        return [
            *self._clients(opening),
            *ai_routes(opening, dispatcher),
            *durable_routes(opening, dispatcher),
            *GatewayEndpoint(opening, dispatcher, self.gateway).routes,
            *GatewayManagement(self.gateway.connections, verifier, dev=self._dev).routes,
        ]

    def _operators(self, origins: Origins) -> list[BaseRoute]:
        """What wants a key: metrics, the server API, the admin page."""
        node, config, environment = self._dispatcher.node, self._dispatcher.node.config, self._environment
        node.parts.append(StatsdExporter(config, node.id, node.engine, node.snapshot))
        metrics = MetricsEndpoint(node.snapshot, node.bus, config.metrics, metrics_key_of(config, environment))
        api = ApiEndpoint(self._operations, config.api, origins, self._api_key, node.counts)
        return [
            *metrics_routes(metrics),
            *api_routes(api, Description(anonymous=config.api.anonymous)),
            *self._admin(admin_key_of(config, environment)),
        ]

    def _internal(self, routes: list[BaseRoute]) -> HostGuard:
        """Where no key is asked for, a page of a stranger must not get there by a name of its own."""
        return HostGuard(_Router(routes), Hosts([], dev=bool(self._without_key())), self._dispatcher.node.counts)

    def _public(self, routes: list[BaseRoute]) -> HostGuard:
        config = self._dispatcher.node.config
        hosts, open_hosts = Hosts(config.hosts, dev=self._dev), Hosts(config.hosts, dev=True)  # as in `_internal`
        return HostGuard(_Router(routes), hosts, self._dispatcher.node.counts, self._without_key(), open_hosts)

    def _without_key(self) -> list[str]:
        """The paths for which no key is asked."""
        config = self._dispatcher.node.config
        is_open = {
            "/api": config.api.anonymous,
            "/metrics": config.metrics.anonymous,
            "/admin": config.admin.anonymous,
        }
        return [path for path, anybody in is_open.items() if anybody]

    def _admin(self, key: str | None) -> list[BaseRoute]:
        """The admin page, where somebody may see it: with what its clients need, beside those of the application."""
        node = self._dispatcher.node
        if not key and not node.config.admin.anonymous:
            closed = _Said(plain(404, f"There is no admin page: set {node.config.admin.key_env} or [admin] key.\n"))
            paths = [Route(path, closed, methods=["GET"]) for path in ("/admin", "/admin/")]
            return [*paths, WebSocketRoute("/admin/connection/websocket", closed)]
        config, clock = console_config(), node.clock
        connected = self._beside(config)
        node.parts.append(Console(connected, self._dispatcher, self._operations, key))
        limits = config.limits
        admission = Admission(limits.connects_per_second, limits.connects_burst, clock)
        addresses = AddressLimits(config.rates.address, clock.monotonic)
        # No page of another site: `origins` names those that may connect to the application.
        opening = Opening(Origins([], dev=self._dev), admission, addresses, lambda: False, connected.node.counts)
        dialect = Centrifuge(limits.message_size)
        return admin_routes(WebSocketEndpoint(opening, connected, lambda scope, request: dialect))
