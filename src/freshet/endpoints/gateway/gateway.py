"""`live.gateway`: a WebSocket API as AWS API Gateway has it: its routes, and what the server does with connections."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from freshet.commands.connections import ConnectionInfo, ConnectionReply, ConnectionRequest, Connections
from freshet.commands.dispatch import Dispatcher
from freshet.config import GatewayIntegration, GatewayOptions, webhook_secrets_of
from freshet.config.gateway import AWS_INTEGRATION
from freshet.endpoints.gateway.authorizer import header_names
from freshet.endpoints.gateway.events import Events
from freshet.endpoints.gateway.functions import LambdaProcesses, LambdaThreads
from freshet.endpoints.gateway.integrations import Integration, Mock, PythonFunction
from freshet.endpoints.gateway.outbound import HttpBackEnd
from freshet.endpoints.gateway.selection import CONNECT, DEFAULT, DISCONNECT, RESERVED, Selection
from freshet.endpoints.gateway.worker import credentials
from freshet.errors import ConfigError, EngineUnavailable, FreshetError, Refusal
from freshet.model.json_text import whole_text
from freshet.model.log import Position
from freshet.policy.webhook_client import key_of
from freshet.rules.hooks import HookLimits, as_payload
from freshet.runtime.portal import Portal

log = logging.getLogger("freshet.gateway")

F = TypeVar("F", bound=Callable[..., Any])

TAKEN = frozenset({"api", "channels", "connection", "emulation", "health", "metrics"})
"""Paths that are not a stage's."""


class Gone(FreshetError):
    """There is no such connection: it is over, or its id was made up (410)."""


class Route(NamedTuple):
    """response: the client gets the body of the answer."""

    integration: Integration
    response: bool


class Surroundings(NamedTuple):
    """What integrations need of what is around them.

    keys: of webhooks. environment: of functions' processes. scheme: by which they reach this machine. knows_hosts: who
    asks for a host that is not this server's is refused before.
    """

    keys: Sequence[bytes]
    environment: Mapping[str, str]
    scheme: str
    knows_hosts: bool


class Gateway:
    """A WebSocket API. Its routes are those of `[gateway]`, and those that are registered here, which come first.

    Its methods may be awaited in any event loop. sync: the same for code without `await`, see `SyncGateway`.
    """

    def __init__(self, dispatcher: Dispatcher, connections: Connections, outside: Surroundings) -> None:
        node = dispatcher.node
        self.connections = connections
        self.routes: dict[str, Route] = {}
        self._authorizer: Integration | None = None
        self.identity: list[str] = []
        self._clock = node.clock
        self._outside = outside
        self._running = False
        self._portal = dispatcher.portal
        self._run = self._portal.run
        self._started: list[Integration] = []
        self.configure(node.config.gateway)
        node.parts.append(self)

    @cached_property
    def sync(self) -> "SyncGateway":
        """The same for code without `await`."""
        return SyncGateway(self, self._portal)

    def configure(self, options: GatewayOptions) -> None:
        """Raises ConfigError."""
        if options.stage in TAKEN:
            raise ConfigError("gateway.stage", f"{options.stage!r} is a path of the server's own: choose another name")
        self.options = options
        self.selection = Selection(options.selection)
        self.events = Events(options, self._clock)
        self.connections.post_size, self.connections.stage = self.message_size, options.stage
        self.connections.open |= options.enabled
        for index, route in enumerate(options.routes):
            if route.key.startswith("$") and route.key not in (*RESERVED, DEFAULT):
                raise ConfigError(f"gateway.routes[{index}].key", f"{route.key!r}: only AWS's own keys begin with $")
            integration = self._integration(route, f"gateway.routes[{index}]")
            if route.key not in self.routes:
                self._set(route.key, Route(integration, route.response))
        if options.authorizer is not None:
            self._authorizer = self._begun(self._integration(options.authorizer, "gateway.authorizer"))
            self.identity = list(options.authorizer.identity)

    def _set(self, key: str, route: Route) -> None:
        self._begun(route.integration)
        self.routes[key] = route

    def _begun(self, integration: Integration) -> Integration:
        """It is started with the node, or now, as the node runs already."""
        if self._running:
            integration.start()
            self._started.append(integration)
        return integration

    def _integration(self, options: GatewayIntegration, path: str) -> Integration:
        given = [bool(options.function), bool(options.url), options.mock is not None]
        if sum(given) != 1:
            raise ConfigError(path, "expected one of function, url, mock")
        if self.options.limits == "aws" and options.timeout > AWS_INTEGRATION:
            raise ConfigError(f"{path}.timeout", f"at most {AWS_INTEGRATION:g} s with limits = 'aws'")
        try:
            if options.mock is not None:
                return Mock(path, options.status, options.mock)
            if options.url:
                return HttpBackEnd(options, self._outside.keys, self._clock)
            if options.isolation == "thread":
                return LambdaThreads(options, self._outside.environment, self._outside.scheme)
            return LambdaProcesses(options, self._outside.environment, self._outside.scheme)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{path}.function", f"{options.function!r} in {options.code!r}: {error}") from None

    @property
    def enabled(self) -> bool:
        return self.connections.open

    @property
    def message_size(self) -> int:
        """Bytes of a message."""
        aws = 128 * 1024
        return min(self.options.message_size, aws) if self.options.limits == "aws" else self.options.message_size

    @property
    def spelled(self) -> list[str]:
        """Names of headers as the application writes them."""
        return header_names(self.identity)

    def domain(self, asked: str | None, server: tuple[str, int | None] | None) -> str:
        """What back ends take for the address of `@connections`, and send there what is for clients.

        asked: the host, as the client says. server: where its connection came in.
        """
        if self.options.domain or (asked and self._outside.knows_hosts):
            return self.options.domain or asked or ""
        if server is None or not server[1]:
            return "localhost"  # a socket in the file system
        return f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"

    @property
    def admits(self) -> bool:
        """Whether it lets in who has no token."""
        return self.enabled and (self._authorizer is not None or self.options.auth == "none")

    @property
    def authorizes(self) -> Integration | None:
        return self._authorizer

    # ------------------------------------------------------------------------------------------------------ node's part

    async def start(self) -> None:
        self._running = True
        for route in self.routes.values():
            self._begun(route.integration)
        if self.enabled and not self.options.domain and not self._outside.knows_hosts:
            log.info("gateway: domainName is the address at which a client comes in: see gateway.domain, and hosts")
        if self._authorizer is not None:
            self._begun(self._authorizer)

    async def stop(self) -> None:
        self._running = False
        for integration in self._started:
            await integration.stop()
        self._started.clear()

    # ---------------------------------------------------------------------------------------------------------- routes

    def route(self, key: str, *, timeout: float | None = None) -> Callable[[F], F]:
        """`function(connection, data)` gets the messages of a route; what it returns goes to the client, unless None.

        data: the message's JSON, converted to the type that the parameter has; text that is no JSON as it is, bytes as
        a `memoryview`. It may ask for `event`, which is as AWS's. For `$connect` it is `function(connection)`: who
        raises `Refusal` lets nobody in (403). For `$disconnect` too, which may ask for `code` and `reason`.

        key: `$connect`, `$disconnect`, `$default`, or a key of your own. timeout: seconds; None: 29.
        """
        if key.startswith("$") and key not in (*RESERVED, DEFAULT):
            raise ValueError(f"key: {key!r}: only AWS's own keys begin with $: $connect, $disconnect, $default")
        seconds = AWS_INTEGRATION if timeout is None else timeout
        positional = ("connection",) if key in RESERVED else ("connection", "data")
        named = ("event", "code", "reason") if key == DISCONNECT else ("event",)

        def register(function: F) -> F:
            integration = PythonFunction(function, positional, named)
            integration.limits = HookLimits(seconds).checked(integration.name)
            self._set(key, Route(integration, key not in RESERVED))
            self.connections.open = True
            return function

        return register

    def handler(
        self,
        key: str,
        function: Callable[[Any, Any], Any],
        *,
        response: bool = False,
        timeout: float = AWS_INTEGRATION,
        concurrency: int = 8,
    ) -> None:
        """Let an existing Lambda handler, `function(event, context)`, have a route; it runs in a thread.

        response: the client gets the body of what it returns. timeout: seconds. concurrency: how many run at a time.
        """
        name = getattr(function, "__qualname__", key)
        options = GatewayIntegration(function=name, timeout=timeout, concurrency=concurrency)
        outside = self._outside
        self._set(key, Route(LambdaThreads(options, outside.environment, outside.scheme, function), response))
        self.connections.open = True

    def authorizer(self, function: F) -> F:
        """`function(event)` is a REQUEST authorizer: it returns a policy document, as a Lambda function does.

        An exception whose text is `Unauthorized` answers 401.
        """
        self._authorizer = PythonFunction(lambda connection, event: function(event), ("connection",), ("event",))
        self._authorizer.name = getattr(function, "__qualname__", "authorizer")
        self._authorizer.limits = HookLimits(AWS_INTEGRATION)
        return function

    def find(self, key: str) -> tuple[str, Route] | None:
        """The route of a message, and its key; None: there is none, nor a `$default`."""
        if key not in RESERVED and (route := self.routes.get(key)) is not None:
            return key, route
        default = self.routes.get(DEFAULT)
        return (DEFAULT, default) if default is not None else None

    def lifecycle(self, key: str) -> Integration | None:
        route = self.routes.get(key)
        return route.integration if route is not None else None

    @property
    def connect(self) -> Integration | None:
        return self.lifecycle(CONNECT)

    # ----------------------------------------------------------------------------------------------------- connections

    async def post(self, connection_id: str, data: Any) -> None:
        """Send to one client, on whatever node it is.

        data: a text as it is, bytes as a binary message unless they are UTF-8, anything else as JSON. Raises `Gone`;
        `Refusal` 106 for what is too large, or when the client does not read (temporary); EngineUnavailable.
        """
        _check(await self._run(self.connections.do("post", connection_id, _payload(data))))

    async def post_all(self, connection_ids: Iterable[str], data: Any) -> list[str]:
        """Send the same to several. The answer is the ids of those that did not get it, mostly as they are over."""
        ids = list(connection_ids)
        replies = await self._run(self.connections.do_all(ConnectionRequest("post", ids, _payload(data))))
        return [id for id, reply in zip(ids, replies, strict=True) if reply.status != HTTPStatus.OK]

    async def get(self, connection_id: str) -> ConnectionInfo:
        """What there is to know. Raises `Gone`."""
        info = _check(await self._run(self.connections.do("get", connection_id))).info
        assert info is not None  # which belongs to 200
        return info

    async def delete(self, connection_id: str) -> None:
        """Disconnect a client, with 1000. Raises `Gone`."""
        _check(await self._run(self.connections.do("delete", connection_id)))

    async def subscribe(self, connection_id: str, channel: str, *, since: Position | None = None) -> None:
        """Let a client have what is published in a channel, by `live.publish` or by others: a broadcast is one call.

        since: it gets what it missed since then. Raises `Gone`, and `Refusal` 103 when no rule matches.
        """
        request = ConnectionRequest("subscribe", [connection_id], channel=channel, since=since)
        _check((await self._run(self.connections.do_all(request)))[0])

    async def unsubscribe(self, connection_id: str, channel: str) -> None:
        """End that. Raises `Gone`."""
        request = ConnectionRequest("unsubscribe", [connection_id], channel=channel)
        _check((await self._run(self.connections.do_all(request)))[0])


class SyncGateway:
    """What `Gateway` does with connections, for code without `await`: a plain `def` endpoint, a Django view.

    They are `post`, `post_all`, `get`, `delete`, `subscribe` and `unsubscribe`; see `SyncCalls`.
    """

    def __init__(self, gateway: Gateway, portal: Portal) -> None:
        self.post = portal.blocking(gateway.post)
        self.post_all = portal.blocking(gateway.post_all)
        self.get = portal.blocking(gateway.get)
        self.delete = portal.blocking(gateway.delete)
        self.subscribe = portal.blocking(gateway.subscribe)
        self.unsubscribe = portal.blocking(gateway.unsubscribe)


def _payload(data: Any) -> bytes:
    return whole_text(data).encode() if isinstance(data, str) else as_payload(data)[0]


def _check(reply: ConnectionReply) -> ConnectionReply:
    match reply.status:
        case HTTPStatus.GONE | HTTPStatus.BAD_REQUEST:
            raise Gone("the connection is over")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise Refusal.limit_exceeded(reply.message)
        case HTTPStatus.TOO_MANY_REQUESTS:
            raise Refusal(106, "the client does not read what was sent to it", temporary=True)
        case HTTPStatus.FORBIDDEN:
            raise Refusal.permission_denied(reply.message)
        case HTTPStatus.SERVICE_UNAVAILABLE:
            raise EngineUnavailable(reply.message)
    return reply


def gateway_of(dispatcher: Dispatcher, environment: Mapping[str, str], *, dev: bool) -> Gateway:
    """That of a node's configuration. Raises ConfigError."""
    config = dispatcher.node.config
    keys = [key_of(secret) for secret in webhook_secrets_of(config, environment)]
    scheme = "https" if config.tls.certificate else "http"
    knows_hosts = dev or bool(config.hosts and "*" not in config.hosts)
    outside = Surroundings(keys, credentials(environment) if dev else {}, scheme, knows_hosts)
    return Gateway(dispatcher, Connections(dispatcher), outside)
