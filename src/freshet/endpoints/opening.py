"""The only way to a `Handshake`: origin, CORS, preflight, draining and admission, for every transport alike.

Every endpoint lets `Opening` look at a request first, and goes on with the handshake that it answers: `examine` says
how the request is answered otherwise, `open` has answered it. So the checks are the same whether ASGI carries the
request or not (see `wiring/direct.py`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.endpoints.responses import BUSY, METHODS, answer, cors, plain
from freshet.model.frame import Handshake
from freshet.model.query import fields_of
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.policy.limits import AddressLimits
from freshet.policy.origin import Origins
from freshet.runtime.admission import Admission

log = logging.getLogger("freshet.opening")

RETRY_WHEN_FULL = 30  # seconds after which somebody may have gone
TOO_FAST = "Too many requests: try again later.\n"
FIELDS = 1000  # of a query, each of which has to be decoded; as many channels as an URL has room for
LONGEST_BODY = 2**30  # bytes that a body is taken to have at the most, whatever its header says
CHUNKED_BODY = 64 * 1024  # bytes that a body is taken to have that does not say how many

_OPTIONS = {"address": "see the option rates.address", "admission": "see the option limits.connects_per_second"}

Refuse = Callable[[int, str, Mapping[str, str]], Response]
"""How a protocol words a refusal: status, text, headers."""


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
                "origin", "a request for %.100r of %.100r was refused: see the option `origins`", path_of(scope), whence
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
        is_full = not wait and self._addresses.is_full(handshake.client)
        if is_full:
            status, wait, policy = 429, RETRY_WHEN_FULL, "address"
        if not wait and not resumes:
            if wait := ceil(self._addresses.wait(handshake.client)):
                status, policy = 429, "address"
            else:
                wait, policy = self._admission.wait(), "admission"
        if not wait:
            return None
        self._counts.refuse(policy)
        if not is_full:  # of which its limit has written
            why = _OPTIONS.get(policy, "the server stops, or has as many as it may")
            self._log.warning(
                policy, "a client from %s was asked to come again in %d s: %s", handshake.client, wait, why
            )
        headers = cors(handshake) if scope["type"] == "http" else {}
        return refuse(status, BUSY, {**headers, "Retry-After": str(wait)})


def _size(headers: Mapping[str, str]) -> int:
    """Bytes of a body that is not read yet, as it says itself."""
    if "transfer-encoding" in headers:
        return CHUNKED_BODY
    said = headers.get("content-length", "")
    return min(int(said), LONGEST_BODY) if said.isdecimal() and len(said) < 20 else 0


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
        path=path_of(scope),
        query=dict(fields_of(query.decode("latin-1"))) if query else {},
        headers=headers,
        client=f"{peer[0]}:{peer[1]}" if peer else "",
        subprotocols=tuple(scope.get("subprotocols", ())),
        shared=shared,
    )


def path_of(scope: Scope) -> str:
    """Below the prefix under which Freshet is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
