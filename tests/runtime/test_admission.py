"""New clients are let in at a pace; those who come too early are told when to come again, and do."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from freshet.runtime.admission import LONGEST_WAIT, Admission
from freshet.testing import ManualClock
from tests.promises.javascript import APP, CENTRIFUGE, SOCKETIO, listening
from tests.tools.pages import serving_files
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.serving import Server, serving


async def test_the_burst_comes_in_at_once_and_then_the_rate_decides() -> None:
    clock = ManualClock()
    admission = Admission(10, 5, clock)
    assert [admission.wait() == 0 for _ in range(7)] == [True] * 5 + [False] * 2
    await clock.advance(0.15)
    assert [admission.wait() == 0 for _ in range(2)] == [True, False]
    await clock.advance(3600)
    assert sum(admission.wait() == 0 for _ in range(100)) == 5
    assert admission.refused == 2 + 1 + 95


async def test_those_who_are_refused_are_spread_over_the_time_that_it_takes_to_let_them_in() -> None:
    admission = Admission(100, 100, ManualClock())
    waits = [wait for _ in range(1100) if (wait := admission.wait())]
    assert len(waits) == 1000
    assert set(waits[:99]) == {1}
    assert max(waits) in (9, 10, 11)
    waits = [admission.wait() for _ in range(100_000)]
    assert max(waits) == LONGEST_WAIT


async def test_a_rate_of_zero_lets_all_in() -> None:
    admission = Admission(0, 1, ManualClock())
    assert not any(admission.wait() for _ in range(1000))


def limited(rate: float, burst: int = 1, **options: str) -> dict[str, str]:
    return {"TEST_CONNECTS": str(rate), "TEST_BURST": str(burst), **options}


@pytest.mark.parametrize(
    "path",
    [
        "/connection/websocket",
        "/channels/quiet:a",
        "/socket.io/?EIO=4&transport=websocket",
    ],
)
async def test_a_websocket_that_comes_too_early_is_refused_with_when_to_come_again(path: str) -> None:
    with serving(APP, env=limited(0.01)) as server:
        async with connect(server.ws(path)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.ws(path))
    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 1


def test_requests_that_open_something_are_refused_and_others_are_not() -> None:
    with serving(APP, env=limited(0.01)) as server, httpx.Client(timeout=seconds(5)) as http:
        opening = http.get(server.http("/socket.io/?EIO=4&transport=polling"))
        assert opening.status_code == 200
        sid = json.loads(opening.text[1:])["sid"]
        for refused in (
            http.get(server.http("/socket.io/?EIO=4&transport=polling")),
            http.post(server.http("/connection/http_stream"), content=b'{"id":1,"connect":{}}'),
            http.get(server.http("/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D")),
            http.get(server.http("/channels/log:a")),
            http.get(server.http("/channels/log:a?wait=1")),
            http.post(server.http("/channels/log:a"), content="1"),
        ):
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
        events = http.get(server.http("/channels/quiet:a"), headers={"Accept": "text/event-stream"})
        assert events.status_code == 200
        assert events.text.startswith("retry: ")
        assert http.post(server.http(f"/socket.io/?EIO=4&transport=polling&sid={sid}"), content="40").text == "ok"
        assert http.get(server.http("/channels/log:a?since=oldest")).status_code == 200  # it goes on
        assert http.get(server.http("/health/ready")).status_code == 200


async def test_the_official_javascript_clients_come_back_by_themselves(node: Path) -> None:
    kinds = [*CENTRIFUGE, *SOCKETIO]
    with serving(APP, env=limited(4)) as server:
        clients = [(*kind, server.http("").rstrip("/"), "log:a") for kind in kinds]
        async with listening(node, clients) as got:
            async with httpx.AsyncClient(timeout=seconds(5)) as http:
                await http.post(
                    server.http("/api/publish"),
                    json={"channel": "log:a", "data": "here", "tags": {"event": "entry"}},
                )
            await eventually(lambda: all(given == ["here"] for given in got), 5, "the publication at all")


def test_an_eventsource_of_a_browser_comes_back_too(browser: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<!doctype html><title>page</title><link rel="icon" href="data:,">')
    with serving_files(tmp_path) as page, serving(APP, env=limited(1)) as server:
        assert httpx.get(server.http("/socket.io/?EIO=4&transport=polling")).status_code == 200
        browser.get(page)
        browser.execute_script(
            "window.got = []; window.source = new EventSource(arguments[0]);"
            "source.onmessage = ({ data }) => got.push(JSON.parse(data));",
            server.http("/channels/log:a"),
        )
        wait_until(lambda: subscribers(server) == 1, 10, "the EventSource to come again")
        httpx.post(server.http("/api/publish"), json={"channel": "log:a", "data": 1})
        wait_until(lambda: browser.execute_script("return got") == [1], 5, "the publication")


def subscribers(server: Server) -> int:
    answer = httpx.post(server.http("/api/channels"), json={}, timeout=seconds(5)).json()
    return int(answer["result"]["channels"].get("log:a", {}).get("num_clients", 0))


async def test_a_storm_is_let_in_bit_by_bit_and_those_who_stayed_miss_nothing() -> None:
    """A hundred and fifty at once, at 40 a second; who stayed gets each publication before the next one is made."""
    with serving(APP, env=limited(40, 10, TEST_PING="60")) as server:  # this process is busy
        async with connect(server.ws("/channels/log:a")) as stayed:
            refused = 0

            async def come() -> None:
                nonlocal refused
                while True:
                    try:
                        async with connect(server.ws("/channels/quiet:a"), open_timeout=seconds(20)):
                            return
                    except InvalidStatus as no:
                        refused += 1
                        await asyncio.sleep(float(no.response.headers["Retry-After"]))  # only a 503 has it

            storm = asyncio.gather(*(come() for _ in range(150)))
            received: list[int] = []
            async with httpx.AsyncClient(timeout=seconds(10)) as http:
                while not storm.done():
                    await http.post(server.http("/api/publish"), json={"channel": "log:a", "data": len(received)})
                    received.append(json.loads(await asyncio.wait_for(stayed.recv(), seconds(5))))
                    await asyncio.sleep(0.05)
            await storm
    assert refused > 40
    assert received == list(range(len(received)))
    assert len(received) > 3
