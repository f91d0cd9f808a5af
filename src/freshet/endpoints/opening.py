"""The only way to a `Handshake`: origin, CORS, preflight, draining and admission, for every transport alike.

Every endpoint lets `Opening.open` look at a request first, and goes on with the handshake that it answers. None: the
request has its response already.
"""

import logging
from collections.abc import Callable, Mapping
from math import ceil
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet.config import Bound
from freshet.model.frame import Handshake
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.policy.limits import AddressLimits
from freshet.policy.origin import Hosts, Origins
from freshet.runtime.admission import Admission
from freshet.session.session import Carried
from freshet.transports import asgi, native
from freshet.transports.stream import NoRoom

log = logging.getLogger("freshet.opening")

FULL = 30  # seconds after which somebody may have gone
_OPTIONS = {"address": "see the option rates.address", "admission": "see the option limits.connects_per_second"}
BUSY = "Too many clients connect at once, or the server stops: try again later.\n"

TOO_FAST = "Too many requests: try again later.\n"
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


class HostGuard:
    """Stands before all URLs but those of health: whoever asks for a name that is not ours is not answered."""

    def __init__(self, app: ASGIApp, hosts: Hosts, counts: Counts) -> None:
        self.app = app
        self._hosts = hosts
        self._counts = counts
        self._log = BoundedLog(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host")
        if self._hosts.allow(host) or _path(scope).startswith("/health/"):
            try:
                await self.app(scope, receive, send)
            except NoRoom:
                self._counts.refuse("bodies")
                self._log.warning(
                    "bodies",
                    "a request with a large body was refused: too many come at once, see limits.bodies",
                )
                await answer(plain(503, BUSY, {"Retry-After": "5"}), scope, receive, send)
            return
        self._counts.refuse("host")
        self._log.warning("host", "a request for the host %.100r was refused: see the option `hosts`", host)
        await answer(
            plain(421, "This server does not answer to that name: see the option `hosts`.\n"), scope, receive, send
        )


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
        """What the request is, if it may go on; otherwise it is answered, and so is a preflight, by `methods`.

        admit: it opens a session; an endpoint that does not know yet calls `admit` when it does.
        """
        headers = _joined(Headers(scope=scope))
        judged = self._origins.judge(scope.get("method", "WEBSOCKET"), headers)
        if judged.refusal:
            self._counts.refuse("origin")
            whence = headers.get("origin") or f"Sec-Fetch-Site: {headers.get('sec-fetch-site')}"
            self._log.warning(
                "origin", "a request for %.100r of %.100r was refused: see the option `origins`", _path(scope), whence
            )
            await answer(refuse(403, judged.refusal, {}), scope, receive, send)
            return None
        if not judged.ambient:
            headers.pop("cookie", None)
        handshake = _handshake_of(scope, headers, judged.shared)
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await Response(None, 204, cors(handshake, methods))(scope, receive, send)
            return None
        if scope["type"] == "http" and (wait := ceil(self._addresses.wait_to_ask(handshake.client, _size(headers)))):
            self._counts.refuse("requests")
            headers = {**cors(handshake), "Retry-After": str(wait)}
            await answer(refuse(429, TOO_FAST, headers), scope, receive, send)
            return None
        if admit and not await self.admit(handshake, scope, receive, send, refuse=refuse):
            return None
        return handshake

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
        """Whether a client may come in, here and now; otherwise it is asked to come again later, or elsewhere.

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
            return True
        self._counts.refuse(policy)
        if wait != FULL:  # of which its limit has written
            why = _OPTIONS.get(policy, "the server stops, or has as many as it may")
            self._log.warning(
                policy, "a client from %s was asked to come again in %d s: %s", handshake.client, wait, why
            )
        headers = cors(handshake) if scope["type"] == "http" else {}
        await answer(refuse(status, BUSY, {**headers, "Retry-After": str(wait)}), scope, receive, send)
        return False


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


def _joined(headers: Headers) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in headers.items():
        values.setdefault(name, []).append(value)
    # RFC 9113, 8.2.3: cookies that came in several fields "MUST be concatenated into a single octet string using the
    # two-octet delimiter of 0x3b, 0x20".
    return {name: ("; " if name == "cookie" else ", ").join(each) for name, each in values.items()}


def _handshake_of(scope: Scope, headers: dict[str, str], shared: bool) -> Handshake:
    peer = scope.get("client")
    return Handshake(
        path=_path(scope),
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers=headers,
        client=f"{peer[0]}:{peer[1]}" if peer else "",
        subprotocols=tuple(scope.get("subprotocols", ())),
        shared=shared,
    )


async def carry_websocket(
    carried: Carried, subprotocol: str | None, scope: Scope, receive: Receive, send: Send
) -> None:
    """Accept a WebSocket, and let `carried` have it: directly where Freshet serves, otherwise by ASGI messages."""
    take_over: native.Takeover | None = scope.get("extensions", {}).get(native.EXTENSION)
    if take_over is not None:
        take_over(carried, subprotocol)
    else:
        await asgi.converse(carried, subprotocol, receive, send)


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
