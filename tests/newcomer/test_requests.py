"""What a newcomer asks by `curl` or in an address bar, and has to be told: what is wrong, and the way out."""

import httpx
import pytest
from fastapi import FastAPI

from freshet import Freshet, History, Room
from freshet.errors import ConfigError
from tests.newcomer.mistakes import SECRET


def application() -> FastAPI:
    live = Freshet(secret=SECRET, api_key="key", environment={})
    live.channel("news")
    live.channel("chat:{room}", publish="subscriber")
    api = FastAPI(lifespan=live.lifespan)
    api.mount("/live", live)
    api.state.token = live.token("alice")
    return api


REQUESTS = {
    "a path that is not there": (
        "GET",
        "/live/conection/websocket",
        404,
        ("connection/websocket", "channels/{channel}"),
    ),
    "a WebSocket in the address bar": ("GET", "/live/connection/websocket", 426, ("ws://", "Upgrade")),
    "the admin page without a key": ("GET", "/live/admin/", 404, ("no admin page", "FRESHET_ADMIN_KEY")),
    "the root": ("GET", "/live/", 404, ("This is Freshet", "channels/{channel}", "once it has a key")),
    "metrics without a key": ("GET", "/live/metrics", 401, ("FRESHET_METRICS_KEY",)),
    "no token": ("POST", "/live/channels/news", 401, ("a token is required",)),
    "no leave to publish": ("POST", "/live/channels/news?token=TOKEN", 403, ('publish = "nobody" in its rule',)),
    "a subscriber's leave": ("POST", "/live/channels/chat:1?token=TOKEN", 403, ('publish = "subscriber" in its rule',)),
    "no rule": ("POST", "/live/channels/other?token=TOKEN", 404, ("no rule for channel 'other'",)),
    "no key": ("POST", "/live/api/publish", 401, ("X-API-Key",)),
}


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_request_is_answered_with_what_is_wrong_and_the_way_out(request_: str) -> None:
    api = application()
    method, path, status, says = REQUESTS[request_]
    transport = httpx.ASGITransport(app=api)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        answer = await http.request(method, path.replace("TOKEN", api.state.token))
    body = answer.text.replace('\\"', '"')
    assert ([text for text in says if text not in body], answer.status_code) == ([], status), body


@pytest.mark.parametrize("decorator", ["rpc", "api_rpc", "run", "room"])
def test_a_decorator_without_its_name_says_how_it_is_written(decorator: str) -> None:
    with pytest.raises(TypeError, match=rf'@live\.{decorator} wants a name: @live\.{decorator}\("\.\.\."\)'):
        getattr(Freshet(dev=True), decorator)(lambda session, data: None)


def test_a_function_is_no_room() -> None:
    with pytest.raises(TypeError, match=f"must be a class that derives from freshet.{Room.__name__}"):
        Freshet(dev=True).room("game:{id}")(lambda session, data: None)  # type: ignore[arg-type, return-value]


def test_a_token_says_what_is_no_name_and_no_time() -> None:
    live = Freshet(secret=SECRET)
    with pytest.raises(TypeError, match="expected '7'"):
        live.token(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected seconds"):
        live.token("alice", expires_in="1h")  # type: ignore[arg-type]


def test_a_history_of_texts_is_named_with_what_is_expected() -> None:
    with pytest.raises(ConfigError, match=r"history\.size: Expected an integer, got text"):
        Freshet(dev=True).channel("a", history=History(size="100", ttl=60))  # type: ignore[arg-type]
