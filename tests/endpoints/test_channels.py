"""A channel's URL over HTTP, with clients that everybody has: httpx, httpx-sse, curl, EventSource in Node."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from freshet import Freshet, Session
from freshet.policy.tokens import issue
from tests.tools.clients import soon
from tests.tools.need import require
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

SECRET = "a secret for tests, thirty-two bytes"
CONFIG = f"""
origins = ["https://page.example"]
[tokens]
secret = "{SECRET}"
anonymous = true
[api]
anonymous = true
[limits]
waiting_requests = 3
[[channels]]
match = "small:*"
history = {{ size = 2, ttl = 60 }}
publish = "client"
[[channels]]
match = "closed:*"
subscribe = "nobody"
[[channels]]
match = "quiet:*"
publish = "client"
[[channels]]
match = "seen:*"
history = {{ size = 10, ttl = 60 }}
presence = true
subscribe = "client"
[[channels]]
match = "log:*"
history = {{ size = 1000, ttl = 60 }}
publish = "client"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("channels") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        yield http


@pytest.fixture
def url() -> str:
    return f"/channels/log:{uuid4().hex}"


class Reader:
    """An event stream that is read in the background."""

    def __init__(self, http: httpx.AsyncClient, url: str, **options: Any) -> None:
        self.events: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(http, url, options))
        self.open = asyncio.Event()

    async def _read(self, http: httpx.AsyncClient, url: str, options: dict[str, Any]) -> None:
        async with aconnect_sse(http, "GET", url, timeout=None, **options) as source:
            assert source.response.headers["x-accel-buffering"] == "no"
            assert "no-cache" in source.response.headers["cache-control"]
            self.open.set()
            async for event in source.aiter_sse():
                self.events.put_nowait(event)

    async def next(self) -> ServerSentEvent:
        """The next, but for the one that says where the stream begins."""
        event: ServerSentEvent = await soon(self.events.get())
        return event if event.event != "subscribed" else await self.next()

    async def __aenter__(self) -> Self:
        await soon(self.open.wait())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


async def test_an_event_stream_goes_on_where_it_stopped(http: httpx.AsyncClient, url: str) -> None:
    async with Reader(http, url) as reader:
        began = await soon(reader.events.get())
        assert (began.event, began.retry, began.id) == ("subscribed", 2000, f"{began.json()['epoch']}:0")
        await http.post(url, json={"n": 1})
        first = await reader.next()
        assert (first.event, first.json()) == ("message", {"n": 1})
    await http.post(url, json={"n": 2})
    await http.post(url, content="two\nlines", headers={"Content-Type": "text/plain"})
    for place in (
        {"headers": {"Last-Event-ID": first.id}},
        {"params": {"lastEventId": first.id}},
        {"params": {"since": first.id}},
    ):
        async with Reader(http, url, **place) as reader:
            assert (await reader.next()).json() == {"n": 2}
            assert (await reader.next()).data == "two\nlines"


async def test_an_event_has_the_name_of_its_tag(http: httpx.AsyncClient, url: str) -> None:
    async with Reader(http, url) as reader:
        channel = url.removeprefix("/channels/")
        await http.post("/api/publish", json={"channel": channel, "data": 12, "tags": {"event": "price"}})
        await http.post("/api/publish", json={"channel": channel, "b64data": "AP8="})
        await http.post("/api/publish", json={"channel": channel, "data": 1, "tags": {"event": "a\ndata: forged"}})
        event = await reader.next()
        assert (event.event, event.data) == ("price", "12")
        assert (await reader.next()).data == "AP8="
        forged = await reader.next()
        assert (forged.event, forged.data) == ("message", "1")


async def test_a_loss_is_an_event_of_its_own(http: httpx.AsyncClient) -> None:
    url = f"/channels/small:{uuid4().hex}"
    start = (await http.post(url, json=0)).json()
    for n in range(5):
        await http.post(url, json=n)
    async with Reader(http, url, params={"since": f"{start['epoch']}:{start['offset']}"}) as reader:
        lost = await reader.next()
        assert (lost.event, lost.json()["offset"]) == ("unrecoverable", 6)
        await http.post(url, json="live")
        live = await reader.next()
        assert (live.json(), live.id) == ("live", f"{start['epoch']}:7")


async def test_one_stream_brings_several_channels_and_goes_on_in_each(http: httpx.AsyncClient) -> None:
    one, two = f"log:{uuid4().hex}", f"log:{uuid4().hex}"
    async with Reader(http, "/channels", params={"channel": [one, two]}) as reader:
        await http.post(f"/channels/{one}", json=1)
        await http.post(f"/channels/{two}", json=2)
        events = [await reader.next(), await reader.next()]
        assert {(event.json()["channel"], event.json()["data"]) for event in events} == {(one, 1), (two, 2)}
        assert [place.rpartition(":")[2] for place in events[-1].id.split(",")] == ["1", "1"]
    for channel in (one, two, one):
        await http.post(f"/channels/{channel}", json="missed")
    async with Reader(
        http, f"/channels/{one}", params={"channel": two}, headers={"Last-Event-ID": events[-1].id}
    ) as reader:
        missed = [(await reader.next()).json()["channel"] for _ in range(3)]
        assert sorted(missed) == sorted([one, two, one])


async def test_a_stream_of_several_that_is_cut_at_its_first_event_goes_on_in_each(http: httpx.AsyncClient) -> None:
    """The id of an event has the places of channels, too, of which nothing was said yet."""
    one, two = f"log:{uuid4().hex}", f"log:{uuid4().hex}"
    start = {name: (await http.post(f"/channels/{name}", json="before")).json() for name in (one, two)}
    for name in (one, two):
        await http.post(f"/channels/{name}", json="missed")
    since = ",".join(f"{place['epoch']}:{place['offset']}" for place in start.values())
    async with Reader(http, "/channels", params={"channel": [one, two], "since": since}) as reader:
        first = await soon(reader.events.get())
        assert first.id == since
    async with Reader(http, "/channels", params={"channel": [one, two]}, headers={"Last-Event-ID": first.id}) as reader:
        missed = [(await reader.next()).json() for _ in range(2)]
        assert sorted(missed, key=lambda it: it["channel"] != one) == [
            {"channel": one, "data": "missed"},
            {"channel": two, "data": "missed"},
        ]


async def test_of_several_channels_one_that_is_refused_is_named_and_the_others_go_on(http: httpx.AsyncClient) -> None:
    logged = f"log:{uuid4().hex}"
    async with Reader(http, "/channels", params={"channel": ["closed:a", logged, "none"]}) as reader:
        refused = await reader.next()
        assert (refused.event, refused.json()["channel"], refused.json()["code"]) == ("refused", "closed:a", 103)
        assert (await reader.next()).json()["channel"] == "none"
        await http.post(f"/channels/{logged}", json=1)
        assert (await reader.next()).json() == {"channel": logged, "data": 1}
    answer = await http.get("/channels?channel=none&channel=closed:a", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 403


async def test_who_missed_more_than_may_wait_gets_all_of_it(http: httpx.AsyncClient, url: str) -> None:
    text = "x" * 60_000
    for _ in range(40):
        await http.post(url, json=text)
    async with Reader(http, url, params={"since": "oldest"}) as reader:
        assert [len((await reader.next()).json()) for _ in range(40)] == [60_000] * 40
    since, publications = "oldest", []
    while (page := (await http.get(url, params={"since": since})).json())["publications"]:
        assert len(page["publications"]) <= 9  # half a megabyte
        publications += page["publications"]
        since = f"{page['epoch']}:{page['offset']}"
    assert [each["offset"] for each in publications] == list(range(1, 41))


async def test_a_stream_ends_when_the_server_ends_the_subscription(http: httpx.AsyncClient, url: str) -> None:
    alice = {"Authorization": f"Bearer {issue(SECRET, 'alice', expires_in=60)}"}
    channel, other = url.removeprefix("/channels/"), f"log:{uuid4().hex}"
    async with (
        Reader(http, url, headers=alice) as alone,
        Reader(http, "/channels", params={"channel": [channel, other]}, headers=alice) as both,
    ):
        assert [(await soon(reader.events.get())).event for reader in (alone, both, both)] == ["subscribed"] * 3
        await http.post("/api/unsubscribe", json={"user": "alice", "channel": channel})
        ended = await alone.next()
        assert (ended.event, ended.json()["code"]) == ("disconnected", 3503)
        left = await both.next()
        assert (left.event, left.json()["channel"]) == ("unsubscribed", channel)
        await http.post(f"/channels/{other}", json=1)
        assert (await both.next()).json() == {"channel": other, "data": 1}


async def test_a_reader_of_pages_is_not_seen_to_come_and_go(http: httpx.AsyncClient) -> None:
    channel = f"seen:{uuid4().hex}"

    async def present() -> int:
        answer = await http.post("/api/presence_stats", json={"channel": channel})
        return int(answer.json()["result"]["num_clients"])

    polling = asyncio.create_task(http.get(f"/channels/{channel}", params={"wait": 20}))
    async with Reader(http, f"/channels/{channel}") as reader:
        assert (await soon(reader.events.get())).event == "subscribed"
        await eventually(lambda: listening(http, channel, 2), 5, "both to listen")
        assert await present() == 1
        await http.post("/api/publish", json={"channel": channel, "data": 1})
        assert len((await soon(polling)).json()["publications"]) == 1
        assert await present() == 1


async def listening(http: httpx.AsyncClient, channel: str, count: int) -> bool:
    answer = await http.post("/api/channels", json={"pattern": channel})
    return bool(answer.json()["result"]["channels"].get(channel, {}).get("num_clients") == count)


async def test_requests_that_wait_are_limited(http: httpx.AsyncClient, url: str) -> None:
    waiting = [asyncio.create_task(http.get(url, params={"wait": 20})) for _ in range(3)]
    await eventually(lambda: listening(http, url.removeprefix("/channels/"), 3), 5, "three to wait")
    refused = await http.get(url, params={"wait": 20})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (await http.get(url)).status_code == 200
    await http.post(url, json=1)
    assert [len(answer.json()["publications"]) for answer in await soon(asyncio.gather(*waiting))] == [1, 1, 1]
    assert (await http.get(url, params={"wait": 0.01})).status_code == 200


async def test_a_page_tells_where_its_reader_stands(http: httpx.AsyncClient, url: str) -> None:
    places = [(await http.post(url, json=n)).json() for n in range(5)]
    page = (await http.get(url, params={"limit": 2})).json()
    assert [(each["offset"], each["data"]) for each in page["publications"]] == [(4, 3), (5, 4)]
    assert (await http.get(url, params={"limit": 0})).json() == {**places[4], "recovered": True, "publications": []}
    since = f"{places[0]['epoch']}:{places[0]['offset']}"
    page = (await http.get(url, params={"since": since, "limit": 3})).json()
    assert [each["data"] for each in page["publications"]] == [1, 2, 3]
    page = (await http.get(url, params={"since": f"{page['epoch']}:{page['offset']}"})).json()
    assert ([each["data"] for each in page["publications"]], page["recovered"]) == ([4], True)
    assert (await http.get(url, params={"since": "other:1", "wait": 5})).json()["recovered"] is False


async def test_a_page_waits_for_the_next_publication(http: httpx.AsyncClient, url: str) -> None:
    place = (await http.post(url, json="before")).json()
    since = f"{place['epoch']}:{place['offset']}"
    waiting = asyncio.create_task(http.get(url, params={"since": since, "wait": 20}))
    empty = (await http.get(url, params={"since": since, "wait": 0.05})).json()
    assert (empty["offset"], empty["publications"]) == (place["offset"], [])
    assert not waiting.done()
    await http.post(url, json="after")
    page = (await soon(waiting)).json()
    assert [each["data"] for each in page["publications"]] == ["after"]
    assert page["offset"] == place["offset"] + 1


async def test_who_waits_for_less_time_than_a_hook_takes_gets_its_page_all_the_same() -> None:
    live = Freshet(dev=True)

    @live.channel("slow").on_subscribe
    async def decide(session: Session) -> None:
        await asyncio.sleep(0.2)

    async with (
        live.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://localhost") as http,
    ):
        answer = await http.get("/channels/slow", params={"wait": 0.01})
        assert (answer.status_code, answer.json()["publications"]) == (200, [])


@pytest.mark.parametrize(
    ("request_line", "options", "status", "message"),
    [
        ("GET /channels/none", {}, 404, "no rule"),
        ("GET /channels/closed:a", {}, 403, "only the server"),
        ("GET /channels/log:a?since=x", {}, 400, "epoch:offset"),
        ("GET /channels/log:a?wait=soon", {}, 400, "wait: expected a number"),
        ("GET /channels/log:a?limit=-1", {}, 400, "limit: expected a number"),
        ("GET /channels/log:a?token=wrong", {}, 401, "token"),
        ("GET /channels/none", {"headers": {"Accept": "text/event-stream"}}, 404, "no rule"),
        ("GET /channels", {"headers": {"Accept": "text/event-stream"}}, 400, "channel: expected"),
        ("GET /channels/log:a?since=x", {"headers": {"Accept": "text/event-stream"}}, 400, "epoch:offset"),
        (
            "GET /channels?channel=a&channel=b&since=e:1",
            {"headers": {"Accept": "text/event-stream"}},
            400,
            "for each channel",
        ),
        ("GET /channels?channel=a&channel=b&since=c%3De:1", {"headers": {"Accept": "text/event-stream"}}, 400, "since"),
        ("GET /channels?channel=a&channel=b&since=b%3De", {"headers": {"Accept": "text/event-stream"}}, 400, "since"),
        ("POST /channels/none", {"json": 1}, 404, "no rule"),
        ("POST /channels/closed:a", {"json": 1}, 403, "may not publish"),
        ("POST /channels/log:a", {"content": "{", "headers": {"Content-Type": "application/json"}}, 400, "not JSON"),
        ("POST /channels/log:a", {"content": b"x" * 70_000}, 413, "65536"),
        ("POST /channels/log:a?token=wrong", {"json": 1}, 401, "token"),
        ("PUT /channels/log:a", {"json": 1}, 405, "GET or POST"),
        ("GET /channels/log:a", {"headers": {"Origin": "https://evil.example"}}, 403, "origin"),
    ],
)
async def test_a_bad_request_hears_what_was_wrong(
    http: httpx.AsyncClient, request_line: str, options: dict[str, Any], status: int, message: str
) -> None:
    method, path = request_line.split()
    answer = await http.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert message in answer.text


async def test_a_token_says_who_publishes(http: httpx.AsyncClient, url: str) -> None:
    token = issue(SECRET, "alice", expires_in=60)
    await http.post(url, json=1, headers={"Authorization": f"Bearer {token}"})
    page = (await http.get(url)).json()
    assert page["publications"][0]["info"]["user"] == "alice"


async def test_pages_of_allowed_origins_may_read(http: httpx.AsyncClient, url: str) -> None:
    answer = await http.get(url, headers={"Origin": "https://page.example"})
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert "Origin" in answer.headers["vary"]


def test_curl_publishes_and_reads(server: Server, url: str) -> None:
    def curl(*arguments: str) -> Any:
        done = subprocess.run(
            [require("curl"), "-sS", "--max-time", "5", *arguments], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    assert curl(server.http(url), "-d", "hello")["offset"] == 1
    assert curl(server.http(url), "--json", '{"a":1}')["offset"] == 2
    assert [each["data"] for each in curl(server.http(url))["publications"]] == ["hello", {"a": 1}]


def test_an_event_source_comes_back_by_itself(server: Server, node: Path, url: str) -> None:
    command = [require("node"), "eventsource.mjs", server.http(url)]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr


def test_line_ends_in_json_do_not_cut_an_event_for_an_event_source(server: Server, node: Path, url: str) -> None:
    command = [require("node"), "lineends.mjs", server.http(url)]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr


async def test_line_ends_in_json_do_not_cut_an_event_for_httpx(server: Server, url: str) -> None:
    texts = ['["a",\r1]', '["a",\r\n\r\n2]', '{"b":\n\n3}', '"\u2028\u2029\x85"']
    async with (
        httpx.AsyncClient(base_url=server.http(""), timeout=seconds(5)) as http,
        aconnect_sse(http, "GET", url) as source,
    ):
        events = source.aiter_sse()
        assert (await soon(anext(events))).event == "subscribed"
        for text in texts:
            await http.post(url, content=text)
            assert json.loads((await soon(anext(events))).data) == json.loads(text)
