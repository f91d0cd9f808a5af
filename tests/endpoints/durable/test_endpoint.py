"""`/v1/stream/{channel}` beyond what the public suite asks: rights, other dialects in the same channel, and losses."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from httpx_sse import aconnect_sse

from freshet import Freshet, History
from freshet.policy.tokens import issue
from freshet.session.outbox import AT_ONCE
from tests.tools.asgi import knock
from tests.tools.nats import nats
from tests.tools.patience import seconds
from tests.tools.redis import redis
from tests.tools.serving import Server, serving

SECRET = "a secret for tests, thirty-two bytes"
CONFIG = f"""
origins = ["https://page.example"]
[tokens]
secret = "{SECRET}"
anonymous = true
[api]
anonymous = true
[[channels]]
match = "open:*"
history = {{ size = 1000, ttl = 60 }}
publish = "client"
manage = "client"
[[channels]]
match = "plain:*"
history = {{ size = 10, ttl = 60 }}
publish = "client"
[[channels]]
match = "read:*"
history = {{ size = 10, ttl = 60 }}
[[channels]]
match = "token:*"
history = {{ size = 10, ttl = 60 }}
subscribe = "token"
publish = "token"
manage = "token"
[[channels]]
match = "small:*"
history = {{ size = 3, ttl = 60 }}
publish = "client"
manage = "client"
[[channels]]
match = "none:*"
publish = "client"
manage = "client"
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("durable") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
        yield http


@contextmanager
def broker_of(kind: str) -> Iterator[str]:
    """The URL of an engine."""
    if kind == "memory":
        yield "memory://"
    else:
        with redis() if kind == "redis" else nats() as broker:
            yield broker.url


def stream(kind: str = "open") -> str:
    return f"/v1/stream/{kind}:{uuid4().hex}"


async def publish(http: httpx.AsyncClient, url: str, data: object) -> None:
    await http.post("/api/publish", json={"channel": url.removeprefix("/v1/stream/"), "data": data})


# --------------------------------------------------------------------------------------------------------------- rights


async def test_who_may_publish_may_append_and_not_create_close_or_delete(http: httpx.AsyncClient) -> None:
    url = stream("plain")
    assert (await http.put(url, headers=JSON)).status_code == 403
    await publish(http, url, 1)
    assert (await http.post(url, headers=JSON, content="2")).status_code == 204
    assert (await http.post(url, headers={**JSON, "Stream-Closed": "true"}, content="3")).status_code == 403
    assert (await http.post(url, headers={"Stream-Closed": "true"})).status_code == 403
    assert (await http.delete(url)).status_code == 403
    assert (await http.get(url)).json() == [1, 2]


async def test_who_may_only_subscribe_only_reads(http: httpx.AsyncClient) -> None:
    url = stream("read")
    await publish(http, url, 1)
    assert (await http.post(url, headers=JSON, content="2")).status_code == 403
    assert (await http.get(url)).json() == [1]


async def test_a_token_says_what_its_client_may_do_with_a_stream(http: httpx.AsyncClient) -> None:
    url = stream("token")
    channel = url.removeprefix("/v1/stream/")

    def allowed(*deeds: str) -> dict[str, str]:
        token = issue(SECRET, "u", claims={"caps": [{"channels": [channel], "allow": list(deeds)}]})
        return {**JSON, "Authorization": f"Bearer {token}"}

    for deeds in ((), ("subscribe",), ("subscribe", "publish")):
        assert (await http.put(url, headers=allowed(*deeds))).status_code == 403
    assert (await http.put(url, headers=allowed("manage"))).status_code == 201
    assert (await http.post(url, headers=allowed("manage"), content="1")).status_code == 403
    assert (await http.post(url, headers=allowed("publish"), content="1")).status_code == 204
    for live in ("", "&live=long-poll", "&live=sse"):
        assert (await http.get(f"{url}?offset=-1{live}", headers=allowed("publish", "manage"))).status_code == 403
    assert (await http.head(url, headers=allowed("publish"))).status_code == 403
    assert (await http.get(url, headers=allowed("subscribe"))).json() == [1]
    assert (await http.get(url)).status_code == 403


async def test_to_fork_a_stream_is_to_read_it(http: httpx.AsyncClient) -> None:
    url = stream("token")
    channel = url.removeprefix("/v1/stream/")
    token = issue(SECRET, "u", claims={"caps": [{"channels": [channel], "allow": ["manage", "publish"]}]})
    await http.put(url, headers={**JSON, "Authorization": f"Bearer {token}"}, content="1")
    forked = await http.put(stream(), headers={"Stream-Forked-From": url})
    assert forked.status_code == 403


async def test_to_who_may_not_read_a_stream_it_looks_like_any_other(http: httpx.AsyncClient) -> None:
    url = stream("token")
    token = issue(SECRET, "u", claims={"caps": [{"channels": ["*"], "allow": ["manage", "publish"]}]})
    await http.put(url, headers={**JSON, "Authorization": f"Bearer {token}"}, content="1")
    for query in ("offset=-1", "offset=nonsense", "offset=9999999999999999_x&live=sse", "offset=-&live=long-poll"):
        answers = [await http.get(f"{each}?{query}") for each in (url, stream("token"))]
        there, nowhere = [(each.status_code, each.text.partition("' ")[2]) for each in answers]
        assert there == nowhere


async def test_a_stream_of_html_runs_no_scripts_in_a_browser_that_opens_it(http: httpx.AsyncClient) -> None:
    url = stream()
    await http.put(url, headers={"Content-Type": "text/html"}, content="<script>alert(1)</script>")
    for query in ("", "?offset=-1&live=long-poll"):
        headers = (await http.get(url + query)).headers
        assert headers["content-type"] == "text/html"
        assert headers["content-security-policy"].startswith("sandbox;")
        assert headers["x-content-type-options"] == "nosniff"


async def test_the_forks_of_a_stream_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freshet.endpoints.durable.streams.FORKS", 2)
    live = Freshet(dev=True, environment={})
    live.channel("a:*", history=History(size=10, ttl=60), publish="client", manage="client")
    async with live.lifespan():
        assert (await knock(live, "PUT", "/v1/stream/a:source")).status == 201
        fork = {"stream-forked-from": "/v1/stream/a:source"}
        statuses = [(await knock(live, "PUT", f"/v1/stream/a:{name}", fork)).status for name in "1232"]
        assert statuses == [201, 201, 409, 200]


@pytest.mark.parametrize("length", [5, 600])
async def test_with_the_last_fork_of_forks_goes_all_that_was_there_for_it(length: int) -> None:
    live = Freshet(dev=True, environment={})
    live.channel("a:*", history=History(size=10, ttl=60), publish="client", manage="client")
    async with live.lifespan():
        for number in range(length):
            fork = {"stream-forked-from": f"/v1/stream/a:{number - 1}"} if number else {}
            assert (await knock(live, "PUT", f"/v1/stream/a:{number}", {**JSON, **fork})).status == 201
        for number in range(length):
            assert (await knock(live, "DELETE", f"/v1/stream/a:{number}")).status == 204
        for number in range(length):
            assert (await knock(live, "GET", f"/v1/stream/a:{number}")).status == 404


async def test_a_fork_of_a_fork_of_a_fork_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freshet.endpoints.durable.streams.FORKS", 2)
    live = Freshet(dev=True, environment={})
    live.channel("a:*", history=History(size=10, ttl=60), publish="client", manage="client")
    async with live.lifespan():
        assert (await knock(live, "PUT", "/v1/stream/a:0")).status == 201
        forks = [{"stream-forked-from": f"/v1/stream/a:{number}"} for number in range(3)]
        statuses = [(await knock(live, "PUT", f"/v1/stream/a:{at + 1}", fork)).status for at, fork in enumerate(forks)]
        assert statuses == [201, 201, 409]


async def test_what_a_browser_keeps_of_a_stream_is_for_who_asked_alone(http: httpx.AsyncClient) -> None:
    """Also for pages of whatever origin: without `Vary`, one would get what another had been given."""
    url = stream()
    await http.put(url, headers=JSON, content="1")
    for headers in ({}, {"Origin": "https://page.example"}):
        answer = await http.get(url, headers=headers)
        assert answer.headers["cache-control"].startswith("private")
        assert {"Origin", "Authorization", "Cookie"} <= set(answer.headers["vary"].split(", "))


async def test_while_thousands_of_messages_of_one_request_are_written_others_have_their_turns() -> None:
    live = Freshet(dev=True, environment={})
    live.channel("a:*", history=History(size=10, ttl=60), publish="client", manage="client")
    turns, answered = 0, asyncio.Event()

    async def count() -> None:
        nonlocal turns
        while not answered.is_set():
            await asyncio.sleep(0)
            turns += 1

    async with live.lifespan(), asyncio.TaskGroup() as tasks:
        await knock(live, "PUT", "/v1/stream/a:1", JSON)
        tasks.create_task(count())
        body = f"[{','.join('1' * 4000)}]".encode()
        assert (await knock(live, "POST", "/v1/stream/a:1", JSON, body)).status == 204
        answered.set()
    assert turns > 2 * 4000 // AT_ONCE


async def test_a_page_of_another_site_gets_nothing(http: httpx.AsyncClient) -> None:
    evil = {**JSON, "Origin": "https://evil.example"}
    url = stream()
    for method in ("PUT", "POST", "GET", "HEAD", "DELETE", "OPTIONS"):
        assert (await http.request(method, url, headers=evil)).status_code == 403
    page = await http.options(
        url, headers={"Origin": "https://page.example", "Access-Control-Request-Headers": "if-none-match"}
    )
    assert page.status_code == 204
    assert {"PUT", "DELETE"} <= set(page.headers["access-control-allow-methods"].split(", "))
    assert page.headers["access-control-allow-headers"] == "if-none-match"


async def test_a_channel_without_history_is_no_stream(http: httpx.AsyncClient) -> None:
    assert (await http.put(stream("none"), headers=JSON)).status_code == 404
    assert (await http.get("/v1/stream/unknown")).status_code == 404


# ------------------------------------------------------------------------------------------------------------- channels


async def test_a_channel_in_which_others_publish_is_a_stream_of_json(http: httpx.AsyncClient) -> None:
    url = stream()
    assert (await http.get(url)).status_code == 404
    await publish(http, url, {"n": 1})
    channel = url.removeprefix("/v1/stream/")
    await http.post(f"/channels/{channel}", content=b"\xff\x00", headers={"Content-Type": "application/octet-stream"})
    await http.post(f"/channels/{channel}", content="two\nlines", headers={"Content-Type": "text/plain"})
    found = await http.get(url)
    assert found.json() == [{"n": 1}, "/wA=", "two\nlines"]
    assert (await http.put(url, headers=JSON)).status_code == 200
    assert (await http.put(url, headers={"Content-Type": "text/plain"})).status_code == 409


async def test_what_is_appended_reaches_the_subscribers_of_the_channel_each_message_by_itself(
    http: httpx.AsyncClient,
) -> None:
    url = stream()
    await http.put(url, headers=JSON)
    await http.post(url, headers=JSON, content='[{"n":1},[2],3]')
    page = (await http.get(f"/channels/{url.removeprefix('/v1/stream/')}", params={"since": "oldest"})).json()
    assert [each["data"] for each in page["publications"]] == [{"n": 1}, [2], 3]


async def test_what_is_published_behind_the_end_is_no_part_of_the_stream(http: httpx.AsyncClient) -> None:
    url = stream()
    await http.put(url, headers=JSON, content="1")
    end = (await http.post(url, headers={"Stream-Closed": "true"})).headers["stream-next-offset"]
    await publish(http, url, 2)
    found = await http.get(url)
    assert found.json() == [1]
    assert (found.headers["stream-closed"], found.headers["stream-next-offset"]) == ("true", end)


# --------------------------------------------------------------------------------------------------------------- losses


async def test_a_reader_whose_place_is_no_longer_kept_is_told_so(http: httpx.AsyncClient) -> None:
    url = stream("small")
    await http.put(url, headers=JSON)
    appended = [await http.post(url, headers=JSON, content=str(number)) for number in range(6)]
    places = [each.headers["stream-next-offset"] for each in appended]
    for live in ("", "&live=long-poll", "&live=sse"):
        assert (await http.get(f"{url}?offset={places[0]}{live}")).status_code == 410
    assert (await http.get(f"{url}?offset={places[2]}")).json() == [3, 4, 5]
    assert (await http.get(url)).json() == [3, 4, 5]  # from the beginning is from what is kept


async def test_an_offset_of_a_stream_that_was_deleted_is_none_of_the_next(http: httpx.AsyncClient) -> None:
    url = stream()
    old = (await http.put(url, headers=JSON, content="[1,2,3]")).headers["stream-next-offset"]
    await http.delete(url)
    await http.put(url, headers=JSON, content="[4,5,6,7]")
    assert (await http.get(f"{url}?offset={old}")).status_code == 410


async def test_a_fork_that_its_log_would_not_keep_is_refused(http: httpx.AsyncClient) -> None:
    url = stream()
    await http.put(url, headers=JSON, content="[1,2,3,4]")
    assert (await http.put(stream("small"), headers={"Stream-Forked-From": url})).status_code == 413


async def follow(http: httpx.AsyncClient, url: str, until: object, offset: str = "-1") -> list[object]:
    """All messages up to one, as a client gets them that comes back with where it is when an event stream ends."""
    got: list[object] = []
    while True:
        async with aconnect_sse(http, "GET", f"{url}?offset={offset}&live=sse") as source:
            async for event in source.aiter_sse():
                if event.event == "control":
                    offset = event.json()["streamNextOffset"]
                    if got and got[-1] == until:
                        return got
                else:
                    got += event.json()


@pytest.mark.parametrize("broker", ["memory", "redis", "nats"])
async def test_a_reader_of_events_gets_all_of_a_long_stream_and_what_is_appended_meanwhile(
    tmp_path: Path, broker: str
) -> None:
    """More than one page has, and more than is replayed at once: nothing is left out, and nothing comes twice."""
    config, count = tmp_path / "freshet.toml", 2500
    with broker_of(broker) as engine:
        config.write_text(f'engine = "{engine}"\n{CONFIG.replace("1000", "5000")}')
        with serving("--config", str(config)) as server:
            async with httpx.AsyncClient(base_url=server.http(""), timeout=seconds(10)) as http:
                url = stream()
                await http.put(url, headers=JSON)
                for first in range(0, count, 500):
                    await http.post(url, headers=JSON, content=json.dumps(list(range(first, first + 500))))
                reading = asyncio.create_task(follow(http, url, until=count + 99))
                for number in range(count, count + 100):
                    await http.post(url, headers=JSON, content=str(number))
                assert await asyncio.wait_for(reading, seconds(20)) == list(range(count + 100))


async def test_what_comes_while_a_reader_of_events_is_let_in_comes_behind_its_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long the engine takes for what has to be done beside that."""
    live = Freshet(dev=True, environment={})
    live.channel("a:*", history=History(size=1000, ttl=60), publish="client", manage="client")
    engine, number = live._node.engine, 1

    async with live.lifespan():
        await knock(live, "PUT", "/v1/stream/a:1", JSON, b"[0]")
        history = engine.history

        async def slowly(channel: str, *arguments: object, **named: object) -> object:
            nonlocal number
            found = await history(channel, *arguments, **named)  # type: ignore[arg-type]
            if number < 20:
                number += 1
                await live.publish("a:1", number - 1)
                await asyncio.sleep(0)
            return found

        monkeypatch.setattr(engine, "history", slowly)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(live), base_url="http://127.0.0.1") as http:
            page = await http.get("/v1/stream/a:1?offset=-1")
        assert page.json() == list(range(len(page.json())))
        stay, offset, got = asyncio.Event(), "-1", list[int]()
        while len(got) < number or number < 20:
            stay.clear()
            reading = asyncio.create_task(knock(live, "GET", f"/v1/stream/a:1?offset={offset}&live=sse", stay=stay))
            await asyncio.sleep(seconds(0.05))
            stay.set()
            text = (await reading).body.decode()
            got += [each for data in re.findall(r"event: data\ndata:(.*)", text) for each in json.loads(data)]
            offset = re.findall(r'"streamNextOffset":"([^"]*)"', text)[-1]
        assert got == list(range(number))


@pytest.mark.parametrize("said", ['"streamClosed":true', 'event: control\n{"streamNextOffset":"0000000000000009_x"}'])
async def test_what_a_message_says_ends_no_event_stream_and_hides_no_end(http: httpx.AsyncClient, said: str) -> None:
    url, text = stream(), {"Content-Type": "text/plain"}
    await http.put(url, headers=text)
    async with aconnect_sse(http, "GET", f"{url}?offset=-1&live=sse") as source:
        events = source.aiter_sse()
        await anext(events)
        await http.post(url, headers=text, content=said)
        assert (await anext(events)).data == said
        assert "streamClosed" not in (await anext(events)).json()
        await http.post(url, headers={**text, "Stream-Closed": "true"}, content=said)
        rest = [event async for event in events]
    assert rest[0].data == said
    assert rest[-1].json()["streamClosed"] is True


# ------------------------------------------------------------------------------------------------------------ producers


async def test_a_producer_appends_each_of_its_requests_once(http: httpx.AsyncClient) -> None:
    url = stream()
    await http.put(url, headers=JSON)
    for number in range(200):  # more than the record is behind, so that it is written anew meanwhile
        about = {**JSON, "Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(number)}
        assert (await http.post(url, headers=about, content=f"[{number},{number}]")).status_code == 200
        assert (await http.post(url, headers=about, content=f"[{number},{number}]")).status_code == 204
    assert (await http.get(url)).json() == [number for number in range(200) for _ in range(2)]


async def test_an_event_stream_ends_with_its_stream(http: httpx.AsyncClient) -> None:
    url = stream()
    await http.put(url, headers=JSON, content="1")
    async with aconnect_sse(http, "GET", f"{url}?offset=-1&live=sse") as source:
        events = source.aiter_sse()
        assert (await anext(events)).json() == [1]
        assert (await anext(events)).json()["upToDate"] is True
        await http.post(url, headers={**JSON, "Stream-Closed": "true"}, content="2")
        rest = [event async for event in events]
    assert rest[0].json() == [2]
    assert rest[-1].json()["streamClosed"] is True


async def test_an_event_stream_ends_when_its_stream_is_deleted(http: httpx.AsyncClient) -> None:
    url = stream()
    await http.put(url, headers=JSON)
    async with aconnect_sse(http, "GET", f"{url}?offset=-1&live=sse") as source:
        events = source.aiter_sse()
        await anext(events)
        await http.delete(url)
        assert [event async for event in events] == []


@pytest.mark.timeout(60)
def test_the_client_of_npm_writes_reads_and_follows_a_stream_through_a_cut(server: Server, node: Path) -> None:
    url = server.http(stream())
    script = ["node", "durable.mjs", url]
    done = subprocess.run(script, cwd=node, capture_output=True, text=True, timeout=seconds(40), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
