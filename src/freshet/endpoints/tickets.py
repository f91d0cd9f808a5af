"""`POST /connection/ticket`: a one-time ticket for who shows a token, to open an `EventSource` with."""

import inspect
import logging

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.endpoints.opening import Opening
from freshet.endpoints.responses import cors, plain
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.model.frame import Handshake
from freshet.observe.logs import BoundedLog
from freshet.policy.authentication import Authentication
from freshet.policy.tickets import LIFETIME, PREFIX

log = logging.getLogger("freshet.opening")


class TicketEndpoint:
    """The token comes as `Authorization: Bearer`, or in the cookie that `tokens.cookie` names."""

    def __init__(self, opening: Opening, authentication: Authentication) -> None:
        self._opening = opening
        self._authentication = authentication
        self._bounded_log = BoundedLog(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await self._opening.open(scope, receive, send, admit=False)  # which the ticket's stream is asked
        if request is None:
            return
        if scope["method"] == "POST":
            response = await self._answer(request)
        else:
            response = plain(405, "Expected POST.\n", {**cors(request), "Allow": "POST, OPTIONS"})
        await response(scope, receive, send)

    async def _answer(self, request: Handshake) -> Response:
        token = self._authentication.carried(request)
        if not token or token.startswith(PREFIX):  # a ticket is for one use, and not to get another with
            self._bounded_log.warning("token", "no ticket was issued to %s: a token is required", request.client)
            return _json(401, {"code": 101, "message": "a token is required"}, request)
        try:
            claims = self._authentication.connection(token)
            if inspect.isawaitable(claims):
                claims = await claims
            ticket = self._authentication.ticket_for(claims.claims)
        except Disconnect as why:
            return _json(401, {"code": why.code, "message": why.reason}, request)
        except Refusal as why:
            self._bounded_log.warning("token", "no ticket was issued to %s: %s", request.client, why.message)
            return _json(503 if why.temporary else 401, {"code": why.code, "message": why.message}, request)
        except ConfigError as error:
            return _json(501, {"code": 108, "message": str(error)}, request)
        return _json(200, {"ticket": ticket, "expires_in": LIFETIME}, request)


def _json(status: int, body: object, request: Handshake) -> Response:
    return Response(msgspec.json.encode(body), status, cors(request), "application/json")
