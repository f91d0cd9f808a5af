"""`Freshet`, the application: wires the parts together, is the ASGI callable, and the face of all that they do."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

import msgspec
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet.api.http import ApiEndpoint
from freshet.api.openapi import Description
from freshet.api.routes import routes as api_routes
from freshet.backends import engine_of, store_of, tracing_of
from freshet.commands.dispatch import Dispatcher
from freshet.commands.server import ServerOperations
from freshet.config import (
    ChannelOptions,
    Config,
    admin_key_of,
    api_key_of,
    channel_config,
    develop,
    load,
    metrics_key_of,
    secret_of,
    variables,
    webhook_secrets_of,
)
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.endpoints.ai.routes import ai_routes
from freshet.endpoints.centrifuge import WebSocketEndpoint
from freshet.endpoints.durable.endpoint import durable_routes
from freshet.endpoints.in_process import Client, Lifespan
from freshet.endpoints.opening import HostGuard, Opening
from freshet.endpoints.router import routes as client_routes
from freshet.endpoints.socketio.endpoint import socketio
from freshet.endpoints.socketio.namespaces import Namespace, Namespaces
from freshet.engines.memory import MemoryEngine
from freshet.model.log import Position
from freshet.node.node import Node
from freshet.observe.counts import Statistics
from freshet.ops.admin.console import Console, console_config
from freshet.ops.admin.pages import admin_routes, root_routes
from freshet.ops.health import Health
from freshet.ops.metrics import MetricsEndpoint
from freshet.ops.routes import health_routes, metrics_routes
from freshet.ops.statsd import StatsdExporter
from freshet.policy.authentication import Authentication
from freshet.policy.limits import AddressLimits, RateLimits
from freshet.policy.origin import Hosts, Origins
from freshet.policy.rights import Rights
from freshet.policy.webhooks import WebhookHooks
from freshet.rooms.room import Room
from freshet.rooms.rooms import NodeRooms
from freshet.rooms.rule import RoomRule
from freshet.rules.channel import Channel, with_options
from freshet.rules.hooks import Function, Hook, HookLimits
from freshet.rules.rules import ChannelRule
from freshet.runs.calls import RunCalls, SyncRunCalls
from freshet.runs.runs import NodeRuns
from freshet.runtime.admission import Admission
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.lifespan import serve_lifespan
from freshet.runtime.portal import Portal
from freshet.runtime.server import SERVER, HttpBounds, InternalListener, RunningServer, TlsFiles
from freshet.runtime.signals import EndingSignals

log = logging.getLogger("freshet")

F = TypeVar("F", bound=Function)
R = TypeVar("R", bound=Room)


def _router(routes: list[BaseRoute]) -> Router:
    return Router(routes, redirect_slashes=False)  # which would make an URL of whatever `Host` says


OPEN = (
    "dev: nothing is protected. Whoever reaches this server connects without a token, calls /api and reads /metrics "
    "without a key, and reads and writes every channel that has no rule of its own. This is for your own machine only: "
    "leave dev out and set FRESHET_SECRET wherever others can connect"
)


class SyncCalls(SyncRunCalls):
    """The methods of `Freshet` for code without `await`: `live.sync.publish("orders", 1)`.

    They are `publish`, `broadcast`, `emit`, `history`, `remove_history`, `presence`, `channels`, `subscribe`,
    `unsubscribe`, `disconnect`, `revoke`, `refresh`, `drain`, and of runs `start`, `stop`, `answer`, `steer` and
    `messages`, for whatever runs in a thread of the same process: a plain `def` endpoint of FastAPI, a Django view, a
    task of Celery. Each takes, answers and raises what the method of the same name does, and blocks its thread
    meanwhile.

    Raises `NotRunning` before the start and after the end, and RuntimeError in the event loop itself, which would wait
    for itself: there, and in hooks, write `await live.publish(...)`.
    """

    def __init__(self, live: "Freshet", portal: Portal) -> None:
        super().__init__(live, portal)
        self.publish = portal.blocking(live.publish)
        self.broadcast = portal.blocking(live.broadcast)
        self.emit = portal.blocking(live.emit)
        self.history = portal.blocking(live.history)
        self.remove_history = portal.blocking(live.remove_history)
        self.presence = portal.blocking(live.presence)
        self.channels = portal.blocking(live.channels)
        self.subscribe = portal.blocking(live.subscribe)
        self.unsubscribe = portal.blocking(live.unsubscribe)
        self.disconnect = portal.blocking(live.disconnect)
        self.revoke = portal.blocking(live.revoke)
        self.refresh = portal.blocking(live.refresh)
        self.drain = portal.blocking(live.drain)


class Freshet(RunCalls):
    """The real-time server as an ASGI application.

    What it does for the application, from `publish` to `drain`, may be awaited in any event loop, and is done in the
    one in which this runs. Code without `await` calls the same methods of `sync`; see `SyncCalls`.

    secret: checks the clients' tokens (HMAC). Without it nobody connects, unless `dev`.
    api_key: what callers of `/api/{method}` send as `X-API-Key`. Without it nobody is answered, unless `dev`.
    config: all other options; see `freshet.config`. Without it, they are those of the environment.
    dev: opens everything, for one's own machine.
    clock: what time it is; a test gives a `freshet.testing.ManualClock`.

    Raises ConfigError, with the option's path, for what cannot be.
    """

    def __init__(
        self,
        *,
        secret: str | None = None,
        api_key: str | None = None,
        config: Config | None = None,
        dev: bool = False,
        environment: Mapping[str, str] = os.environ,
        clock: Clock = SYSTEM,
    ) -> None:
        config = config if config is not None else load(None, environment)
        self.config = config = develop(config) if dev else config
        key = secret if secret is not None else secret_of(config, environment)
        engine, longest = engine_of(config, clock), config.limits.token_size
        self._tokens = tokens = Authentication.from_config(
            config.tokens, key, engine, clock, environment=environment, longest=longest, dev=dev
        )
        self._dev = dev
        webhooks = WebhookHooks.from_config(config.webhooks, webhook_secrets_of(config, environment), clock)
        self._node = node = Node(config, engine, tokens, clock, webhooks)
        if (tracing := tracing_of(config)) is not None:
            node.trace(tracing)
        self._rooms = NodeRooms(node, lambda url: store_of(url, clock))
        self._runs = NodeRuns(node)
        self._hooks, self._rules = node.hooks, node.rules
        rates = RateLimits(config.rates, 2 * config.limits.channels_per_client, clock.monotonic)
        personal = config.personal_channels
        rights = Rights(tokens, personal_channels=personal, carried=tokens.carried, clock=clock)
        dispatcher = Dispatcher(node, [rates, rights])
        super().__init__(ServerOperations(node, dispatcher.policies), node.portal)
        run, server = self._run, self._server
        self._namespaces = Namespaces(lambda *publication: run(server.publish(*publication)), node.rules)
        self._dispatcher = dispatcher
        self._router = self._routes(dispatcher, api_key or api_key_of(config, environment), environment, dev=dev)
        self._signals = EndingSignals(node.begin_draining)
        self._starting: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._in_lifespan = False
        self._configured = False
        self._lease = Lifespan(self.lifespan, lambda: self._started() is not None)
        self.sync = SyncCalls(self, node.portal)

    def _routes(
        self, dispatcher: Dispatcher, api_key: str | None, environment: Mapping[str, str], *, dev: bool
    ) -> ASGIApp:
        config, node = self.config, self._node
        origins, server = Origins(config.origins, dev=dev), SERVER.get() or RunningServer()
        server.http = HttpBounds(*msgspec.structs.astuple(config.http))
        addresses = AddressLimits(
            config.rates.address, node.clock.monotonic, config.limits.sessions_per_address, node.registry.of_address
        )
        opening = Opening(
            origins, node.admission, addresses, lambda: node.state == "draining" or server.is_full(), node.counts
        )
        api = ApiEndpoint(self._server, config.api, origins, api_key)
        metrics = MetricsEndpoint(node.snapshot, node.bus, config.metrics, metrics_key_of(config, environment))
        internal = config.internal
        health = Health(config.health, lambda: node.state, lambda: node.pulse.away, lambda: node.wheel.lateness)
        node.parts.append(StatsdExporter(config, node.id, node.engine, node.snapshot))
        clients = client_routes(opening, dispatcher, socketio(opening, dispatcher, self._namespaces), self._tokens)
        clients += [*ai_routes(opening, dispatcher), *durable_routes(opening, dispatcher)]
        operators = [*metrics_routes(metrics), *api_routes(api, Description(anonymous=config.api.anonymous))]
        operators += self._admin(dispatcher, admin_key_of(config, environment), dev=dev)
        if config.tls.certificate and server.tls is None:  # the command line comes first
            server.tls = TlsFiles(*msgspec.structs.astuple(config.tls))
        if internal.port:
            # Where no key is asked for, a page of a stranger must not get there by a name of its own.
            hosts = Hosts([], dev=config.api.anonymous or config.metrics.anonymous or config.admin.anonymous)
            app = HostGuard(_router([*health_routes(health), *operators]), hosts)
            server.internal = InternalListener(internal.host, internal.port, internal.tls, partial(self._answer, app))
            operators = []
        clients += root_routes(dev=dev)
        return HostGuard(_router([*clients, *health_routes(health), *operators]), Hosts(config.hosts, dev=dev))

    def _admin(self, dispatcher: Dispatcher, key: str | None, *, dev: bool) -> list[BaseRoute]:
        """The admin page, where somebody may see it: with what its clients need, beside those of the application."""
        node = dispatcher.node
        if not key and not node.config.admin.anonymous:
            return []
        config, clock = console_config(), node.clock
        own = Node(config, MemoryEngine(config.timing.presence_ttl, clock, config.limits.log_memory), clock=clock)
        rates = RateLimits(config.rates, 2 * config.limits.channels_per_client, clock.monotonic)
        rights = Rights(None, personal_channels=False, clock=clock)
        connected = Dispatcher(own, [rates, rights])
        node.parts.append(Console(connected, dispatcher, self._server, key))
        limits = config.limits
        admission = Admission(limits.connects_per_second, limits.connects_burst, clock)
        addresses = AddressLimits(config.rates.address, clock.monotonic)
        # No page of another site: `origins` names those that may connect to the application.
        opening = Opening(Origins([], dev=dev), admission, addresses, lambda: False, own.counts)
        dialect = Centrifuge(limits.message_size)
        return admin_routes(WebSocketEndpoint(opening, connected, lambda scope, request: dialect))

    @classmethod
    def from_config(cls, path: str | Path | None = None, *, environment: Mapping[str, str] = os.environ) -> Self:
        """From a TOML file, the `.env` beside it, and the environment, which comes first. Raises ConfigError."""
        path = Path(path) if path else None
        environment = {**variables(path.parent if path else Path()), **environment}
        return cls(config=load(path, environment), environment=environment)

    # ------------------------------------------------------------------------------------------------ rules and hooks

    @with_options(ChannelOptions)
    def channel(self, match: str, **options: Any) -> Channel:
        """A rule for all channels that `match` matches; rules made here come before those of the configuration.

        In a pattern `{name}` stands for one or more characters except `:`, and `*` for anything.

        The options are those of `[[channels]]` in the configuration.

        Raises ConfigError, which names the option, what is wrong and what is allowed.
        """
        rule = ChannelRule.of(channel_config(match, options))
        self._rules.add(rule)
        return Channel(rule)

    @with_options(ChannelOptions)
    def room(self, match: str, **options: Any) -> Callable[[type[R]], type[R]]:
        """Make a class that derives from `Room` what the channels are that `match` matches; see there.

        The options are those of `channel`, but that subscribers may publish unless `publish` says otherwise.
        """

        def register(room: type[R]) -> type[R]:
            self._rooms.add(RoomRule.of_room(channel_config(match, {"publish": "subscriber", **options}), room))
            return room

        return register

    def on_connect(self, function: F) -> F:
        """`function(session)` runs when a client connects; it may ask for `data`, `request`; may return `Welcome`."""
        self._hooks.connect = Hook(function, ("session",), ("data", "request"))
        return function

    def on_disconnect(self, function: F) -> F:
        """`function(session)` runs when a client has disconnected; it may ask for `why`, a `Disconnect`.

        It may be cancelled when the server stops: see `timing.close_timeout`.
        """
        self._hooks.disconnect = Hook(function, ("session",), ("why",))
        return function

    def on_message(self, function: F) -> F:
        """`function(session, data)` gets what clients send without waiting for a reply."""
        self._hooks.message = Hook(function, ("session", "data"))
        return function

    def rpc(self, method: str, *, timeout: float | None = None, grace: float | None = None) -> Callable[[F], F]:
        """`function(session, data)` answers calls of `method`; what it returns is the reply.

        timeout: seconds after which it is cancelled, and the client refused with 100. grace: seconds for which it may
        go on when its client is gone. None: `timing.hook_timeout` and `timing.hook_grace`.
        """

        def register(function: F) -> F:
            self._hooks.rpc[method] = Hook(function, ("session", "data"), limits=HookLimits(timeout, grace))
            return function

        return register

    def api_rpc(self, method: str, *, timeout: float | None = None) -> Callable[[F], F]:
        """`function(data)` answers calls of `method` by the server API, `/api/rpc`; what it returns is the reply.

        timeout: as of `rpc`.
        """

        def register(function: F) -> F:
            self._hooks.api[method] = Hook(function, ("data",), limits=HookLimits(timeout))
            return function

        return register

    def namespace(self, name: str, *, recovery: float = 0) -> Namespace:
        """The Socket.IO namespace `name`, such as `/shop`; `/`, the main one, is always there.

        All its clients are in the channel of the same name; a room is a channel, and wants a rule.

        recovery: seconds for which a client that was cut off may resume its session, in the same rooms, and
        gets what it missed there, as far as the rooms' history reaches; 0: it may not.

        Raises ValueError for what cannot be a name.
        """
        return self._namespaces.add(name, recovery)

    def token(
        self,
        user: str,
        *,
        expires_in: float | None = 3600,
        info: Any = None,
        channels: Sequence[str] = (),
        channel: str | None = None,
        **claims: Any,
    ) -> str:
        """A token for one of your users, to hand to a page of theirs once you know who they are.

        expires_in: seconds; None: it does not end. info: what others in a channel see of the user. channels: those to
        which the server subscribes it. channel: makes it a subscription token for this one. claims: whatever else the
        hooks are to find in `session.claims`.

        Raises ConfigError when there is no secret to sign it with.
        """
        return self._tokens.issue(
            user, expires_in=expires_in, info=info, channels=channels, channel=channel, claims=claims
        )

    def ticket(self, user: str, *, expires_in: float | None = 3600, **claims: Any) -> str:
        """For the URL of an `EventSource`, `?ticket=`: good for one use within 30 seconds, and then in no log of use.

        expires_in: seconds for which the client may stay. claims: as of a token, such as `channels` and `caps`.
        Raises ConfigError when there is no secret to sign it with. Pages get one by `POST /connection/ticket`, too.
        """
        return self._tokens.ticket(user, expires_in=expires_in, claims=claims)

    def on_authenticate(self, *, cookie: str | None = None, keep: float = 60) -> Callable[[F], F]:
        """`function(token)` says what the claims of a token are that is no JSON Web Token; None: it is not right.

        cookie: where such a token is, if the client shows none. keep: seconds for which the answer is kept.
        A `Refusal` is answered to the client as it is. The claims are those of a token: `{"sub": "alice", ...}`.
        """

        def register(function: F) -> F:
            timeout = self.config.timing.hook_timeout
            self._tokens.ask(Hook(function, ("token",)), keep, timeout, cookie)
            return function

        return register

    # ------------------------------------------------------------------------------------------------- from the server

    async def emit(
        self,
        event: str,
        *arguments: Any,
        room: str | None = None,
        namespace: str = "/",
        tags: Mapping[str, str] | None = None,
    ) -> Position:
        """Emit an event to the Socket.IO clients of a namespace, to all of them or to those in `room`.

        A room is a channel: its other subscribers get the argument as data, with the tag `event`. Several arguments are
        one list. Raises as `publish`.
        """
        return await self._namespaces.find(namespace).emit(event, *arguments, room=room, tags=tags)

    async def drain(self) -> None:
        """Admit no new clients, and disconnect those that are here, at a pace, within `timing.drain`.

        `freshet serve` does that when it ends, and SIGTERM does it under other servers: this is for one that ends
        otherwise.
        """
        await self._run(self._node.drain())

    def statistics(self) -> Statistics:
        """What this node holds now."""
        return self._node.statistics()

    def test_client(
        self,
        user: str = "",
        *,
        token: str | None = None,
        data: Any = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        **claims: Any,
    ) -> Client:
        """For your tests: `async with live.test_client("alice") as alice:`, a client without a network.

        token: what it connects with; otherwise one is made for `user` with `claims` (see `token`), or none without a
        user. data: what it sends along, for the hook `on_connect`. headers: of its request, names in lower case.
        The application runs as long as the first of them does, unless it runs already.
        """
        if token is None:
            token = self.token(user, **claims) if user else ""
        return Client(self._dispatcher, self._lease, token, data, headers)

    # ------------------------------------------------------------------------------------------------------------ ASGI

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """For `FastAPI(lifespan=live.lifespan)`: runs the engine and the timing wheel."""
        self._in_lifespan = True
        await self._start()
        try:
            yield
        finally:
            self._signals.stop()
            await self._node.stop()
            self._starting = None
            if (server := SERVER.get()) is not None and self._node.drain in server.drains:
                server.drains.remove(self._node.drain)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(self.lifespan(), receive, send)
        else:
            await self._answer(self._router, scope, receive, send)

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._started()
        if started is None or not started.done():
            if not self._in_lifespan:
                log.warning(
                    "started at the first request, and will not be stopped in order: pass lifespan=live.lifespan to "
                    "the application around it"
                )
                self._in_lifespan = True
            await self._start()
        if self._node.tracing is None:
            await app(scope, receive, send)
            return
        with self._node.tracing.taken_from(scope["headers"]):
            await app(scope, receive, send)

    def _started(self) -> asyncio.Task[None] | None:
        """Its start, in this event loop. Raises RuntimeError when it runs in another one."""
        if self._starting is not None and self._starting.get_loop() is not asyncio.get_running_loop():
            if not self._starting.get_loop().is_closed():
                raise self._node.portal.elsewhere()
            self._starting = None  # that loop is gone, and whatever ran in it
        return self._starting

    def _say_who_may_connect(self) -> None:
        """To the operator, where that is not what he may expect."""
        if SERVER.get() is None and (self.config.internal.port or self.config.tls.certificate):
            log.warning(
                "[tls] and [internal] are for `freshet serve`: with internal.port, /api and /metrics are nowhere"
            )
        if self._dev:
            log.warning(OPEN)
        elif not (
            self._node.has_secret
            or self.config.tokens.anonymous
            or self._hooks.connect is not None
            or self._node.webhooks.connects
            or self._namespaces.admit
        ):
            log.warning("no secret is set, every client will be refused: set FRESHET_SECRET or [tokens] secret")

    async def _start(self) -> None:
        """Start once, however many ask at the same time."""
        starting, server = self._started(), SERVER.get()
        if starting is None:
            if not self._configured:
                self._configured = True
                self._say_who_may_connect()
                self._rules.extend_from(self.config)  # behind those that the program made until now
                self._node.webhooks.install(self._hooks, self._rules)
            # Not in the context of whoever comes first, whose variables all that runs later would have.
            work, context = self._node.start(), self._context
            starting = self._starting = self._node.tasks.start(work, "node: start", context=context)
            if server is not None:
                server.drains.append(self._node.drain)
                server.compression |= self.config.websocket.compression
        try:
            await asyncio.shield(starting)
        except Exception:
            if self._starting is starting:
                self._starting = None  # the next one tries again
            raise
        if server is None and self.config.drain_on_signal:
            self._signals.watch()
