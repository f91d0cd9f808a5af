"""An `EventSource` gives up for good at any error of HTTP: who is refused for the moment gets the end of a stream."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from freshet import EngineUnavailable, Freshet, Refusal, Session
from freshet.config import Config, Rates
from freshet.runtime.rates import Rate
from tests.tools.asgi import knock
from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server

EVENTS = {"host": "127.0.0.1", "Accept": "text/event-stream"}
URLS = ["/channels/log:a", "/channels?channel=log:a&channel=log:b"]


async def comes_again(live: Freshet, url: str) -> bytes:
    """What it is told; it is to come again."""
    answer = await knock(live, "GET", url, EVENTS)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.startswith(b"retry: ")
    return answer.body


@pytest.mark.parametrize("url", URLS)
async def test_an_engine_that_is_away_keeps_no_event_source_away(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Freshet(dev=True, environment={})

    async def away(*given: object) -> None:
        raise EngineUnavailable("gone")

    async with live.lifespan():
        monkeypatch.setattr(live._node.engine, "subscribe", away)
        told = await comes_again(live, url)
        assert b'event: disconnected\ndata: {"code":4100,' in told


@pytest.mark.parametrize("url", URLS)
async def test_what_the_application_refuses_for_now_it_may_take_later_and_what_it_refuses_is_refused(url: str) -> None:
    live, temporary = Freshet(dev=True, environment={}), True

    @live.channel("log:{name}").on_subscribe
    async def may_subscribe(session: Session) -> None:
        raise Refusal(1001, "not now", temporary=temporary)

    async with live.lifespan():
        assert b'"reason":"not now"' in await comes_again(live, url)
        temporary = False
        assert (await knock(live, "GET", url, EVENTS)).status == 403


@pytest.mark.parametrize("url", URLS)
async def test_one_that_asks_too_often_is_asked_to_wait(url: str) -> None:
    live = Freshet(dev=True, environment={}, config=Config(rates=Rates(requests=Rate(1, 1))))

    async def from_afar(scope: Scope, receive: Receive, send: Send) -> None:  # this machine's own are not limited
        await live({**scope, "client": ("8.8.8.8", 1)}, receive, send)

    async with live.lifespan():
        answers = [await knock(from_afar, "GET", url, EVENTS) for _ in range(3)]
    last = answers[-1]
    assert last.headers["content-type"].startswith("text/event-stream")
    assert (last.status, last.body) == (200, b"retry: %d\n" % (1000 * int(last.headers["retry-after"])))


APP = """
from freshet import Freshet, Refusal, Session

live, left = Freshet(dev=True), [2]

@live.channel("log:{name}").on_subscribe
async def may_subscribe(session: Session) -> None:
    if left[0]:
        left[0] -= 1
        raise Refusal.internal("not now")
"""


def test_the_official_client_gets_in_at_last(serve: Callable[..., Server], node: Path, tmp_path: Path) -> None:
    (tmp_path / "not_now.py").write_text(APP)
    server = serve("not_now:live", cwd=tmp_path)
    command = [require("node"), "comesback.mjs", server.http("/channels/log:a")]
    done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=seconds(20), check=False)
    assert done.returncode == 0, done.stderr
