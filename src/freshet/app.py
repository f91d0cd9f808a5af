"""`Freshet`, the application: wires the parts together, is the ASGI callable, and the face of all that they do."""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.commands.server import ServerOperations
from freshet.config import (
    ChannelOptions,
    Config,
    api_key_of,
    channel_config,
    develop,
    gateway_options,
    load,
    secret_of,
    variables,
    webhook_secrets_of,
)
from freshet.endpoints.gateway.gateway import Gateway
from freshet.endpoints.in_process import Client, HeldLifespan, listen
from freshet.endpoints.opening import Opening
from freshet.endpoints.router import routes as client_routes
from freshet.endpoints.socketio.endpoint import socketio
from freshet.endpoints.socketio.namespaces import Namespace, Namespaces
from freshet.engines.memory import MemoryEngine
from freshet.errors import ConfigError
from freshet.model.log import Position, Publication
from freshet.node.holding import statistics_of
from freshet.node.node import Node
from freshet.node.rosters import Rosters
from freshet.observe.counts import Statistics
from freshet.policy.authentication import Authentication
from freshet.policy.limits import RateLimits
from freshet.policy.rights import Rights
from freshet.policy.webhooks import WebhookHooks
from freshet.rooms.room import Room
from freshet.rooms.rooms import NodeRooms
from freshet.rooms.rule import RoomRule, StateChannel
from freshet.rules.channel import Channel, with_options
from freshet.rules.hooks import Function, Hook, HookLimits, must_have_name
from freshet.runs.runs import NodeRuns
from freshet.runtime.clock import SYSTEM, Clock
from freshet.runtime.lifespan import serve_lifespan
from freshet.runtime.server import SERVER
from freshet.wiring.direct import DirectWay
from freshet.wiring.engines import engine_of
from freshet.wiring.lifecycle import Lifecycle
from freshet.wiring.routes import Routes
from freshet.wiring.stores import store_of
from freshet.wiring.sync_calls import LiveCalls, SyncCalls
from freshet.wiring.tracing import tracing_of

log = logging.getLogger("freshet")

F = TypeVar("F", bound=Function)
R = TypeVar("R", bound=Room)


OPEN = (
    "dev: nothing is protected, neither channels nor /api, /metrics and /admin: it is for your own machine only; leave "
    "it out and set FRESHET_SECRET wherever others can connect"
)


def beside(config: Config, clock: Clock) -> Dispatcher:
    """A node in memory, for the clients of the admin page."""
    node = Node(config, MemoryEngine(config.timing.presence_ttl, clock, config.limits.log_memory), clock=clock)
    return _dispatcher(node, Rights(None, personal_channels=False, clock=clock))


def _dispatcher(node: Node, rights: Rights) -> Dispatcher:
    rates, least = node.config.rates, 2 * node.config.limits.channels_per_client
    return Dispatcher(node, [RateLimits(rates, least, node.clock.monotonic, node.sharing.buckets), rights])


class Freshet(LiveCalls):
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
        personal = config.personal_channels
        rights = Rights(tokens, personal_channels=personal, carried=tokens.carried, clock=clock)
        self._dispatcher = dispatcher = _dispatcher(node, rights)
        self._rooms.offer_calls(dispatcher.policies)
        Rosters(node, node.hub, dispatcher.policies)
        super().__init__(ServerOperations(node, dispatcher.policies), node.portal)
        run, server = self._run, self._server
        self._namespaces = Namespaces(lambda *publication: run(server.publish(*publication)), node.rules)
        key, made = api_key or api_key_of(config, environment), partial(beside, clock=clock)
        routes = Routes(dispatcher, server, self._clients, environment, api_key=key, beside=made, dev=dev)
        self._router, self._gateway = routes.app(self._answer), routes.gateway
        own = self if type(self).__call__ is Freshet.__call__ else None
        self._direct = DirectWay(self._router, own, config.direct, self._traced)
        self._lifecycle = lifecycle = Lifecycle(dispatcher, self._prepare, self._direct)
        self._held = HeldLifespan(self.lifespan, lambda: lifecycle.has_begun)

    def _clients(self, opening: Opening) -> list[BaseRoute]:
        dispatcher = self._dispatcher
        return client_routes(opening, dispatcher, socketio(opening, dispatcher, self._namespaces), self._tokens)

    @cached_property
    def sync(self) -> SyncCalls:
        """The same for code without `await`."""
        return SyncCalls(self, self._node.portal)

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
        config = channel_config(match, options)
        if config.state is not None and not config.state.of:
            raise ConfigError("state", f"the rule {match!r}: expected live.state, or live.room with a class")
        rule = self._rules.make(config)
        self._rules.add(rule)
        return Channel(rule)

    @with_options(ChannelOptions)
    def room(self, match: str, **options: Any) -> Callable[[type[R]], type[R]]:
        """Make a class that derives from `Room` what the channels are that `match` matches; see there.

        The options are those of `channel`, but that subscribers may publish unless `publish` says otherwise.
        """
        must_have_name(match, "live.room")

        def register(room: type[R]) -> type[R]:
            self._rooms.add(RoomRule.of_room(channel_config(match, {"publish": "subscriber", **options}), room))
            return room

        return register

    @with_options(ChannelOptions)
    def state(self, match: str, **options: Any) -> StateChannel:
        """Make the channels that `match` matches maps of keys that are the same for all who are subscribed.

        The options are those of `channel`, and of its option `state`: `mode`, `ttl`, `key` and `size`. Subscribers may
        set keys unless `publish` says otherwise.
        """
        rule = RoomRule.of_state(match, options)
        self._rooms.add(rule)
        return StateChannel(rule)

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
        must_have_name(method, "live.rpc")

        def register(function: F) -> F:
            self._hooks.rpc[method] = Hook(function, ("session", "data"), limits=HookLimits(timeout, grace))
            return function

        return register

    def api_rpc(self, method: str, *, timeout: float | None = None) -> Callable[[F], F]:
        """`function(data)` answers calls of `method` by the server API, `/api/rpc`; what it returns is the reply.

        timeout: as of `rpc`.
        """
        must_have_name(method, "live.api_rpc")

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

    def gateway(self, **options: Any) -> Gateway:
        """The WebSocket API as AWS API Gateway has it, at `/{stage}`, where routes are registered; see there.

        The options are those of `[gateway]`. Raises ConfigError.
        """
        if options:
            self._gateway.configure(gateway_options(self.config, options))
        return self._gateway

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

    def listen(self, channel: str) -> AsyncGenerator[Publication, None]:
        """What is published in a channel from now on, on whatever node: `async for publication in live.listen("a"):`.

        For the application itself: no right and no hook is asked. Raises Refusal 102 when no rule matches; Disconnect
        when it does not keep up, or the node ends.
        """
        return listen(self._dispatcher, channel)

    def statistics(self) -> Statistics:
        """What this node holds now."""
        return statistics_of(self._node.portal.read(self._node.snapshot))

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
        The application runs as long as one of them is there, unless it runs already.
        """
        if token is None:
            token = self.token(user, **claims) if user else ""
        return Client(self._dispatcher, self._held, token, data, headers)

    # ------------------------------------------------------------------------------------------------------------ ASGI

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[None]:
        """For `FastAPI(lifespan=live.lifespan)`: runs the engine and the timing wheel."""
        return self._lifecycle.lifespan()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(self.lifespan(), receive, send)
        else:
            await self._answer(self._router, scope, receive, send)

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._lifecycle.is_ready:
            await self._lifecycle.start_late()
        with self._traced(scope):
            await app(scope, receive, send)

    def _traced(self, scope: Scope) -> AbstractContextManager[None]:
        """What runs within goes on with the trace of the request, if there is one."""
        tracing = self._node.tracing
        return tracing.taken_from(scope["headers"]) if tracing is not None else nullcontext()

    def _prepare(self) -> None:
        self._say_who_may_connect()
        self._rules.extend_from(self.config)  # behind those that the program made until now
        self._node.webhooks.install(self._hooks, self._rules)

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
            or self._gateway.admits
        ):
            log.warning("no secret is set, every client will be refused: set FRESHET_SECRET or [tokens] secret")
