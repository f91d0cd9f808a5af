"""Who gets in, by which door, and for how long: with real clients, and over every dialect."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import socketio
from selenium import webdriver
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from freshet import Config, Disconnect, Freshet, Refusal
from freshet.config import ChannelConfig, Tokens
from freshet.policy.tickets import LIFETIME
from freshet.policy.tokens import issue
from freshet.testing import ManualClock
from tests.tools.browser import console_errors
from tests.tools.clients import SECRET, Listener, connected, soon, token
from tests.tools.issuer import KEYS, issuing, jwk
from tests.tools.issuer import token as signed
from tests.tools.pages import serving_files
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, serving

FREE = ChannelConfig(match="*", publish="client", read="client", presence=True)
PAGE_ORIGIN = "https://page.example"
KEY = "a key of the server API"
CONFIG = f"""
origins = ["*", "{PAGE_ORIGIN}"]
[tokens]
secret = "{SECRET}"
cookie = "live"
[api]
key = "{KEY}"
[timing]
expiry_grace = 2
[[channels]]
match = "open:*"
history = {{ size = 100, ttl = 60 }}
publish = "client"
read = "client"
[[channels]]
match = "granted:*"
subscribe = "token"
publish = "token"
read = "token"
history = {{ size = 100, ttl = 60 }}
presence = true
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("authentication") / "freshet.toml"
    file.write_text(CONFIG)
    with serving("--config", str(file)) as server:
        yield server


def api(server: Server, method: str, **request: Any) -> Any:
    return httpx.post(server.http(f"/api/{method}"), json=request, headers={"X-API-Key": KEY}).json()


def live_of(clock: ManualClock | None = None, **tokens: Any) -> Freshet:
    config = Config(tokens=Tokens(**tokens), channels=[FREE])
    return Freshet(secret=SECRET, config=config, environment={}, **({"clock": clock} if clock else {}))


async def code_of(live: Freshet, **options: Any) -> int | str:
    """As whom a client gets in; or the code with which it does not."""
    try:
        async with live.test_client(**options) as client:
            return str((await client.rpc("who")) if "who" in live._hooks.rpc else client.id and "in")
    except (Disconnect, Refusal) as why:
        return why.code


# ------------------------------------------------------------------------------------------------------- doors


def hello(server: Server, path: str, **options: Any) -> Any:
    """The first thing that a WebSocket gets once a publication is made; or the code with which it is closed."""
    with connect(server.ws(path), **options) as socket:
        try:
            socket.send('"hello"' if path.startswith("/channels") else '{"id": 1, "connect": {}}')
            return json.loads(socket.recv(timeout=seconds(5)))
        except ConnectionClosed as why:
            return why.rcvd.code if why.rcvd else None


@pytest.mark.parametrize("path", ["/channels/open:1", "/connection/websocket"])
def test_a_token_comes_in_by_each_door_that_a_websocket_has(server: Server, path: str) -> None:
    right, wrong = token("alice"), token("alice")[:-4] + "AAAA"
    doors: list[Any] = [
        lambda it: {"additional_headers": {"Authorization": f"Bearer {it}"}},
        lambda it: {"additional_headers": {"Cookie": f"a=b; live={it}"}, "origin": PAGE_ORIGIN},
        lambda it: {"subprotocols": [Subprotocol("freshet"), Subprotocol(f"freshet.token.{it}")]},
    ]
    for door in doors:
        answer = hello(server, path, **door(right))
        assert answer == "hello" or "connect" in answer
        assert hello(server, path, **door(wrong)) == 3500
    assert hello(server, path) == 3500


def test_a_token_that_was_offered_as_a_subprotocol_is_not_sent_back(server: Server) -> None:
    offered = [Subprotocol(f"freshet.token.{token('alice')}"), Subprotocol("freshet")]
    with connect(server.ws("/channels/open:2"), subprotocols=offered) as socket:
        assert socket.subprotocol == "freshet"
    with connect(server.ws("/channels/open:2"), subprotocols=offered[:1]) as socket:
        assert socket.subprotocol is None


PAGE = '<!doctype html><title>page</title><link rel="icon" href="data:,">'
BY_SUBPROTOCOL = """
const [url, token, done] = arguments;
const socket = new WebSocket(url, ["freshet", "freshet.token." + token]);
socket.onopen = () => socket.send('"from the page"');
socket.onmessage = ({ data }) => done([socket.protocol, JSON.parse(data)]);
socket.onclose = ({ code, reason }) => done([code, reason]);
"""
BY_TICKET = """
const [base, token, done] = arguments;
const headers = { Authorization: "Bearer " + token };
window.ticket = async () => {
  const answer = await fetch(base + "/connection/ticket", { method: "POST", headers });
  return (await answer.json()).ticket;
};
window.got = [];
window.follow = async (last) => {
  const url = base + "/channels/open:4?ticket=" + await ticket() + (last ? "&lastEventId=" + last : "");
  window.source = new EventSource(url);
  source.onmessage = ({ data, lastEventId }) => { got.push(JSON.parse(data)); window.last = lastEventId; };
  source.onerror = () => { window.state = source.readyState; if (state === 2) follow(window.last); };
};
follow().then(() => { source.addEventListener("subscribed", () => done(true)); }, (error) => done(String(error)));
"""


def test_a_page_shows_its_token_as_a_subprotocol(server: Server, browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE)
    with serving_files(tmp_path) as page:
        browser.get(page)
        told = browser.execute_async_script(BY_SUBPROTOCOL, server.ws("/channels/open:3"), token("alice"))
        assert told == ["freshet", "from the page"]
        assert console_errors(browser) == []
        refused = browser.execute_async_script(BY_SUBPROTOCOL, server.ws("/channels/open:3"), "a.b.c")
        assert refused == [3500, "invalid token"]


def test_a_page_opens_an_event_source_with_a_ticket_and_a_new_one_when_it_is_cut(
    server: Server, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    """The browser comes back with the ticket that is used; the answer 204 ends that, and the page gets another one."""
    (tmp_path / "index.html").write_text(PAGE)
    with serving_files(tmp_path) as page:
        browser.get(page)
        assert browser.execute_async_script(BY_TICKET, server.http(""), token("tina")) is True
        api(server, "publish", channel="open:4", data=1)
        wait_until(lambda: browser.execute_script("return got.length") == 1, 5, "the first")
        api(server, "disconnect", user="tina", disconnect={"code": 3011, "reason": "come back"})
        api(server, "publish", channel="open:4", data=2)
        wait_until(lambda: browser.execute_script("return got.length") == 2, 15, "what it missed")
        assert browser.execute_script("return [got, state]") == [[1, 2], 2]


def test_a_ticket_is_given_to_who_shows_a_token(server: Server) -> None:
    url = server.http("/connection/ticket")
    right = {"Authorization": f"Bearer {token('alice')}"}
    answer = httpx.post(url, headers={**right, "Origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "*"  # which `origins` say here
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == LIFETIME
    assert answer.headers["cache-control"] == "no-store"
    by_cookie = {"Cookie": f"live={token('alice')}", "Origin": PAGE_ORIGIN}
    assert httpx.post(url, headers=by_cookie).status_code == 200
    assert httpx.post(url, headers=by_cookie | {"Origin": "https://shop.example"}).status_code == 401
    wrong = [{}, {"Authorization": "Bearer a.b.c"}, {"Authorization": f"Bearer {answer.json()['ticket']}"}]
    wrong.append({"Authorization": f"Bearer {token('alice', expires_in=-5)}"})
    wrong.append({"Authorization": f"Bearer {token('alice', channel='open:1')}"})
    for headers in wrong:
        assert httpx.post(url, headers=headers).status_code == 401
    assert httpx.get(url, headers=right).status_code == 405


async def test_a_ticket_that_the_application_gives_brings_what_it_says(freshet_clock: ManualClock) -> None:
    live = live_of(freshet_clock)
    caps = [{"channels": ["a"], "allow": ["subscribe"]}]
    ticket = live.ticket("alice", expires_in=60, caps=caps, channels=["mine"])
    async with live.test_client(token=ticket) as client:
        assert (await client.event("subscribe")).channel == "mine"
        await client.subscribe("a")
        with pytest.raises(Refusal):
            await client.subscribe("b")
        assert await code_of(live, token=ticket) == 3500


async def test_without_a_secret_there_are_no_tickets_and_that_is_said() -> None:
    from freshet import ConfigError

    with pytest.raises(ConfigError, match="FRESHET_SECRET"):
        Freshet(environment={}).ticket("alice")


# ---------------------------------------------------------------------------------------------- tokens that others sign


async def test_official_clients_get_in_with_tokens_of_an_issuer_that_changes_its_keys(tmp_path: Path) -> None:
    with issuing(jwk(KEYS["RSA"], "old")) as issuer:
        file = tmp_path / "freshet.toml"
        file.write_text(f'[tokens]\njwks = "{issuer.url}"\naudience = "live"\n[[channels]]\nmatch = "*"\n')
        with serving("--config", str(file)) as server:
            for algorithm in ("RS256", "PS384"):
                async with connected(server, token=signed(algorithm, "old", aud="live")):
                    pass
            assert issuer.fetches == 1
            async with httpx.AsyncClient() as http:
                answer = await http.get(server.http(f"/channels/a?token={signed('RS256', 'old')}"))
            assert answer.status_code == 401
            server.wait_for_log("refused by its `aud`")
            assert "eyJ" not in server.log()


async def test_a_short_secret_is_refused_at_start_and_not_in_dev(caplog: pytest.LogCaptureFixture) -> None:
    from freshet import ConfigError

    with pytest.raises(ConfigError, match="RFC 7518 asks for 32 random bytes") as mistake:
        Freshet(secret="hunter2", environment={})
    assert "hunter2" not in str(mistake.value)
    live = Freshet(secret="hunter2", dev=True, environment={})
    assert await code_of(live, token=live.token("alice")) == "in"


async def test_in_dev_a_client_is_told_which_check_failed() -> None:
    for dev, reason in (
        (True, "invalid token: it is not signed with a key that is known here"),
        (False, "invalid token"),
    ):
        live = Freshet(secret=SECRET, dev=dev, environment={})
        with pytest.raises(Disconnect) as why:
            async with live.test_client(token=issue("x" * 32, "alice")):
                pass
        assert why.value.reason == reason


# ---------------------------------------------------------------------------------- tokens that the application checks


async def test_the_application_checks_tokens_of_its_own_beside_those_that_are_signed() -> None:
    live = live_of()

    @live.on_authenticate(cookie="session")
    def who(token: str) -> Any:
        return {"sub": token.removeprefix("key-"), "channels": ["mine"]} if token.startswith("key-") else None

    @live.rpc("who")
    async def answer(session: Any, data: Any) -> str:
        return str(session.user)

    async with live.lifespan():
        assert await code_of(live, token="key-alice") == "alice"
        assert await code_of(live, token=live.token("bob")) == "bob"
        assert await code_of(live, token="key-carol", headers={"cookie": "session=key-dave"}) == "carol"
        assert await code_of(live, headers={"cookie": "session=key-dave"}) == "dave"
        assert await code_of(live, token="other") == 3500
        assert await code_of(live, headers={"cookie": "session=other"}) == 3500
        assert await code_of(live, headers={"cookie": "sessionid=key-dave"}) == 3500
        assert await code_of(live) == 3500
        assert await code_of(live, token=issue("x" * 32, "mallory")) == 3500  # a signed one is not asked about


async def test_a_client_that_came_by_a_cookie_is_to_reconnect_when_its_time_is_over(freshet_clock: ManualClock) -> None:
    """It cannot refresh, and an official client that is told of an end without a way to refresh would give up."""
    live = live_of(freshet_clock)
    known = {"a": "alice"}

    @live.on_authenticate(cookie="sid", keep=0)
    async def who(token: str) -> Any:
        return {"sub": known[token], "exp": freshet_clock.now + 60} if token in known else None

    async with live.lifespan(), live.test_client(headers={"cookie": "sid=a"}) as client:
        assert client._session is not None
        assert client._session.expires == freshet_clock.now + 60
        freshet_clock.now += 60 + live.config.timing.expiry_grace
        await freshet_clock.advance(60)
        assert (await client.closed()).code == 3005
        await client.connect()
        known.clear()
        await freshet_clock.advance(1)
        with pytest.raises(Disconnect):
            await client.reconnect()


# -------------------------------------------------------------------------------------------------------- what they may

CAPS = [
    {"channels": ["granted:mine", "open:mine"], "allow": ["subscribe", "publish", "history", "presence"]},
    {"channels": ["granted:look"], "allow": ["subscribe"]},
]


async def test_caps_allow_and_refuse_an_official_client(server: Server) -> None:
    caps = token("alice", claims={"caps": CAPS})
    async with connected(server, token=caps) as client, connected(server, "bob") as without:
        async with asyncio.timeout(seconds(10)):
            mine = Listener(client, "granted:mine")
            await mine.subscription.subscribe()
            await soon(mine.subscribed.get())
            await mine.subscription.publish("1")
            assert (await soon(mine.publications.get())).pub.data == "1"
            assert len((await mine.subscription.history(limit=10)).publications) == 1
            assert len((await mine.subscription.presence()).clients) == 1
            for other, channels in ((client, ["granted:other", "open:other"]), (without, ["granted:mine"])):
                for channel in channels:
                    listener = Listener(other, channel)
                    await listener.subscription.subscribe()
                    name, why = await soon(listener.events.get())
                    assert (name, why.code) == ("unsubscribed", 103)


@pytest.mark.parametrize(
    ("method", "channel", "status"),
    [
        ("POST", "granted:mine", 200),
        ("POST", "granted:look", 403),
        ("POST", "granted:other", 403),
        ("GET", "granted:mine", 200),
        ("GET", "granted:look", 200),
        ("GET", "open:other", 403),
    ],
)
def test_caps_allow_and_refuse_a_request_of_a_channels_url(
    server: Server, method: str, channel: str, status: int
) -> None:
    caps = token("alice", claims={"caps": CAPS})
    url = server.http(f"/channels/{channel}?token={caps}")
    assert httpx.request(method, url, content="1" if method == "POST" else None).status_code == status


async def test_caps_allow_and_refuse_a_socketio_client(server: Server) -> None:
    client = socketio.AsyncClient(reconnection=False)
    await client.connect(
        server.http("/"), auth={"token": token("alice", claims={"caps": CAPS})}, transports=["websocket"]
    )
    try:
        answers = {
            channel: await client.call("subscribe", channel, timeout=seconds(5))
            for channel in ("granted:mine", "granted:look", "granted:other", "open:other")
        }
        codes = {channel: (answer.get("error") or {}).get("code") for channel, answer in answers.items()}
        assert codes == {"granted:mine": None, "granted:look": None, "granted:other": 103, "open:other": 103}
        for channel, code in {"granted:mine": None, "granted:look": 103, "open:other": 103}.items():
            answer = await client.call("publish", (channel, 1), timeout=seconds(5))
            assert (answer.get("error") or {}).get("code") == code
    finally:
        await client.disconnect()
