"""`/v1/stream/{channel}` beyond what the public suite asks: rights, other dialects in the same channel, and losses."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from httpx_sse import aconnect_sse

from freshet import Freshet, History
from freshet.policy.tokens import issue
from tests.tools.asgi import knock
from tests.tools.patience import seconds
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
