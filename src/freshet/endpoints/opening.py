"""The only way to a `Handshake`: origin, CORS, preflight, draining and admission, for every transport alike.

Every endpoint lets `Opening` look at a request first, and goes on with the handshake that it answers: `examine` says
how the request is answered otherwise, `open` has answered it. So the checks are the same whether ASGI carries the
request or not (see `wiring/direct.py`).
"""

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import ceil
from typing import Any, Protocol

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from freshet.config import Bound
from freshet.model.frame import Handshake
from freshet.model.query import fields_of
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.policy.limits import AddressLimits
from freshet.policy.origin import Hosts, Origins
from freshet.runtime.admission import Admission
from freshet.transports import asgi, native
from freshet.transports.native import AcceptedSocket
from freshet.transports.stream import AcceptedStream, NoRoom

log = logging.getLogger("freshet.opening")

FULL = 30  # seconds after which somebody may have gone
_OPTIONS = {"address": "see the option rates.address", "admission": "see the option limits.connects_per_second"}
BUSY = "Too many clients connect at once, or the server stops: try again later.\n"

TOO_FAST = "Too many requests: try again later.\n"
FIELDS = 1000  # of a query, each of which has to be decoded; as many channels as an URL has room for
MOST_SAID = 2**30  # bytes
IN_CHUNKS = 64 * 1024  # bytes that a body may have that does not say how many it has
METHODS = "GET, POST, OPTIONS"

Refuse = Callable[[int, str, Mapping[str, str]], Response]
"""How a protocol words a refusal: status, text, headers."""


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(text, status, headers)


TOO_BIG = 413


def at_most(bound: Bound) -> str:
    return f"At most {bound.size} bytes, see {bound.option}.\n"


Reply = Coroutine[Any, Any, Response | AcceptedStream | None]


class Router(Protocol):
    """What finds the endpoint of a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def accept(self, scope: Scope) -> AcceptedSocket | Response | None:
        """What becomes of a request for a WebSocket, decided without waiting; None: it has to be called."""

    def reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """What a request is answered; None: it has to be called, as a result: nobody is there."""


class HostGuard:
    """Stands before all URLs but those of health: whoever asks for a name that is not ours is not answered.

    without_key: paths below which no key is asked for. open_hosts: the names for those.
    """

    def __init__(
        self,
        app: Router,
        hosts: Hosts,
        counts: Counts,
        without_key: Sequence[str] = (),
        open_hosts: Hosts | None = None,
    ) -> None:
        self.app = app
        self._hosts = hosts
        self._counts = counts
        self._without_key = tuple(f"{path}/" for path in without_key)
        self._open_hosts = open_hosts or hosts
        self._log = BoundedLog(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := self._refusal(scope)) is not None:
            await answer(refusal, scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except NoRoom:
            self._counts.refuse("bodies")
            self._log.warning(
                "bodies",
                "a request with a large body was refused: too many come at once, see limits.bodies",
            )
            await answer(plain(503, BUSY, {"Retry-After": "5"}), scope, receive, send)

    def accept(self, scope: Scope) -> AcceptedSocket | Response | None:
        """See `Router`."""
        return self._refusal(scope) or self.app.accept(scope)

    def reply(self, scope: Scope, receive: Receive) -> Response | Reply | None:
        """See `Router`."""
        return self._refusal(scope) or self.app.reply(scope, receive)

    def _refusal(self, scope: Scope) -> Response | None:
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), None)
        path = _path(scope)
        is_open = bool(self._without_key) and f"{path}/".startswith(self._without_key)
        if (self._open_hosts if is_open else self._hosts).allow(host) or path.startswith("/health/"):
            return None
        self._counts.refuse("host")
        self._log.warning("host", "a request for the host %.100r was refused: see the option `hosts`", host)
        return plain(421, "This server does not answer to that name: see the option `hosts`.\n")


class Opening:
    """origins: whose pages may connect. admission: the rate of new clients. addresses: the same, of each address.

    draining: whether none is taken at all. counts: what refusals are added to.
    """

    def __init__(
        self,
        origins: Origins,
        admission: Admission,
        addresses: AddressLimits,
        draining: Callable[[], bool],
        counts: Counts | None = None,
    ) -> None:
        self._counts = counts or Counts()
        self._origins = origins
        self._admission = admission
        self._addresses = addresses
        self._draining = draining
        self._log = BoundedLog(log)

    async def open(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        admit: bool = True,
        refuse: Refuse = plain,
        methods: str = METHODS,
    ) -> Handshake | None:
        """As `examine`; None: the request has its response already."""
        found = self.examine(scope, admit=admit, refuse=refuse, methods=methods)
        if isinstance(found, Response):
            await answer(found, scope, receive, send)
            return None
        return found

    def examine(
        self, scope: Scope, *, admit: bool = True, refuse: Refuse = plain, methods: str = METHODS
    ) -> Handshake | Response:
        """What the request is, if it may go on; otherwise its response, which to a preflight has `methods`.

        admit: it opens a session; an endpoint that does not know yet calls `admit` when it does.
        """
        if scope["query_string"].count(b"&") >= FIELDS:
            return refuse(400, f"A query has at most {FIELDS} fields.\n", {})
        headers = _joined(scope["headers"])
        secure = scope.get("scheme") in ("https", "wss")
        judged = self._origins.judge(scope.get("method", "WEBSOCKET"), headers, secure=secure)
        if judged.refusal:
            self._counts.refuse("origin")
            whence = headers.get("origin") or f"Sec-Fetch-Site: {headers.get('sec-fetch-site')}"
            self._log.warning(
                "origin", "a request for %.100r of %.100r was refused: see the option `origins`", _path(scope), whence
            )
            return refuse(403, judged.refusal, {})
        if not judged.ambient:
            headers.pop("cookie", None)
        handshake = _handshake_of(scope, headers, judged.shared)
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return Response(None, 204, cors(handshake, methods))
        if scope["type"] == "http" and (wait := ceil(self._addresses.wait_to_ask(handshake.client, _size(headers)))):
            self._counts.refuse("requests")
            return refuse(429, TOO_FAST, {**cors(handshake), "Retry-After": str(wait)})
        refusal = self.refusal(handshake, scope, refuse=refuse) if admit else None
        return refusal or handshake

    async def admit(
        self,
        handshake: Handshake,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        resumes: bool = False,
        refuse: Refuse = plain,
    ) -> bool:
        """Whether a client may come in; otherwise its request has its response, see `refusal`."""
        refusal = self.refusal(handshake, scope, resumes=resumes, refuse=refuse)
        if refusal is not None:
            await answer(refusal, scope, receive, send)
        return refusal is None

    def refusal(
        self, handshake: Handshake, scope: Scope, *, resumes: bool = False, refuse: Refuse = plain
    ) -> Response | None:
        """None: the client may come in, here and now; otherwise it is asked to come again later, or elsewhere.

        resumes: it goes on with what it began before, so that it is not counted as new.
        """
        status, wait, policy = 503, 1 if self._draining() else 0, "draining"
        if not wait and self._addresses.is_full(handshake.client):
            status, wait, policy = 429, FULL, "address"
        if not wait and not resumes:
            if wait := ceil(self._addresses.wait(handshake.client)):
                status, policy = 429, "address"
            else:
                wait, policy = self._admission.wait(), "admission"
        if not wait:
            return None
        self._counts.refuse(policy)
        if wait != FULL:  # of which its limit has written
            why = _OPTIONS.get(policy, "the server stops, or has as many as it may")
            self._log.warning(
                policy, "a client from %s was asked to come again in %d s: %s", handshake.client, wait, why
            )
        headers = cors(handshake) if scope["type"] == "http" else {}
        return refuse(status, BUSY, {**headers, "Retry-After": str(wait)})


async def answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, also one for a WebSocket, with a response; a server that cannot do that closes with 1008."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    await response(scope, receive, send)


def _size(headers: Mapping[str, str]) -> int:
    """Bytes of a body that is not read yet, as it says itself."""
    if "transfer-encoding" in headers:
        return IN_CHUNKS
    said = headers.get("content-length", "")
    return min(int(said), MOST_SAID) if said.isdecimal() and len(said) < 20 else 0


def _path(scope: Scope) -> str:
    """Below the prefix under which Freshet is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(headers) < len(raw):
        values: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            values.setdefault(name, []).append(value)
        for name, each in values.items():
            # RFC 9113, 8.2.3: cookies that came in several fields "MUST be concatenated into a single octet string
            # using the two-octet delimiter of 0x3b, 0x20".
            headers[name.decode("latin-1")] = (b"; " if name == b"cookie" else b", ").join(each).decode("latin-1")
    return headers


def _handshake_of(scope: Scope, headers: dict[str, str], shared: bool) -> Handshake:
    peer, query = scope.get("client"), scope["query_string"]
    return Handshake(
        path=_path(scope),
        query=dict(fields_of(query.decode("latin-1"))) if query else {},
        headers=headers,
        client=f"{peer[0]}:{peer[1]}" if peer else "",
        subprotocols=tuple(scope.get("subprotocols", ())),
        shared=shared,
    )


async def carry_websocket(accepted: AcceptedSocket | Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket, and let the session have it: directly where Freshet serves, otherwise by ASGI messages.

    A response: it is refused, with that.
    """
    if isinstance(accepted, Response):
        await answer(accepted, scope, receive, send)
        return
    take_over: native.Takeover | None = scope.get("extensions", {}).get(native.EXTENSION)
    if take_over is not None:
        take_over(*accepted)
    else:
        await asgi.converse(*accepted, receive, send)


def cors(request: Handshake, methods: str = METHODS) -> dict[str, str]:
    """What a browser wants to see before a page of another origin, one that is allowed, may read the answer."""
    page = request.headers.get("origin")
    if page is None:
        return {"Cache-Control": "no-store"}
    whose = (
        {"Access-Control-Allow-Origin": "*"}
        if request.shared
        else {"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true"}
    )
    return {
        "Cache-Control": "no-store",
        **whose,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": request.headers.get("access-control-request-headers", "Content-Type"),
        "Vary": "Origin",
    }


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI has them, without what a stream says itself."""
    return [
        (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items() if name != "Cache-Control"
    ]
