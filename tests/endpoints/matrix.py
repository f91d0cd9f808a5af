"""Who may open what: each way into the server, with each sign of where a request comes from, and each kind of token.

`python -m tests.endpoints.matrix --write` writes what comes of it to docs/about/access.md.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import jwt

from freshet import Connection, Freshet, History, HttpRequest, Room, Run
from freshet.config import Config, Limits, Rooms
from freshet.model.frame import Handshake
from freshet.testing import ManualClock
from tests.tools.asgi import directly
from tests.tools.need import ROOT
from tests.tools.patience import seconds

PAGE = ROOT / "docs" / "about" / "access.md"
BEGIN, END = "<!-- matrix: python -m tests.endpoints.matrix --write -->\n\n", "\n\n<!-- matrix end -->"

SECRET, KEY = "a secret of the tests, which is long enough for HS512: 0123456789abcdef", "the key of operators"
NOW = 1_800_000_000
HOST, FOREIGN = "live.example", "https://evil.example"
LISTED = ["https://page.example", "https://*.wild.example"]
COOKIE = "session=1"

Sent = list[dict[str, Any]]


class Sign(NamedTuple):
    """What a browser, or somebody else, says of where a request comes from. origins: the option."""

    headers: Mapping[str, str]
    origins: tuple[str, ...] = ()


SIGNS = {
    "its own page": Sign({"origin": f"https://{HOST}"}),
    "its own page, without TLS": Sign({"origin": f"http://{HOST}"}),
    "a listed origin": Sign({"origin": "https://page.example"}, tuple(LISTED)),
    "one below a wildcard": Sign({"origin": "https://a.wild.example"}, tuple(LISTED)),
    "a foreign page": Sign({"origin": FOREIGN}),
    "a foreign page, others listed": Sign({"origin": FOREIGN}, tuple(LISTED)),
    "a look-alike": Sign({"origin": "https://evil.example`.wild.example"}, tuple(LISTED)),
    "`null` (a sandbox)": Sign({"origin": "null"}),
    "any page, with `*`": Sign({"origin": FOREIGN}, ("*",)),
    "no sign (no browser)": Sign({}),
    "`Sec-Fetch-Site: same-origin`": Sign({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}),
    "`same-site` (an image)": Sign({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}),
    "`cross-site` (an image)": Sign({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
    "a link or a frame": Sign({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
    "an address that is typed": Sign({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
}


def _signed(claims: dict[str, Any], secret: str = SECRET, algorithm: str | None = "HS256", **header: str) -> str:
    claims = {"sub": "alice", "exp": NOW + 600, **claims}
    return jwt.encode(claims, secret if algorithm != "none" else "", algorithm=algorithm, headers=header)


TOKENS = {
    "valid": _signed({}),
    "none": "",
    "expired": _signed({"exp": NOW - 1}),
    "not yet valid": _signed({"nbf": NOW + 60}),
    "another key": _signed({}, "another secret, which is as long as the other: 0123456789abcdef01234567"),
    "`alg: none`": _signed({}, algorithm="none"),
    "claims changed": re.sub(r"\.[^.]+\.", "." + _signed({"sub": "root"}).split(".")[1] + ".", _signed({})),
    "`jku` of a stranger": _signed(
        {}, "a key that is published at the address below, by its owner", jku=f"{FOREIGN}/keys"
    ),
    "of a subscription": _signed({"channel": "log:a"}),
    "no user": _signed({"sub": ""}),
    "garbage": "a.b.c",
}


class Way(NamedTuple):
    """A way in. url, headers, body, messages: given the token. outcome: of what was sent; empty: not known yet.

    direct: it is there without ASGI, too, where the same has to come of it.
    """

    method: str
    url: Callable[[str], str]
    outcome: Callable[[Sent], str]
    headers: Callable[[str], dict[str, str]] = lambda token: {}
    body: Callable[[str], bytes] = lambda token: b""
    messages: Callable[[str], list[str]] = lambda token: []
    hooks: bool = True
    direct: bool = False


def _connect(token: str) -> str:
    return json.dumps({"id": 1, "connect": {"token": token}})


def _end(sent: Sent) -> str:
    """A refusal by status, or a close."""
    first = sent[0] if sent else {"type": ""}
    if first["type"].endswith("response.start") and first["status"] not in (200, 204):
        return str(first["status"])
    codes = [each["code"] for each in sent if each["type"] == "websocket.close"]
    return str(codes[0]) if codes else ""


def _text(sent: Sent) -> str:
    bodies = [each.get("text") or each.get("body", b"").decode() for each in sent if "text" in each or "body" in each]
    return "".join(bodies)


def _replied(sent: Sent) -> str:
    """As the Centrifugal protocol has it, on a WebSocket or in a stream."""
    text = _text(sent)
    if '"connect":{"client"' in text:
        return "yes"
    code = re.search(r'"(?:error|disconnect)":\{"code":(\d+)', text)
    return _end(sent) or (code[1] if code else "")


def _echoed(sent: Sent) -> str:
    return "yes" if any(each.get("text") == "1" for each in sent) else _end(sent)


def _streamed(sent: Sent) -> str:
    return "yes" if "event: subscribed" in _text(sent) else _end(sent)


def _answered(sent: Sent) -> str:
    done = bool(sent) and "body" in sent[-1] and not sent[-1].get("more_body")
    return _end(sent) or ("yes" if done else "")


def _created(sent: Sent) -> str:
    return "yes" if sent and sent[0].get("status") == 201 else _answered(sent)


def _known(sent: Sent) -> str:
    """Of a request for a session: that there is none of this name is said to those alone who may ask."""
    return "yes" if sent and sent[0].get("status") == 404 else _answered(sent)


def _namespaced(sent: Sent) -> str:
    """As Socket.IO has it."""
    packets = [each.get("text", "") for each in sent]
    refused = next((each for each in packets if each.startswith("44")), "")
    return (
        "yes" if any(each.startswith("40{") for each in packets) else _end(sent) or ("`CONNECT_ERROR`" * bool(refused))
    )


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def _auth(token: str) -> list[str]:
    return ["40" + json.dumps({"token": token})]


def _begun(sent: Sent) -> str:
    """As AG-UI has it."""
    return "yes" if '"type":"RUN_STARTED"' in _text(sent) else _end(sent)


def _chunks(sent: Sent) -> str:
    """As the AI SDK has them."""
    return "yes" if '"type":"start' in _text(sent) else _end(sent)


ASKED = {"id": "1", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]}
AG_UI = {"threadId": "t", "runId": "r", "state": {}, "messages": [{"id": "m", "role": "user", "content": "hello"}]}
OPENAI = {"model": "any", "messages": [{"role": "user", "content": "hello"}]}
CHANNEL = "/channels/log:a"
SOCKETIO = "/socket.io/?EIO=4&transport="
WAYS = {
    "WebSocket": Way(
        "WEBSOCKET", lambda it: "/connection/websocket", _replied, messages=lambda it: [_connect(it)], direct=True
    ),
    "channel, WebSocket": Way(
        "WEBSOCKET", lambda it: f"{CHANNEL}?token={it}", _echoed, messages=lambda it: ["1"], direct=True
    ),
    "SSE": Way("GET", lambda it: f"/connection/sse?cf_connect={quote(_connect(it))}", _replied),
    "HTTP streaming": Way(
        "POST", lambda it: "/connection/http_stream", _replied, body=lambda it: _connect(it).encode()
    ),
    "channel, events": Way(
        "GET", lambda it: CHANNEL, _streamed, lambda it: {"accept": "text/event-stream", **_bearer(it)}
    ),
    "channel, page": Way("GET", lambda it: CHANNEL, _answered, _bearer),
    "channel, `POST`": Way("POST", lambda it: CHANNEL, _answered, _bearer, body=lambda it: b"1"),
    "room": Way("POST", lambda it: "/rooms/room:a", _answered, _bearer, body=lambda it: b"1"),
    "stream, `PUT`": Way("PUT", lambda it: "/v1/stream/log:a", _created, _bearer, body=lambda it: b"1"),
    "Socket.IO, WebSocket": Way(
        "WEBSOCKET", lambda it: f"{SOCKETIO}websocket", _namespaced, messages=_auth, direct=True
    ),
    "Socket.IO, polling": Way("GET", lambda it: f"{SOCKETIO}polling", _answered, hooks=False),
    "AI, `POST`": Way("POST", lambda it: "/ai/ai", _chunks, _bearer, body=lambda it: json.dumps(ASKED).encode()),
    "AI, `GET`": Way("GET", lambda it: "/ai/ai/1/messages", _answered, _bearer),
    "AG-UI": Way("POST", lambda it: "/ag-ui/ai", _begun, _bearer, body=lambda it: json.dumps(AG_UI).encode()),
    "OpenAI": Way(
        "POST",
        lambda it: "/openai/ai/v1/chat/completions",
        _answered,
        _bearer,
        body=lambda it: json.dumps(OPENAI).encode(),
    ),
    "AI, WebSocket": Way(
        "WEBSOCKET",
        lambda it: f"/ai/ai/socket?token={it}",
        _chunks,
        messages=lambda it: [json.dumps({"type": "send", "requestId": "1", **ASKED})],
        direct=True,
    ),
    "gateway, WebSocket": Way("WEBSOCKET", lambda it: f"/dev?token={it}", _echoed, messages=lambda it: ["1"]),
    "ticket": Way("POST", lambda it: "/connection/ticket", _answered, _bearer, hooks=False),
    "emulation": Way(
        "POST", lambda it: "/emulation", _known, body=lambda it: b'{"node":"n","session":"s","data":""}', hooks=False
    ),
    "server API": Way(
        "POST", lambda it: "/api/info", _answered, lambda it: {"x-api-key": it} if it else {}, hooks=False
    ),
    "metrics": Way("GET", lambda it: "/metrics", _answered, _bearer, hooks=False),
}
OPERATORS = ("server API", "metrics")
LATER = ("Socket.IO, polling", "emulation")
"""These show no token: one says it when it has connected, the other names a session that has."""


async def visit(app: Any, way: Way, token: str, headers: Mapping[str, str]) -> str:
    """What comes of a request: `yes`, a status, a code."""
    sent: Sent = []
    known = asyncio.Event()
    coming: list[dict[str, Any]] = [{"type": "http.request", "body": way.body(token)}]
    if way.method == "WEBSOCKET":
        messages = [{"type": "websocket.receive", "text": each} for each in way.messages(token)]
        coming = [{"type": "websocket.connect"}, *messages]

    async def receive() -> Any:
        if coming:
            return coming.pop(0)
        await known.wait()
        return (
            {"type": "websocket.disconnect", "code": 1001} if way.method == "WEBSOCKET" else {"type": "http.disconnect"}
        )

    async def send(message: Any) -> None:
        sent.append(message)
        if way.outcome(sent):
            known.set()

    path, _, query = way.url(token).partition("?")
    scope = {
        **({"type": "http", "method": way.method} if way.method != "WEBSOCKET" else {"type": "websocket"}),
        "http_version": "1.1",
        "scheme": "https",
        "path": path,
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1234),
        "server": (HOST, 443),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await asyncio.wait_for(app(scope, receive, send), seconds(5))
    return way.outcome(sent)


class Open(Room):
    """Answers whoever gets as far as that."""

    async def on_request(self, request: HttpRequest) -> str:
        return request.user


async def outcome(name: str, sign: Sign, token: str) -> str:
    """Of one cell, on a server of its own."""
    way, cookies = WAYS[name], list[str | None]()
    limits = Limits(connects_per_second=0)
    config = Config(origins=list(sign.origins), limits=limits, rooms=Rooms(store="memory://"))
    clock = ManualClock(NOW)
    live = Freshet(secret=SECRET, api_key=KEY, environment={"FRESHET_METRICS_KEY": KEY}, config=config, clock=clock)
    live.room("room:{name}")(Open)
    live.channel("log:{name}", history=History(size=10, ttl=60), publish="client", manage="client")

    @live.on_connect
    def look(session: object, request: Handshake) -> None:
        cookies.append(request.headers.get("cookie"))

    @live.run("ai:{chat}")
    async def answer(run: Run, message: Any, chat: str) -> None:
        await run.write("hello")

    gateway = live.gateway(stage="dev", routes=[{"key": "$default", "mock": "1", "response": True}])

    @gateway.route("$connect")
    def look_too(connection: Connection, event: dict[str, Any]) -> None:
        cookies.append(event["headers"].get("Cookie"))

    async with live.lifespan():
        own = {"host": HOST, "cookie": COOKIE, **way.headers(token), **sign.headers}
        found = await visit(live, way, token, own)
        if way.direct:
            saw = list(cookies)
            assert found == await visit(directly(live), way, token, own), f"{name}: not the same without ASGI"
            assert cookies == 2 * saw
            cookies = saw
    assert found, f"{name}: nothing is known of {sign}"
    assert len(set(cookies)) <= 1, f"{name}: some see the cookies of {sign}, and some do not"
    without = found == "yes" and way.hooks and set(cookies) != {COOKIE}
    return "yes, without cookies" if without else found


_found: dict[tuple[str, str], dict[str, str]] = {}  # so that each cell is tried once, however many look at it


async def by_origin(name: str) -> dict[str, str]:
    if ("origin", name) not in _found:
        token = KEY if name in OPERATORS else TOKENS["valid"]
        _found["origin", name] = {sign: await outcome(name, SIGNS[sign], token) for sign in SIGNS}
    return _found["origin", name]


async def by_token(name: str) -> dict[str, str]:
    if ("token", name) not in _found:
        _found["token", name] = await _by_token(name)
    return _found["token", name]


async def _by_token(name: str) -> dict[str, str]:
    own = SIGNS["its own page"]
    if name in OPERATORS:
        kinds = {"valid": KEY, "none": "", "another key": KEY[:-1] + "x", "garbage": TOKENS["garbage"]}
    else:
        kinds = TOKENS
    return {kind: await outcome(name, own, kinds[kind]) if kind in kinds else "" for kind in TOKENS}


def table(head: str, columns: list[str], rows: Mapping[str, Mapping[str, str]]) -> str:
    """With a line for each kind, and a column for each way in."""
    lines = [[head, *rows], ["---"] * (len(rows) + 1)]
    lines += [[column, *(each[column] for each in rows.values())] for column in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


async def tables() -> str:
    origins = {name: await by_origin(name) for name in WAYS}
    tokens = {name: await by_token(name) for name in WAYS if name not in LATER}
    return "\n\n".join(
        [
            "## Where a request comes from",
            "With a token, or a key, that is valid.",
            table("the request is of", list(SIGNS), origins),
            "## What it shows",
            "From the server's own page. Operators show a key instead of a token.",
            table("the token is", list(TOKENS), tokens),
        ]
    )


def with_tables(page: str, written: str) -> str:
    """The page with the tables of today between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{written}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    now = asyncio.run(tables())
    if "--write" in sys.argv:
        PAGE.write_text(with_tables(PAGE.read_text(), now))
    else:
        print(now)
