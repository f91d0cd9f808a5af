"""Whether a client comes in: its authorizer or its token, and then `$connect`, before the handshake is answered."""

import logging
import time
from http import HTTPStatus

import msgspec
from starlette.types import Scope

from freshet.commands import client
from freshet.commands.connections import random_id
from freshet.commands.dispatch import Dispatcher
from freshet.commands.subscribing import enter_all
from freshet.endpoints.gateway.authorizer import Forbidden, Unauthorized, check_identity, judged
from freshet.endpoints.gateway.connection import Connection
from freshet.endpoints.gateway.events import Opened, opened
from freshet.endpoints.gateway.gateway import Gateway
from freshet.endpoints.gateway.integrations import ACCEPTED, IntegrationFailed, IntegrationResult, Occurrence, answered
from freshet.endpoints.gateway.sessions import GatewaySession
from freshet.endpoints.gateway.survivors import Survivors
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.commands import Connect
from freshet.model.frame import Handshake
from freshet.observe.logs import BoundedLog
from freshet.policy.base import Context
from freshet.rules.hooks import Hook, Welcome

log = logging.getLogger("freshet.gateway")

TOKEN_REFUSED = frozenset({Disconnect.invalid_token().code, Refusal.token_expired().code, Refusal.unauthorized().code})
MESSAGES = {
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.SERVICE_UNAVAILABLE: "Service Unavailable",
}


class NotAdmitted(Exception):
    """status: HTTP's. request_id: of the event that was refused, if there was one."""

    def __init__(self, status: int, request_id: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.request_id = request_id or random_id()
        self.message = MESSAGES.get(HTTPStatus(status), "Internal server error" if status >= 500 else "Forbidden")


class Admittance:
    """Lets a client in, in the order in which AWS asks."""

    def __init__(self, dispatcher: Dispatcher, gateway: Gateway, survivors: Survivors) -> None:
        self._dispatcher = dispatcher
        self._node = dispatcher.node
        self._gateway = gateway
        self._survivors = survivors
        self._log = BoundedLog(log)

    async def admit(self, session: GatewaySession, scope: Scope, request: Handshake) -> str:
        """The subprotocol that `$connect` chose; empty: none. Raises `NotAdmitted`."""
        server = scope.get("server") or ("", 0)
        secure = scope.get("scheme") == "wss"
        peer = session.record.facts.source_ip
        spelled = self._gateway.spelled
        # As everywhere: cookies count only where it is sure which page made the request, see `policy/origin.py`.
        headers = [each for each in scope["headers"] if each[0] != b"cookie" or "cookie" in request.headers]
        request_seen = opened(headers, scope["query_string"], peer, secure, server[1] or 0, spelled)
        context = Context(session)
        try:
            welcome = await self._identify(session, context, request_seen)
            connection = self._connection(session)
            answer = await self._connect(connection, request_seen)
            if not answer.accepted:
                raise NotAdmitted(answer.status if answer.status >= 400 else HTTPStatus.FORBIDDEN)
            await self._let_in(session, context, welcome)
        except (Disconnect, Refusal) as why:
            self._log.warning(f"refused {why.code}", "gateway: a client was refused: %s (%d)", why, why.code)
            raise NotAdmitted(_status_of(why)) from None
        except EngineUnavailable:
            raise NotAdmitted(HTTPStatus.SERVICE_UNAVAILABLE) from None
        return answer.subprotocol if answer.subprotocol in request.subprotocols else ""

    # ----------------------------------------------------------------------------------------------------- who it is

    async def _identify(self, session: GatewaySession, context: Context, request: Opened) -> Welcome:
        """Raises `NotAdmitted`, `Disconnect`, `Refusal`."""
        node, gateway = self._node, self._gateway
        if gateway.authorizes is not None:
            user = await self._authorize(session, request)
            return await client.admit(node, context, Connect(id=1), _says(user))
        if gateway.options.auth == "none":
            return await client.admit(node, context, Connect(id=1), _says(""))
        pending = self._dispatcher.policies.check(context, Connect(id=1))
        if pending is not None:
            await pending
        return await client.admit(node, context, Connect(id=1), node.hooks.connect)

    async def _authorize(self, session: GatewaySession, request: Opened) -> str:
        """Ask the authorizer. The answer is its `principalId`. Raises `NotAdmitted`."""
        gateway, authorizer = self._gateway, self._gateway.authorizes
        assert authorizer is not None  # by the caller
        facts, began = session.record.facts, time.perf_counter()
        occurrence = Occurrence(Connection(gateway, facts), lambda: gateway.events.authorizer(facts, request))
        try:
            check_identity(gateway.identity, request)
            returned = await self._node.invoking.invoke(authorizer, session, occurrence)
            if isinstance(returned, IntegrationResult):
                returned = _document(returned)
            latency = round((time.perf_counter() - began) * 1000)
            user, authorized = judged(returned, gateway.events.method_arn, latency)
        except Unauthorized:
            raise NotAdmitted(HTTPStatus.UNAUTHORIZED) from None
        except Forbidden as why:
            self._log.warning("forbidden", "gateway: a client was refused with 403: %s", why)
            raise NotAdmitted(HTTPStatus.FORBIDDEN) from None
        except Disconnect:
            raise
        except Exception as error:
            if "Unauthorized" in (str(error), getattr(error, "message", "")):
                raise NotAdmitted(HTTPStatus.UNAUTHORIZED) from None
            self._log.warning("authorizer", "gateway: the authorizer %s failed: %s", authorizer.name, error)
            raise NotAdmitted(HTTPStatus.INTERNAL_SERVER_ERROR) from None
        session.record.facts = msgspec.structs.replace(facts, authorizer=authorized)
        return user

    def _connection(self, session: GatewaySession) -> Connection:
        connection = Connection(self._gateway, session.record.facts, session.user, session.claims)
        session.record.connection = connection
        return connection

    # ------------------------------------------------------------------------------------------------------- `$connect`

    async def _connect(self, connection: Connection, request: Opened) -> IntegrationResult:
        """Raises `NotAdmitted`, `Refusal`, `Disconnect`."""
        gateway, integration = self._gateway, self._gateway.connect
        if integration is None:
            return ACCEPTED
        occurrence = Occurrence(connection, lambda: gateway.events.connect(connection.facts, request))
        try:
            return answered(await self._node.invoking.invoke(integration, None, occurrence), must=True)
        except (Refusal, Disconnect):
            raise
        except Exception as error:
            self._log.warning("$connect", "gateway: %s failed, its client is refused: %s", integration.name, error)
            raise NotAdmitted(HTTPStatus.INTERNAL_SERVER_ERROR) from None

    async def _let_in(self, session: GatewaySession, context: Context, welcome: Welcome) -> None:
        """From here on there will be a `$disconnect`."""
        node = self._node
        entries = await enter_all(node, session, client.server_side(node, context, welcome), {})
        await self._survivors.opened(session.record.facts)
        if session.closing:
            await self._survivors.ended(session.id)
            raise session.closing
        connected = client.connected(node, session, 1, welcome, entries)
        self._gateway.connections.opened(session)
        session.push(connected)


def _says(user: str) -> Hook:
    """As a hook that knows who it is."""
    return Hook(lambda session: Welcome(user=user), ("session",))


def _document(answer: IntegrationResult) -> object:
    """Of an authorizer over HTTP, or one in Python. Raises as an authorizer does."""
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise Unauthorized("the authorizer answered with 401")
    if answer.status == HTTPStatus.FORBIDDEN:
        raise Forbidden("the authorizer answered with 403")
    try:
        return msgspec.json.decode(answer.body) if answer.accepted else None
    except msgspec.MsgspecError as error:
        raise IntegrationFailed(f"the authorizer's answer cannot be read: {error}") from None


def _status_of(why: Disconnect | Refusal) -> HTTPStatus:
    if why.code in TOKEN_REFUSED:
        return HTTPStatus.UNAUTHORIZED
    if isinstance(why, Refusal) and why.code == Refusal.internal().code:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(why, Disconnect) and (why.reconnect or why.code < 3000):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.FORBIDDEN
