"""`ws://host/{stage}`: a client comes, sends, and goes; each is a route, and what answers it an integration."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope, Send

from freshet.commands.connections import random_id
from freshet.commands.dispatch import Dispatcher
from freshet.dialects.gateway import ClientMessage, GatewayMessages, Posted
from freshet.endpoints.gateway.admission import Admittance, NotAdmitted
from freshet.endpoints.gateway.connection import Connection
from freshet.endpoints.gateway.events import REASONS, Facts
from freshet.endpoints.gateway.gateway import Gateway
from freshet.endpoints.gateway.integrations import Occurrence, answered
from freshet.endpoints.gateway.selection import DISCONNECT
from freshet.endpoints.gateway.sessions import GatewayRecord, GatewaySession
from freshet.endpoints.gateway.survivors import Survivors
from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import answer, carry_websocket, plain
from freshet.errors import Disconnect, FreshetError, Refusal
from freshet.model.frame import Handshake
from freshet.node.owners import Site
from freshet.observe.logs import BoundedLog
from freshet.policy.base import Context
from freshet.rules.hooks import HookLimits
from freshet.transports.native import AcceptedSocket

log = logging.getLogger("freshet.gateway")
bounded_log = BoundedLog(log)

CONNECTION_ID = "freshet.connection_id"  # in the ASGI scope, for logs and tests
INTERNAL, FORBIDDEN = "Internal server error", "Forbidden"
NO_BINARY = Disconnect(1003, "binary messages are not supported, see gateway.limits")
LONGEST = 86_400.0  # seconds: the integration of `$disconnect` has its own time
GOING_AWAY, CUT_OFF = 1001, 1006
NONE = "There is no WebSocket API here: see the options of [gateway].\n"

_DIALECT = GatewayMessages()


class GatewayEndpoint:
    """Opens connections, and carries out what their clients send."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher, gateway: Gateway) -> None:
        self._opening = opening
        self._dispatcher = dispatcher
        self._node = node = dispatcher.node
        self._gateway = gateway
        self._connections = gateway.connections
        self._after = AfterConnection(self.ended)
        lease, enabled = gateway.options.lease, lambda: gateway.enabled
        self._survivors = Survivors(node, lease, enabled, self._facts, self._told_by_others, self._lost)
        self._admittance = Admittance(dispatcher, gateway, self._survivors)
        dispatcher.register(ClientMessage, self._message)

    @property
    def routes(self) -> list[BaseRoute]:
        return [WebSocketRoute("/{stage}", self), WebSocketRoute("/", self)]

    # --------------------------------------------------------------------------------------------------------- opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        stage = scope.get("path_params", {}).get("stage", gateway.options.stage)
        if not gateway.enabled or stage != gateway.options.stage:
            await answer(plain(404, NONE), scope, receive, send)
            return
        request = await self._opening.open(scope, receive, send, refuse=_refused)
        if request is None:
            return
        session = self._open(scope, request)
        scope[CONNECTION_ID] = session.id
        try:
            subprotocol = await self._admittance.admit(session, scope, request)
        except NotAdmitted as why:
            session.end(Disconnect.normal())
            body = _error(why.message, session.id, why.request_id)
            await answer(Response(body, why.status, media_type="application/json"), scope, receive, send)
            return
        except BaseException:
            session.end(Disconnect.normal())
            raise
        await carry_websocket(AcceptedSocket(session, subprotocol or None), scope, receive, send)

    def _open(self, scope: Scope, request: Handshake) -> GatewaySession:
        gateway = self._gateway
        facts = Facts(
            id=self._connections.new_id(),
            connected_at=gateway.events.now(),
            domain=gateway.domain(request.headers.get("host"), scope.get("server")),
            source_ip=_address(request.client),
            user_agent=request.headers.get("user-agent", ""),
        )
        now = self._node.clock.monotonic()
        record = GatewayRecord(facts, gateway.options, gateway.message_size, self._after, now)
        session = self._dispatcher.open(_DIALECT, request, kind=GatewaySession, record=record)
        assert isinstance(session, GatewaySession)
        session.id = facts.id
        return session

    # -------------------------------------------------------------------------------------------------------- messages

    async def _message(self, node: Site, context: Context, command: ClientMessage) -> Posted | None:
        session, gateway = context.session, self._gateway
        assert isinstance(session, GatewaySession)
        session.active()
        if command.binary and gateway.options.limits == "aws":
            raise NO_BINARY
        connection = session.record.connection
        assert connection is not None  # it has one since it was let in
        found = gateway.find("" if command.binary else gateway.selection.key(command.data))
        if found is None:
            return Posted(_error(FORBIDDEN, session.id))
        key, route = found
        occurrence = Occurrence(
            connection,
            lambda: gateway.events.message(connection.facts, key, command.data, command.binary),
            command.data,
            command.binary,
        )
        try:
            # As at AWS, it runs to its end when the client is gone.
            answer = answered(await node.invoking.invoke(route.integration, None, occurrence))
        except Refusal as why:
            return Posted(_error(INTERNAL if why.code == Refusal.internal().code else why.message, session.id))
        except Disconnect:
            raise
        except Exception as error:
            _failed(route.integration.name, error)
            return Posted(_error(INTERNAL, session.id))
        if not route.response or not answer.body:
            return None
        session.active()
        return Posted(answer.body, answer.binary)

    # ------------------------------------------------------------------------------------------------------- the end

    async def disconnected(self, connection: Connection, code: int, reason: str) -> None:
        """Run `$disconnect`."""
        integration = self._gateway.lifecycle(DISCONNECT)
        if integration is None:
            return
        facts, events = connection.facts, self._gateway.events
        occurrence = Occurrence(connection, lambda: events.disconnect(facts, code, reason), code=code, reason=reason)
        try:
            await self._node.invoking.invoke(integration, None, occurrence)
        except Exception as error:
            _failed(integration.name, error)

    async def ended(self, session: GatewaySession, why: Disconnect) -> None:
        """A client that was in has gone."""
        self._connections.ended(session)
        connection = session.record.connection
        if session.record.told or connection is None:
            return
        code = why.client_code or why.code
        await self.disconnected(connection, code, REASONS.get(code) or why.reason)
        await self._survivors.ended(session.id)

    def _facts(self) -> list[Facts]:
        sessions = (session for session in self._connections if isinstance(session, GatewaySession))
        return [session.record.connection.facts for session in sessions if session.record.connection is not None]

    async def _told_by_others(self, facts: Facts) -> None:
        """Run `$disconnect` for a connection of a node that is gone."""
        user = str((facts.authorizer or {}).get("principalId", ""))
        await self.disconnected(Connection(self._gateway, facts, user), CUT_OFF, REASONS[CUT_OFF])

    def _lost(self) -> None:
        for session in list(self._connections):
            session.record.told = True
            session.close(Disconnect(GOING_AWAY, REASONS[GOING_AWAY]))


class AfterConnection:
    """What runs when a connection is over. Implements `node.invoking.Invocable`."""

    def __init__(self, ended: Callable[[GatewaySession, Disconnect], Awaitable[None]]) -> None:
        self.name = DISCONNECT
        self.limits = HookLimits(LONGEST)
        self._ended = ended

    async def __call__(self, *arguments: Any, **named: Any) -> None:
        await self._ended(arguments[0], named["why"])


def _failed(name: str, error: Exception) -> None:
    if isinstance(error, FreshetError):
        bounded_log.warning(name, "gateway: %s failed (%s), its client gets an internal server error", name, error)
    else:
        log.error("gateway: %s failed, its client gets an internal server error", name, exc_info=error)


def _error(message: str, connection_id: str, request_id: str = "") -> bytes:
    return msgspec.json.encode(
        {"message": message, "connectionId": connection_id, "requestId": request_id or random_id()}
    )


def _refused(status: int, text: str, headers: object) -> Response:
    return Response(msgspec.json.encode({"message": text.strip()}), status, media_type="application/json")


def _address(client: str) -> str:
    """Of `host:port`."""
    host = client.rpartition(":")[0].strip("[]")
    return host or "127.0.0.1"
