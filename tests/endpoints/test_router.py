"""Which URL speaks which dialect, wherever the application is mounted."""

import json
from collections.abc import AsyncIterator, Coroutine
from urllib.parse import quote

import pytest
from centrifuge.protocol.client_pb2 import Command
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from freshet import Freshet
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.transports.stream import STREAM, AcceptedStream, Incoming
from tests.dialects.centrifuge import official
from tests.tools.event_streams import events_of
from tests.tools.patience import eventually
from tests.transports.calls import Application, Call, Message, called, request, websocket

PROTOBUF = "centrifuge-protobuf"
BINARY = "application/octet-stream"
JSON_CONNECT = '{"id":1,"connect":{}}'
CONNECT = official.framed(Command(id=1, connect={}))


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        yield live


async def accepted(call: Call) -> str | None:
    """The subprotocol with which a WebSocket was accepted."""
    call.say(type="websocket.connect")
    message = await call.next()
    assert message["type"] == "websocket.accept", message
    subprotocol: str | None = message["subprotocol"]
    return subprotocol


def labels(live: Freshet) -> list[str]:
    return [session.dialect.label for session in live._node.registry]


@pytest.mark.parametrize(
    ("scope", "subprotocol"),
    [
        (websocket("/connection/websocket", PROTOBUF), PROTOBUF),
        (websocket("/connection/websocket", "another", PROTOBUF), PROTOBUF),
        (websocket("/connection/websocket?format=protobuf"), None),
        (websocket("/connection/websocket?a=b&format=protobuf", "another"), None),
    ],
    ids=["subprotocol", "one of two", "query", "query and another"],
)
async def test_who_asks_for_protobuf_speaks_it(live: Freshet, scope: Message, subprotocol: str | None) -> None:
    async with called(live, scope) as call:
        assert await accepted(call) == subprotocol
        call.say(type="websocket.receive", bytes=CONNECT)
        (reply,) = official.messages(Frame((await call.next())["bytes"], binary=True))
        assert (reply.id, reply.HasField("connect")) == (1, True)


@pytest.mark.parametrize("target", ["/connection/websocket", "/connection/websocket?format=json"])
@pytest.mark.parametrize("offered", [[], ["centrifuge-json"]])
async def test_who_does_not_speaks_json_without_a_subprotocol(live: Freshet, target: str, offered: list[str]) -> None:
    async with called(live, websocket(target, *offered)) as call:
        assert await accepted(call) is None
        call.say(type="websocket.receive", text=JSON_CONNECT)
        assert "connect" in json.loads((await call.next())["text"])


@pytest.mark.parametrize(
    ("content_type", "binary"),
    [(BINARY, True), ("application/json", False), ("", False), ("text/plain", False)],
)
async def test_the_type_of_its_body_says_what_a_stream_speaks(live: Freshet, content_type: str, binary: bool) -> None:
    async with called(live, request("POST", "/connection/http_stream", content_type=content_type)) as call:
        call.body(CONNECT if binary else JSON_CONNECT.encode())
        _, headers = await call.head()
        assert headers["content-type"] == (BINARY if binary else "application/json")
        body = await call.chunk()
        assert (official.messages(Frame(body, binary=True))[0].id if binary else json.loads(body)["id"]) == 1


async def test_server_sent_events_speak_json(live: Freshet) -> None:
    async with called(live, request("GET", f"/connection/sse?cf_connect={JSON_CONNECT}", content_type=BINARY)) as call:
        assert (await call.head())[1]["content-type"] == "text/event-stream"
        assert b'data: {"id":1' in await call.chunk()


@pytest.mark.parametrize("name", ["news", "a/b/c", "lot%3A1", "%C3%A9"])
async def test_a_channels_name_is_the_rest_of_its_url(live: Freshet, name: str) -> None:
    async with called(live, websocket(f"/channels/{name}")) as call:
        assert await accepted(call) is None
        (session,) = live._node.registry
        await eventually(lambda: session.subscriptions)
        assert session.dialect.label == "channel_url"
        assert list(session.subscriptions) == [{"lot%3A1": "lot:1", "%C3%A9": "é"}.get(name, name)]
        async with called(live, request("POST", f"/channels/{name}")) as posting:
            posting.body(b'"hello"')
            assert (await posting.response())[0] == 200
        assert await call.next() == {"type": "websocket.send", "text": '"hello"'}


@pytest.mark.parametrize("name", ["a", "a" * 255])
async def test_a_url_that_was_asked_for_before_has_an_answer_of_its_own_to_each_method(
    live: Freshet, name: str
) -> None:
    async def reply(method: str, url: str) -> tuple[int, bytes]:
        answer = live._direct.reply(request(method, url), Incoming(b"1"))
        assert answer is not None
        answer = answer if isinstance(answer, Response) else await answer
        assert answer is not None
        return answer.status_code, bytes(answer.body)

    async def streams(url: str) -> bool:
        streams: list[AcceptedStream] = []
        scope = request("GET", url, accept="text/event-stream")
        scope["extensions"] = {STREAM: streams.append}
        answer = live._direct.reply(scope, Incoming(b""))
        assert isinstance(answer, Coroutine)
        assert await answer is None
        for each in streams:
            each.session.end(Disconnect.normal())
        return len(streams) == 1

    path = f"/channels/{name}"
    for offset in (1, 2):
        assert await streams(path)
        assert json.loads((await reply("POST", path))[1])["offset"] == offset
        assert json.loads((await reply("GET", path))[1])["offset"] == offset
        assert (await reply("GET", "/socket.io/?EIO=4&transport=polling"))[1][:1] == b"0"
        assert (await reply("PUT", path))[0] == 405
        async with called(live, websocket(path)) as call:
            assert await accepted(call) is None
        assert live._direct.reply(request("GET", "/health/live"), Incoming(b"")) is None


async def test_where_it_is_mounted_is_part_of_what_a_url_leads_to(live: Freshet) -> None:
    for root in ("", "/live", ""):
        scope = {**request("GET", f"{root}/channels/a"), "root_path": root}
        reply = live._direct.reply(scope, Incoming(b""))
        assert isinstance(reply, Coroutine)
        assert (await reply).status_code == 200  # type: ignore[union-attr]
        assert scope["path_params"] == {"channel": "a"}


NAMES = [
    "a\n",
    "\n",
    "a\r\n\r\nb",
    "a/b",
    "/a",
    "a//b/",
    ".",
    "..",
    "a/../b",
    "%2F",
    "a%0Ab",
    "?a=1",
    "#a",
    "a b+c",
    "é\u2028日\U0001f600",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["/channels/{}", "/channels?channel={}"])
async def test_every_name_of_a_channel_has_a_url_for_every_method(live: Freshet, name: str, form: str) -> None:
    url = form.format(quote(name, safe=""))
    async with (
        called(live, websocket(url)) as socket,
        called(live, request("GET", url, accept="text/event-stream")) as stream,
    ):
        assert await accepted(socket) is None
        await stream.chunk()
        await eventually(lambda: [list(each.subscriptions) for each in live._node.registry] == [[name], [name]])
        async with called(live, request("POST", url)) as call:
            call.body(b'"hello"')
            assert (await call.response())[0] == 200
        assert await socket.next() == {"type": "websocket.send", "text": '"hello"'}
        assert events_of(await stream.chunk())[0].data == '"hello"'
        async with called(live, request("GET", url)) as call:
            assert json.loads((await call.response())[2])["publications"][0]["data"] == "hello"


async def test_a_name_with_a_line_end_reaches_a_freshet_behind_a_mount(live: Freshet) -> None:
    """Which by its path it does not: Starlette's own routes end at a line end."""
    mounted = Starlette(routes=[Mount("/live", live)])
    async with called(mounted, request("POST", "/live/channels?channel=a%0Ab")) as call:
        call.body(b'"hello"')
        assert (await call.response())[0] == 200
    async with called(live, request("GET", "/channels/a%0Ab")) as call:
        assert json.loads((await call.response())[2])["publications"][0]["data"] == "hello"


async def test_a_channel_without_a_name_is_none(live: Freshet) -> None:
    for method, target in (("POST", "/channels"), ("POST", "/channels/"), ("GET", "/channels"), ("GET", "/channels/")):
        async with called(live, request(method, target)) as call:
            call.body(b"1")
            assert (await call.response())[0] == 400


@pytest.mark.parametrize(("accept", "label"), [("text/event-stream", "channel_events"), ("*/*", "channel_page")])
async def test_a_channel_is_an_event_stream_or_a_page_as_the_client_accepts(
    live: Freshet, accept: str, label: str
) -> None:
    async with called(live, request("GET", "/channels/news?wait=20", accept=accept)) as call:
        if label == "channel_events":
            await call.chunk()
        else:
            await eventually(lambda: labels(live))
        assert labels(live) == [label]


async def test_several_channels_are_one_stream_below_a_url_of_their_own(live: Freshet) -> None:
    scope = request("GET", "/channels?channel=a&channel=b", accept="text/event-stream")
    async with called(live, scope) as call:
        assert (await call.head())[0] == 200
        await call.chunk()
        (session,) = live._node.registry
        assert getattr(session.dialect, "channels", ()) == ("a", "b")


async def test_engine_io_opens_by_a_poll_and_by_a_websocket(live: Freshet) -> None:
    async with called(live, request("GET", "/socket.io/?EIO=4&transport=polling")) as call:
        status, _, body = await call.response()
        assert (status, body[:1], "sid" in json.loads(body[1:])) == (200, b"0", True)
    async with called(live, websocket("/socket.io/?EIO=4&transport=websocket")) as call:
        await accepted(call)
        opening = (await call.next())["text"]
        assert (opening[:1], json.loads(opening[1:])["upgrades"]) == ("0", [])


@pytest.mark.parametrize(("method", "target"), [("GET", "/connection"), ("POST", "/emulations")])
async def test_any_other_url_is_not_found(live: Freshet, method: str, target: str) -> None:
    async with called(live, request(method, target)) as call:
        assert (await call.response())[0] == 404
    assert labels(live) == []


async def test_below_a_prefix_all_is_as_without(live: Freshet) -> None:
    mounted: Application = Starlette(routes=[Mount("/live", live)])
    async with called(mounted, websocket("/live/connection/websocket", PROTOBUF)) as call:
        assert await accepted(call) == PROTOBUF
    async with called(mounted, websocket("/live/channels/a/b")) as call:
        await accepted(call)
        await eventually(lambda: any("a/b" in session.subscriptions for session in live._node.registry))
    async with called(mounted, request("GET", "/live/socket.io/?EIO=4&transport=polling")) as call:
        assert (await call.response())[0] == 200
