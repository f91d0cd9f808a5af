"""How much one client, user, channel and address may ask for; and what becomes of who asks for more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from freshet import Freshet, History, Position
from freshet.config import Config, Limits, Rates, Rooms
from freshet.errors import Disconnect, Refusal
from freshet.observe.counts import Counts
from freshet.policy.limits import AddressLimits, Waiting, network_of
from freshet.runtime.rates import Rate
from freshet.testing import ManualClock
from tests.tools.asgi import knock
from tests.tools.patience import eventually

ONE = Rate(1, 1)


@asynccontextmanager
async def serving(limits: Limits | None = None, **rates: Rate) -> AsyncIterator[tuple[Freshet, ManualClock]]:
    clock = ManualClock()
    config = Config(limits=limits or Limits(), rates=Rates(**rates), rooms=Rooms(store="memory://"))
    live = Freshet(dev=True, environment={}, config=config, clock=clock)
    live.channel("log:{name}", history=History(size=10, ttl=60), publish="client", read="client", presence=True)
    live.state("state:{name}")
    live.rpc("echo")(lambda session, data: data)
    async with live.lifespan():
        yield live, clock


async def refused(code: int, awaitable: Any) -> str:
    with pytest.raises(Refusal) as why:
        await awaitable
    assert why.value.code == code
    assert why.value.temporary
    return why.value.message


# ------------------------------------------------------------------------------------------------------------ a client


async def test_a_client_that_asks_too_often_is_refused_with_the_time_to_wait() -> None:
    async with serving(Limits(channels_per_client=1), client=Rate(2, 4)) as (live, clock), live.test_client() as client:
        for _ in range(3):  # and the connect
            await client.rpc("echo", 1)
        assert "try again in 0.5 s" in await refused(111, client.rpc("echo", 1))
        await clock.advance(0.6)
        assert await client.rpc("echo", 1) == 1


async def test_a_client_gets_all_that_its_rate_allows_to_the_last_command() -> None:
    async with serving(Limits(channels_per_client=1), client=Rate(1, 1000)) as (live, _), live.test_client() as client:
        for _ in range(999):  # and the connect; more is taken at once than is left in the end
            await client.rpc("echo", 1)
        await refused(111, client.rpc("echo", 1))


async def test_a_client_that_only_subscribes_counts_as_one_that_does_more() -> None:
    async with serving(Limits(channels_per_client=2), client=Rate(2, 6)) as (live, clock), live.test_client() as client:
        for _ in range(2):
            await client.subscribe("log:a")  # and the connect
            await client.unsubscribe("log:a")
        await client.subscribe("log:a")
        assert "try again in 0.5 s" in await refused(111, client.subscribe("log:b"))
        await clock.advance(0.6)
        await client.subscribe("log:b")
        await refused(111, client.rpc("echo", 1))


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
@pytest.mark.parametrize(("channel", "since"), [("log:a", Position("", 0)), ("state:a", None)], ids=["log", "state"])
async def test_who_subscribes_again_and_again_to_be_sent_what_is_kept_gets_that_less_often(
    busy: bool, channel: str, since: Position | None
) -> None:
    async with (
        serving(Limits(channels_per_client=1), client=Rate(20, 41)) as (live, clock),
        live.test_client() as client,
    ):
        if busy:
            await client.rpc("echo", 1)
        for _ in range(3):
            await client.subscribe(channel, since=since)
            await client.unsubscribe(channel)
        await refused(111, client.subscribe(channel, since=since))
        await clock.advance(0.6)
        await client.subscribe(channel, since=since)


async def test_a_user_whose_clients_only_subscribe_has_one_rate_all_the_same() -> None:
    async with (
        serving(user=Rate(2, 3)) as (live, clock),
        live.test_client("u") as one,
        live.test_client("u") as other,
    ):
        await one.subscribe("log:a")
        await other.subscribe("log:a")
        await one.subscribe("log:b")
        assert "try again in 0.5 s" in await refused(111, other.subscribe("log:b"))
        await clock.advance(0.6)
        await other.subscribe("log:b")


async def test_one_client_is_not_refused_for_another() -> None:
    async with (
        serving(Limits(channels_per_client=1), client=Rate(1, 2)) as (live, _),
        live.test_client() as one,
        live.test_client() as other,
    ):
        await one.rpc("echo", 1)
        await refused(111, one.rpc("echo", 1))
        assert await other.rpc("echo", 1) == 1


async def test_a_client_may_come_back_to_all_its_channels_at_once_whatever_the_rate() -> None:
    async with serving(client=Rate(1, 1)) as (live, _), live.test_client() as client:
        for number in range(Limits().channels_per_client):
            await client.subscribe(f"log:{number}")


async def test_bytes_count_too() -> None:
    async with serving(client_bytes=Rate(100, 1000)) as (live, clock), live.test_client() as client:
        await client.publish("log:a", "x" * 998)
        await refused(111, client.publish("log:a", "x" * 98))
        await client.presence("log:a")  # what is not sent costs nothing
        await clock.advance(1)
        await client.publish("log:a", "x" * 98)


@pytest.mark.parametrize("read", ["history", "presence"])
async def test_costly_reads_have_a_rate_of_their_own(read: str) -> None:
    async with serving(**{read: ONE}) as (live, clock), live.test_client() as client:
        await getattr(client, read)("log:a")
        await refused(111, getattr(client, read)("log:a"))
        await client.rpc("echo", 1)
        await clock.advance(1)
        await getattr(client, read)("log:a")


async def test_a_client_that_goes_on_and_on_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(history=ONE, refusals=Rate(1, 5)) as (live, _), live.test_client() as client:
        await client.history("log:a")
        for _ in range(5):
            await refused(111, client.history("log:a"))
        with pytest.raises(Disconnect) as why:
            await client.history("log:a")
        assert (why.value.code, why.value.reconnect) == (3509, False)
    assert caplog.text.count("see the option rates.history") == 1


# -------------------------------------------------------------------------------------------------- a user, a channel


async def test_all_clients_of_a_user_have_one_rate() -> None:
    async with (
        serving(user=Rate(1, 2)) as (live, _),
        live.test_client("u") as one,
        live.test_client("u") as two,
        live.test_client("v") as other,
    ):
        await one.rpc("echo", 1)
        await two.rpc("echo", 1)
        await refused(111, one.rpc("echo", 1))
        assert await other.rpc("echo", 1) == 1


async def test_all_that_clients_publish_in_a_channel_has_one_rate_and_the_server_none() -> None:
    async with serving(channel=Rate(1, 2)) as (live, clock), live.test_client("u") as one, live.test_client("v") as two:
        await one.publish("log:a", 1)
        await two.publish("log:a", 2)
        await refused(111, one.publish("log:a", 3))
        await one.publish("log:b", 1)
        for _ in range(10):
            await live.publish("log:a", 0)
        await clock.advance(1)
        await one.publish("log:a", 3)


async def test_a_post_to_a_channel_that_exceeds_its_rate_is_answered_429() -> None:
    async with (
        serving(channel=ONE) as (live, _),
        httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http,
    ):
        assert (await http.post("/channels/log:a", content=b"1")).status_code == 200
        answer = await http.post("/channels/log:a", content=b"1")
        assert (answer.status_code, answer.json()["code"]) == (429, 4111)
        assert int(answer.headers["retry-after"]) >= 1


async def test_no_rate_means_no_limit() -> None:
    none = dict.fromkeys(("client", "client_bytes", "user", "channel", "history", "presence"), Rate(0, 0))
    async with serving(Limits(channels_per_client=1), **none) as (live, _), live.test_client("u") as client:
        for _ in range(3000):
            await client.rpc("echo", 1)


# ----------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("203.0.113.7:1234", "203.0.113.7"),
        ("[2001:db9:1:2:3:4:5:6]:1234", "2001:0db9:0001:0002"),
        ("2001:db9:1:2::9:1234", "2001:0db9:0001:0002"),
        ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ("127.0.0.1:5", ""),
        ("10.1.2.3:5", ""),
        ("192.168.1.2:5", ""),
        ("[::1]:5", ""),
        ("[fd00::1]:5", ""),
        ("[fe80::1]:5", ""),
        ("", ""),
        ("testclient:50000", ""),
        ("unix", ""),
    ],
)
def test_an_address_stands_for_a_household_and_those_of_proxies_for_nobody(client: str, network: str) -> None:
    # 203.0.113.0/24 is for documentation, which the library counts as private: any public address does.
    client, network = (text.replace("203.0.113.7", "8.8.8.8") for text in (client, network))
    client = client.replace("2001:db9", "2600:db9")
    network = network.replace("2001:0db9", "2600:0db9")
    assert network_of(client) == network


def test_new_clients_of_an_address_come_in_at_a_rate() -> None:
    limits = AddressLimits(Rate(1, 2), lambda: 100.0)
    assert [limits.wait("8.8.8.8:1"), limits.wait("8.8.8.8:2")] == [0, 0]
    assert limits.wait("8.8.8.8:3") == pytest.approx(1)
    assert limits.wait("8.8.4.4:3") == 0
    assert [limits.wait("127.0.0.1:1") for _ in range(5)] == [0] * 5


@pytest.mark.parametrize(
    ("method", "url"),
    [("WEBSOCKET", "/channels/log:a"), ("GET", "/channels/log:a"), ("GET", "/socket.io/?EIO=4&transport=polling")],
)
async def test_an_address_that_exceeds_its_rate_is_answered_429(method: str, url: str) -> None:
    async with serving(address=ONE) as (live, _):

        async def from_afar(scope: Any, receive: Any, send: Any) -> None:
            await live({**scope, "client": ("8.8.8.8", 1234)}, receive, send)

        assert (await knock(from_afar, method, url)).status in (101, 200)
        answer = await knock(from_afar, method, url)
        assert (answer.status, int(answer.headers["retry-after"])) == (429, 1)
        assert (await knock(live, method, url)).status in (101, 200)  # others come in


# ------------------------------------------------------------------------------------ how many are there, how many wait


def from_afar(live: Freshet, host: str = "8.8.8.8") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await live({**scope, "client": (host, 1234)}, receive, send)

    return app


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("WEBSOCKET", "/channels/log:a"),
        ("WEBSOCKET", "/connection/websocket"),
        ("GET", "/channels/log:a?since=oldest&wait=1"),
        ("GET", "/socket.io/?EIO=4&transport=polling"),
        ("POST", "/connection/http_stream"),
    ],
)
async def test_one_address_has_so_many_clients_at_a_time(
    method: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Limits(sessions_per_address=3)) as (live, _):
        stay = asyncio.Event()
        staying = [
            asyncio.create_task(knock(from_afar(live), "WEBSOCKET", "/channels/log:a", stay=stay)) for _ in range(3)
        ]
        await eventually(lambda: live.statistics().clients == 3)
        answer = await knock(from_afar(live), method, url, body=b'{"id":1,"connect":{}}')
        assert (answer.status, "retry-after" in answer.headers) == (429, True)
        assert "limits.sessions_per_address" in caplog.text
        other = await knock(from_afar(live, "8.8.4.4"), method, url, body=b'{"id":1,"connect":{}}')
        assert other.status in (101, 200)
        stay.set()
        await asyncio.gather(*staying)
        await eventually(lambda: live._node.registry.of_address("8.8.8.8") == 0)
        answer = await knock(from_afar(live), method, url, body=b'{"id":1,"connect":{}}')
        assert answer.status in (101, 200)


POSTS = [
    ("POST", "/channels/log:a"),
    ("POST", "/emulation"),
    ("POST", "/socket.io/?EIO=4&transport=polling&sid=made-up"),
    ("GET", "/socket.io/?EIO=4&transport=polling&sid=made-up"),
    ("GET", "/channels/log:a?since=oldest"),
    ("POST", "/connection/http_stream"),
    ("GET", "/connection/sse?cf_connect=%7B%7D"),
    ("POST", "/connection/ticket"),
]


@pytest.mark.parametrize(("method", "url"), POSTS)
async def test_requests_of_one_address_that_come_too_fast_are_refused_before_they_are_read(
    method: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(requests=Rate(1, 10)) as (live, clock):
        for _ in range(10):
            assert (await knock(from_afar(live), method, url, body=b"{")).status != 429
        answer = await knock(from_afar(live), method, url, body=b"{")
        assert (answer.status, int(answer.headers["retry-after"])) == (429, 1)
        assert "rates.requests" in caplog.text
        assert (await knock(from_afar(live, "8.8.4.4"), method, url, body=b"{")).status != 429
        assert (await knock(live, method, url, body=b"{")).status != 429  # who it is for is not known
        await clock.advance(1.1)
        assert (await knock(from_afar(live), method, url, body=b"{")).status != 429


@pytest.mark.parametrize("headers", [{"Content-Length": "40000"}, {"Transfer-Encoding": "chunked"}])
async def test_a_request_with_a_large_body_counts_as_several(headers: dict[str, str]) -> None:
    async with serving(requests=Rate(1, 20)) as (live, _):
        statuses = [(await knock(from_afar(live), "POST", "/channels/log:a", headers, b"1")).status for _ in range(3)]
        assert statuses[0] == 200
        assert statuses[2] == 429


async def test_one_user_has_so_many_clients_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Limits(sessions_per_user=2)) as (live, _), live.test_client("mallory"):
        async with live.test_client("mallory"):
            with pytest.raises(Disconnect) as why:
                async with live.test_client("mallory"):
                    pass
            assert (why.value.code, why.value.reconnect) == (3504, False)
            assert "limits.sessions_per_user" in caplog.text
            async with live.test_client("alice"):
                pass
        async with live.test_client("mallory"):
            pass


async def test_one_user_who_polls_cannot_hold_all_requests_that_may_wait() -> None:
    async with (
        serving(Limits(sessions_per_user=2)) as (live, _),
        httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://test") as http,
    ):
        headers = {"Authorization": f"Bearer {live.token('mallory')}"}
        polls = [asyncio.create_task(http.get("/channels/log:a?wait=60", headers=headers)) for _ in range(2)]
        await eventually(lambda: live.statistics().clients == 2)
        answer = await http.get("/channels/log:a?wait=60", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (429, 3504)
        await live.publish("log:a", 1)
        assert [(await poll).status_code for poll in polls] == [200, 200]


async def test_one_address_that_polls_cannot_hold_all_requests_that_may_wait() -> None:
    async with serving(Limits(waiting_per_address=2)) as (live, _):
        url = "/channels/log:a?wait=60"
        polls = [asyncio.create_task(knock(from_afar(live), "GET", url)) for _ in range(2)]
        await eventually(lambda: live.statistics().clients == 2)
        assert (await knock(from_afar(live), "GET", url)).status == 429
        other = asyncio.create_task(knock(from_afar(live, "8.8.4.4"), "GET", url))
        await eventually(lambda: live.statistics().clients == 3)
        await live.publish("log:a", 1)
        assert [(await poll).status for poll in (*polls, other)] == [200] * 3


def test_requests_that_wait_have_a_limit_for_each_address_and_in_all() -> None:
    counts = Counts()
    waiting = Waiting(3, 2, counts)
    with waiting.one("8.8.8.8:1"), waiting.one("8.8.8.8:2"):
        assert (waiting.refusal("8.8.8.8:3"), waiting.refusal("8.8.4.4:1"), waiting.refusal("127.0.0.1:1")) == (
            429,
            0,
            0,
        )
        with waiting.one("127.0.0.1:1"):
            assert waiting.refusal("127.0.0.1:2") == 503
        assert (len(waiting), waiting.refusal("127.0.0.1:2")) == (2, 0)
    assert (len(waiting), waiting.refusal("8.8.8.8:3")) == (0, 0)
    assert counts.refused == {"waiting": 2}
