"""What stands before every URL of clients: origin, preflight, draining, admission; and nothing goes past it."""

import ast
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from freshet import Freshet, History
from freshet.config import Admin, Api, Config, Limits, Metrics, Rooms
from freshet.endpoints.opening import Opening
from freshet.model.frame import Handshake
from freshet.policy.limits import UNLIMITED, AddressLimits
from freshet.policy.origin import Origins
from freshet.runtime.admission import LONGEST_WAIT, Admission
from freshet.runtime.clock import SYSTEM
from freshet.testing import ManualClock
from tests.endpoints.matrix import Open
from tests.tools.asgi import Answered, directly, knock
from tests.tools.need import ROOT
from tests.transports.calls import called
from tests.transports.calls import request as a_request

PAGE, FOREIGN = "https://page.example", "https://evil.example"
CONNECT = "%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"
POLLING, SOCKET = "/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=websocket"


class Opens(NamedTuple):
    """A request that opens a client. streams: its answer has no end. direct: without ASGI."""

    method: str
    url: str
    accept: str = "*/*"
    body: bytes = b""
    streams: bool = False
    direct: bool = False

    def at(self, live: Freshet) -> ASGIApp:
        """What it is sent to."""
        return directly(live) if self.direct else live


CONNECT_JSON = b'{"id":1,"connect":{}}'
OPENS = {
    "websocket": Opens("WEBSOCKET", "/connection/websocket"),
    "channel websocket": Opens("WEBSOCKET", "/channels/log:a"),
    "socket.io websocket": Opens("WEBSOCKET", SOCKET),
    "websocket, direct": Opens("WEBSOCKET", "/connection/websocket", direct=True),
    "channel websocket, direct": Opens("WEBSOCKET", "/channels/log:a", direct=True),
    "socket.io websocket, direct": Opens("WEBSOCKET", SOCKET, direct=True),
    "sse": Opens("GET", f"/connection/sse?cf_connect={CONNECT}", streams=True),
    "http_stream": Opens("POST", "/connection/http_stream", body=CONNECT_JSON, streams=True),
    "channel events": Opens("GET", "/channels/log:a", "text/event-stream", streams=True),
    "channels events": Opens("GET", "/channels?channel=log:a&channel=log:b", "text/event-stream", streams=True),
    "channel page": Opens("GET", "/channels/log:a"),
    "channel long poll": Opens("GET", "/channels/log:a?wait=0.01"),
    "channel publish": Opens("POST", "/channels/log:a", body=b"1"),
    "room": Opens("POST", "/rooms/room:a", body=b"1"),
    "socket.io polling": Opens("GET", POLLING),
}
EVENTS = ("channel events", "channels events")
OVER_HTTP = {name: opens for name, opens in OPENS.items() if opens.method != "WEBSOCKET"}
each = pytest.mark.parametrize("opens", OPENS.values(), ids=OPENS.keys())
each_over_http = pytest.mark.parametrize("opens", OVER_HTTP.values(), ids=OVER_HTTP.keys())


@asynccontextmanager
async def application(clients: int = 1000) -> AsyncIterator[Freshet]:
    """That lets so many clients in; its time stands still."""
    limits = Limits(connects_per_second=0.001, connects_burst=clients)
    config = Config(origins=[PAGE], limits=limits, rooms=Rooms(store="memory://"))
    live = Freshet(dev=True, environment={}, config=config, clock=ManualClock())
    live.room("room:{name}")(Open)
    live.channel("log:{name}", history=History(size=10, ttl=60), publish="client")
    async with live.lifespan():
        yield live
    assert list(live._node.registry) == []  # whatever was opened has ended


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    async with application() as live:
        yield live


async def come(live: Freshet, opens: Opens, origin: str | None = None) -> Answered:
    headers = {"Accept": opens.accept} | ({"Origin": origin} if origin else {})
    if opens.method == "WEBSOCKET" or opens.streams:
        return await knock(opens.at(live), opens.method, opens.url, headers, opens.body)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http:
        answer = await http.request(opens.method, opens.url, headers=headers, content=opens.body)
        return Answered(answer.status_code, dict(answer.headers), answer.content)


async def came_in(live: Freshet, opens: Opens, origin: str | None = None) -> Answered:
    answer = await come(live, opens, origin)
    assert answer.status == (101 if opens.method == "WEBSOCKET" else 200), answer
    return answer


# --------------------------------------------------------------------------------------------------------- the only way


def test_a_handshake_is_made_in_two_places_only() -> None:
    """Whatever opens a session has one, so that no URL goes past the checks."""
    made = set()
    for path in (ROOT / "src" / "freshet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "Handshake" in (
                getattr(node.func, "id", ""),
                getattr(node.func, "attr", ""),
            ):
                made.add(path.relative_to(ROOT / "src" / "freshet").as_posix())
    assert made == {"endpoints/opening.py", "endpoints/in_process.py"}


ELSEWHERE = (  # what is for operators, and whose openings are tested with the rest of them
    *("/api", "/metrics", "/health", "/admin/"),
    *("/ai/", "/ag-ui/", "/openai/", "/@connections", "/{stage}"),
)


def test_every_url_of_clients_is_tested_here(live: Freshet) -> None:
    router = live._router.app  # type: ignore[attr-defined]
    paths = {getattr(route, "path", "") for route in router.routes}
    ours = {path for path in paths if path not in ("/", "/admin") and not path.startswith(ELSEWHERE)}
    assert ours == {
        "/connection/websocket",
        "/rooms/{channel:freshet_channel}",
        "/connection/sse",
        "/connection/http_stream",
        "/connection/ticket",
        "/emulation",
        "/channels",
        "/channels/{channel:freshet_channel}",
        "/v1/stream/{channel:freshet_channel}",
        "/socket.io",
    }


# ---------------------------------------------------------------------------------------------------------- origins


@each
async def test_a_page_of_another_origin_is_refused(live: Freshet, opens: Opens) -> None:
    answer = await come(live, opens, FOREIGN)
    assert (answer.status, b"rigin" in answer.body) == (403, True)
    assert "access-control-allow-origin" not in answer.headers
    await came_in(live, opens, PAGE)
    await came_in(live, opens)  # no browser, no origin


async def test_what_a_client_of_a_stream_says_may_not_come_from_another_origin_either(live: Freshet) -> None:
    says = Opens("POST", "/emulation", body=b'{"node":"","session":"none","data":"{}"}')
    assert (await come(live, says, FOREIGN)).status == 403
    answer = await come(live, says, PAGE)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (404, PAGE)  # no such session


async def test_a_ticket_is_given_to_no_page_of_another_origin(live: Freshet) -> None:
    asks = Opens("POST", f"/connection/ticket?token={live.token('alice')}")
    assert (await come(live, asks, FOREIGN)).status == 403
    answer = await come(live, asks, PAGE)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert live._node.admission.refused == 0
    async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http:
        assert (await http.options("/connection/ticket", headers={"Origin": PAGE})).status_code == 204


async def test_a_server_that_cannot_answer_a_websocket_closes_it(live: Freshet) -> None:
    answer = await knock(live, "WEBSOCKET", "/connection/websocket", {"Origin": FOREIGN}, may_respond=False)
    assert answer == Answered(0, {}, b"", 1008)


@each_over_http
async def test_a_page_that_is_allowed_may_read_the_answer(live: Freshet, opens: Opens) -> None:
    headers = (await came_in(live, opens, PAGE)).headers
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["vary"] == "Origin"
    assert "no-store" in headers["cache-control"]
    plain = (await came_in(live, opens)).headers
    assert not [name for name in plain if name.startswith("access-control")]
    assert "no-store" in plain["cache-control"]


@each_over_http
async def test_a_preflight_is_answered_and_opens_nothing(opens: Opens) -> None:
    async with application(clients=1) as live:
        transport = httpx.ASGITransport(live)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            asks = {"Origin": PAGE, "Access-Control-Request-Headers": "content-type,x-trace"}
            answers = [await http.options(opens.url, headers=asks) for _ in range(3)]
            assert [(each.status_code, each.content) for each in answers] == [(204, b"")] * 3
            answer = answers[0]
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
            assert answer.headers["access-control-allow-headers"] == "content-type,x-trace"
            assert (await http.options(opens.url, headers={"Origin": FOREIGN})).status_code == 403
        assert live._node.admission.refused == 0
        await came_in(live, opens)  # the one that may


async def test_a_preflight_of_what_a_client_of_a_stream_says_is_answered(live: Freshet) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http:
        answer = await http.options("/emulation", headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (204, "Content-Type")


# -------------------------------------------------------------------------------- what a browser does by itself

NAVIGATES = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}


@pytest.mark.parametrize("signs", [NAVIGATES, IMAGE], ids=["a link", "an image"])
@pytest.mark.parametrize("name", [name for name, opens in OVER_HTTP.items() if opens.method == "GET"])
async def test_a_foreign_page_opens_nothing_by_a_link_or_an_image(
    live: Freshet, name: str, signs: dict[str, str]
) -> None:
    opens = OPENS[name]
    answer = await knock(live, opens.method, opens.url, {"Accept": opens.accept, **signs})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "command", ['{"id":2,"publish":{"channel":"log:a","data":1}}', '{"id":2,"rpc":{"method":"pay"}}', '{"send":{}}']
)
async def test_a_get_connects_and_subscribes_and_changes_nothing(live: Freshet, command: str) -> None:
    called = []

    @live.rpc("pay")
    def pay(session: object, data: Any) -> None:
        called.append(data)

    lines = '{"id":1,"connect":{}}\n' + command
    answer = await knock(live, "GET", f"/connection/sse?cf_connect={quote(lines)}", {})
    assert (answer.status, b"may connect and subscribe" in answer.body) == (400, True)
    assert (called, (await live.history("log:a", limit=0)).position.offset) == ([], 0)
    subscribes = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"log:a"}}'
    await came_in(live, Opens("GET", f"/connection/sse?cf_connect={quote(subscribes)}", streams=True))


async def cookies(live: Freshet, opens: Opens, signs: dict[str, str]) -> list[str | None]:
    """What the hook sees of the cookies of a request that opens a client."""
    seen: list[str | None] = []
    connected = asyncio.Event()

    @live.on_connect
    def look(session: object, request: Handshake) -> None:
        seen.append(request.headers.get("cookie"))
        connected.set()

    headers = {"Accept": opens.accept, "Cookie": "session=1", **signs}
    if opens.method == "WEBSOCKET" or opens.streams:
        await knock(opens.at(live), opens.method, opens.url, headers, opens.body, stay=connected)
    else:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http:
            await http.request(opens.method, opens.url, headers=headers, content=opens.body)
    return seen


CONNECTING = {
    name: OPENS[name]
    for name in (
        "channel websocket",
        "channel websocket, direct",
        "sse",
        "http_stream",
        "channel events",
        "channel page",
    )
}


@pytest.mark.parametrize("name", CONNECTING)
async def test_cookies_count_where_a_page_that_may_connect_made_the_request(live: Freshet, name: str) -> None:
    assert await cookies(live, OPENS[name], {"Origin": PAGE}) == ["session=1"]


@pytest.mark.parametrize("name", CONNECTING)
async def test_cookies_without_a_sign_of_whose_they_are_count_for_reading_alone(live: Freshet, name: str) -> None:
    opens = OPENS[name]
    assert await cookies(live, opens, {}) == ["session=1" if opens.method == "GET" else None]


@each_over_http
async def test_where_all_origins_may_connect_no_answer_is_for_a_page_with_credentials(opens: Opens) -> None:
    live = Freshet(dev=True, environment={}, config=Config(origins=["*"], rooms=Rooms(store="memory://")))
    live.channel("log:{name}", history=History(size=10, ttl=60), publish="client")
    live.room("room:{name}")(Open)
    async with live.lifespan():
        headers = (await came_in(live, opens, FOREIGN)).headers
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


# ------------------------------------------------------------------------------------------------------- host names

EVERYWHERE = {
    **OPENS,
    "api": Opens("POST", "/api/info", body=b"{}"),
    "metrics": Opens("GET", "/metrics"),
    "explorer": Opens("GET", "/api/"),
}


@pytest.mark.parametrize("name", EVERYWHERE)
async def test_in_dev_a_name_that_a_stranger_let_lead_here_is_not_answered(name: str) -> None:
    """DNS rebinding: the page of the stranger is of the same origin then, whatever the browser checks."""
    opens = EVERYWHERE[name]
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        signs = {"host": "evil.example:8000", "Origin": "http://evil.example:8000", "Accept": opens.accept}
        answer = await knock(opens.at(live), opens.method, opens.url, signs, opens.body)
        assert (answer.status, b"hosts" in answer.body) == (421, True)
        health = await knock(live, "GET", "/health/live", signs)
        assert health.status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/info"), ("GET", "/metrics"), ("WEBSOCKET", "/admin/connection/websocket")]
)
async def test_where_no_key_is_asked_for_a_name_of_a_strangers_is_not_answered(method: str, path: str) -> None:
    """DNS rebinding, without `dev` too: a page would reach what is open to this machine, or this network, alone."""
    options = {"api": Api(anonymous=True), "metrics": Metrics(anonymous=True), "admin": Admin(anonymous=True)}
    for hosts, host, status in (
        ([], "evil.example:8000", 421),
        ([], "127.0.0.1:8000", 200),
        ([], "freshet:8000", 200),
        (["live.example"], "live.example", 200),
        (["live.example"], "127.0.0.1", 421),
    ):
        live = Freshet(environment={}, config=Config(hosts=hosts, **options))
        async with live.lifespan():
            signs = {"host": host, "Origin": f"http://{host}"}
            found = (await knock(live, method, path, signs, b"{}")).status
            assert (200 if found == 101 else found) == status
            assert (await knock(live, "GET", "/channels/a", signs)).status != 421 or hosts


async def test_a_redirect_does_not_repeat_the_host() -> None:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        for path in ("/api", "/socket.io", "/channels/a/", "/metrics/"):
            location = (await knock(live, "GET", path, {"host": "evil"})).headers.get("location", "")
            assert "evil" not in location


# ---------------------------------------------------------------------------------------------- draining, admission


def asked_to_come_again(name: str, answer: Answered) -> int:
    """In how many seconds; 0: it is not asked that."""
    if name in EVENTS:  # an EventSource comes back from the end of a stream, and from no error of HTTP
        wait = int(answer.headers["retry-after"])
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.body == b"retry: %d\n" % (wait * 1000)
        return wait if answer.status == 200 else 0
    return int(answer.headers["retry-after"]) if answer.status == 503 else 0


@pytest.mark.parametrize("name", OPENS)
async def test_a_node_that_drains_takes_no_new_clients(live: Freshet, name: str) -> None:
    await live._node.drain()
    answer = await come(live, OPENS[name], PAGE)
    assert asked_to_come_again(name, answer) == 1
    if name in OVER_HTTP:
        assert answer.headers["access-control-allow-origin"] == PAGE  # a page may read when to come again
    assert live._node.admission.refused == 0


@pytest.mark.parametrize("name", OPENS)
async def test_who_comes_too_early_is_asked_to_come_again(name: str) -> None:
    async with application(clients=1) as live:
        await came_in(live, OPENS[name])
        answer = await come(live, OPENS[name], PAGE)
        assert asked_to_come_again(name, answer) >= 1
        if name in OVER_HTTP:
            assert answer.headers["access-control-allow-origin"] == PAGE
        assert live._node.admission.refused == 1


@pytest.mark.parametrize("wait", [1, LONGEST_WAIT])
async def test_the_operator_hears_of_who_comes_too_early_however_long_it_is_to_wait(
    live: Freshet, wait: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Admission, "wait", lambda admission: wait)
    assert (await come(live, OPENS["channel page"])).status == 503
    assert f"was asked to come again in {wait} s: see the option limits.connects_per_second" in caplog.text


@pytest.mark.parametrize("resumes", ["?since=oldest", "?since=oldest&wait=0.01", "Last-Event-ID"])
async def test_a_poll_that_goes_on_where_it_stopped_is_no_new_client(resumes: str) -> None:
    async with application(clients=1) as live:
        await came_in(live, OPENS["channel page"])
        transport = httpx.ASGITransport(live)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            place = (await live.history("log:a", limit=0)).position
            query, headers = ("", {resumes: f"{place.epoch}:0"}) if resumes[0] != "?" else (resumes, {})
            for _ in range(3):
                assert (await http.get(f"/channels/log:a{query}", headers=headers)).status_code == 200
            assert (await http.get("/channels/log:a")).status_code == 503
            assert live._node.admission.refused == 1
            await live._node.drain()
            assert (await http.get(f"/channels/log:a{query}", headers=headers)).status_code == 503  # to go on elsewhere


async def test_the_polls_of_a_session_are_no_new_clients() -> None:
    async with application(clients=1) as live:
        opening = (await came_in(live, OPENS["socket.io polling"])).body.decode()
        sid = opening.partition('"sid":"')[2].partition('"')[0]
        assert (await come(live, OPENS["socket.io polling"])).status == 503
        polls = Opens("POST", f"{POLLING}&sid={sid}", body=b"40")
        assert (await came_in(live, polls)).body == b"ok"
        assert (await came_in(live, Opens("GET", polls.url))).body.startswith(b"40{")
        assert live._node.admission.refused == 1


async def test_what_is_wrong_anyway_is_not_counted_as_a_client() -> None:
    async with application(clients=1) as live:
        for wrong, status in (
            (Opens("PUT", "/channels/log:a"), 405),
            (Opens("GET", "/channels/log:a?wait=soon"), 400),
            (Opens("GET", "/socket.io/?EIO=3&transport=polling"), 400),
            (Opens("WEBSOCKET", "/socket.io/?EIO=4&transport=polling"), 400),
            (Opens("GET", "/channels", "text/event-stream"), 400),
        ):
            assert (await come(live, wrong)).status == status
        await came_in(live, OPENS["channel page"])


# ----------------------------------------------------------------------------------------------------- the handshake


@given(query=st.text(st.sampled_from("ab=&%+;2C\xe9\x00")))
def test_a_query_is_read_as_that_of_a_form(query: str) -> None:
    unlimited = AddressLimits(UNLIMITED, time.monotonic)
    opening = Opening(Origins([], dev=True), Admission(0, 0, SYSTEM), unlimited, lambda: False)
    found = opening.examine({**a_request("GET", "/channels/a"), "query_string": query.encode("latin-1")}, admit=False)
    assert isinstance(found, Handshake)
    assert found.query == dict(parse_qsl(query, keep_blank_values=True))


@each
async def test_a_query_of_thousands_of_fields_is_refused_before_it_is_decoded(live: Freshet, opens: Opens) -> None:
    url = opens.url + ("&" if "?" in opens.url else "?")
    assert (await come(live, opens._replace(url=url + "%61&" * 1000))).status == 400
    await came_in(live, opens._replace(url=url + "%61&" * 900))


async def test_hooks_see_the_request_as_it_came(live: Freshet) -> None:
    seen: list[tuple[str, dict[str, str], str, str]] = []

    @live.on_connect
    def look(session: object, request: object) -> None:
        seen.append(
            (
                getattr(request, "path", ""),
                getattr(request, "query", {}),
                getattr(request, "client", ""),
                getattr(request, "headers", {})["x-trace"],
            )
        )

    url = "/channels/log:%C3%A9?a=1&a=2&empty="
    answer = await knock(live, "GET", url, {"X-Trace": "7"})
    assert answer.status == 200
    assert seen == [("/channels/log:é", {"a": "2", "empty": ""}, "192.0.2.1:1234", "7")]


async def test_cookies_that_come_one_by_one_are_joined_as_cookies_are(live: Freshet) -> None:
    seen: list[str] = []

    @live.on_connect
    def look(session: object, request: object) -> None:
        headers = getattr(request, "headers", {})
        seen.append(f"{headers['cookie']} | {headers['x-trace']}")

    scope = a_request("GET", "/channels/log:a", cookie="session=1", x_trace="7")
    scope["headers"] += [(b"cookie", b"theme=dark"), (b"x-trace", b"8")]
    async with called(live, scope) as call:
        assert (await call.next())["status"] == 200
    assert seen == ["session=1; theme=dark | 7, 8"]
