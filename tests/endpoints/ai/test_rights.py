"""The doors for AI clients, as a stranger, another user, and who sends nonsense find them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from freshet import Freshet, Run
from freshet.config import Config, Limits, Rates, Tokens
from freshet.config.limits import RATES
from freshet.config.shapes import Rate
from freshet.errors import Disconnect
from freshet.testing import ManualClock
from freshet.websocket.handshake import client_request
from tests.tools.asgi import Answered, knock
from tests.tools.patience import eventually, seconds
from tests.transports.test_entrance import Served

SECRET = "a secret for tests, thirty-two bytes"
MESSAGE = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
ASKED = {"id": "1", "messages": [MESSAGE]}
OPENAI = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
COMPLETIONS, RESPONSES = "/openai/ai/v1/chat/completions", "/openai/ai/v1/responses"
DOORS = {
    "/ai/ai": ASKED,
    "/ag-ui/ai": {"threadId": "1", "runId": "r", "messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: OPENAI,
    RESPONSES: {"model": "m", "input": "hello"},
}
ODD: list[Any] = [None, 0, -1.5, True, "", "a", [], {}, [None], [[]], ["a"], [0], {"a": {}}, [{}], [{"parts": ["a"]}]]
ODD += [[{"role": "user", "parts": [{"type": "text", "text": 1}]}], [{"role": "assistant", "parts": [{"approval": 1}]}]]
ODD += [[{"content": [1, {"text": None}]}], [{"interruptId": "a", "payload": 1}]]


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    rates = Rates(**{name: Rate(0, 1) for name in RATES})
    config = Config(limits=Limits(connects_per_second=0), rates=rates)
    live = Freshet(secret=SECRET, environment={}, config=config)
    live.channel("private:{user}:*", subscribe="token", publish="token")

    @live.run("ai:{chat}")
    async def answer(run: Run, message: Any, chat: str) -> None:
        await run.write(f"{run.user} was here")

    @live.run("mine:{user}:{chat}", subscribe="token")
    async def wait(run: Run, message: Any, user: str, chat: str) -> None:
        await run.write("the secret of the owner")
        await asyncio.Event().wait()

    async with live.lifespan():
        yield live
    assert list(live._node.registry) == []


def bearer(live: Freshet, user: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {live.token(user)}", **headers}


async def post(live: Freshet, path: str, body: Any, headers: dict[str, str] | None = None) -> Answered:
    return await knock(live, "POST", path, headers or {}, json.dumps(body).encode())


# ------------------------------------------------------------------------------------------------------------- nonsense


@pytest.mark.parametrize("path", DOORS)
async def test_a_body_of_any_shape_is_answered_and_no_error_of_ours(
    live: Freshet, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    usual = DOORS[path]
    fields = {*usual, "message", "body", "resume", "stream_options", "previous_response_id", "trigger", "messageId"}
    for field in sorted(fields):
        for odd in ODD:
            answer = await post(live, path, {**usual, field: odd}, bearer(live, "alice"))
            assert answer.status < 500, (field, odd, answer)
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("path", DOORS)
async def test_a_stranger_is_refused_before_anything_is_kept_of_what_he_says(
    live: Freshet, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live._node.engine, "publish", None)  # an error, if it is called
    for headers in ({}, {"idempotency-key": "k"}, {"x-stainless-retry-count": "1"}):
        answer = await post(live, path, DOORS[path], headers)
        assert answer.status == 401


# ---------------------------------------------------------------------------------------------------------- other users


@pytest.mark.parametrize("path", [COMPLETIONS, RESPONSES])
@pytest.mark.parametrize("sign", ["idempotency-key", "x-stainless-retry-count"])
async def test_what_another_user_repeats_is_not_answered_with_the_first_ones_run(
    live: Freshet, path: str, sign: str
) -> None:
    texts = []
    for user in ("alice", "mallory", "alice"):
        answer = await post(live, path, DOORS[path], bearer(live, user, **{sign: "1"}))
        assert answer.status == 200
        texts.append(answer.body)
    first, others, again = (json.loads(each)["id"] for each in texts)
    assert b"alice was here" in texts[0]
    assert b"mallory was here" in texts[1]
    assert first == again != others


async def test_who_may_not_be_in_a_chat_neither_reads_nor_stops_nor_answers_nor_asks_there(live: Freshet) -> None:
    channel = "mine:alice:1"
    run = await live.start(channel, "hello", user="alice")
    chat, mallory = channel.partition(":")[2], bearer(live, "mallory")
    asked = {**ASKED, "id": chat}
    answers = [
        await knock(live, "GET", f"/ai/mine/{chat}/stream", mallory),
        await knock(live, "GET", f"/ai/mine/{chat}/messages", mallory),
        await post(live, f"/ai/mine/{chat}/stop", {}, mallory),
        await post(live, "/ai/mine", asked, mallory),
        await post(live, "/ag-ui/mine", {"threadId": chat, "messages": []}, mallory),
        await knock(live, "GET", f"/ag-ui/mine/{chat}/runs/{run.run}/events", mallory),
        await post(live, f"/ag-ui/mine/{chat}/stop", {}, mallory),
        await post(live, "/openai/mine/v1/chat/completions", OPENAI, {**mallory, "x-chat-id": chat}),
        await post(live, "/openai/mine/v1/responses", {"input": "", "previous_response_id": f"resp_{chat}.a"}, mallory),
        await knock(live, "GET", f"/openai/mine/v1/responses/resp_{chat}.{run.run}", mallory),
        await post(live, f"/openai/mine/v1/responses/resp_{chat}.{run.run}/cancel", {}, mallory),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)
    assert not any(b"secret" in answer.body for answer in answers)
    assert len(await live.messages(channel)) == 2
    await live.stop(channel)


# ------------------------------------------------------------------------------------------------------------- sockets


class Socket:
    """A client of a chat's WebSocket, in this process. reads: whether it takes what is sent."""

    def __init__(self, live: Freshet, query: str = "") -> None:
        self.live, self.query = live, query
        self.coming = asyncio.Queue[dict[str, Any]]()
        self.got: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.coming.put_nowait({"type": "websocket.connect"})

    def say(self, **frame: Any) -> None:
        self.coming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.got.append(message)

    async def __aenter__(self) -> Self:
        scope = {"type": "websocket", "path": "/ai/ai/socket", "headers": [], "query_string": self.query.encode()}
        scope |= {"client": ("127.0.0.1", 1), "subprotocols": [], "root_path": "", "extensions": {}}
        self.task = asyncio.create_task(self.live(scope, self.coming.get, self.send))  # type: ignore[arg-type]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.reads.set()
        self.coming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(self.task, seconds(5))

    @property
    def code(self) -> int:
        return next((each["code"] for each in self.got if each["type"] == "websocket.close"), 0)


async def test_a_socket_of_a_stranger_is_closed_though_it_asks_for_nothing(live: Freshet) -> None:
    async with Socket(live) as socket:
        await eventually(lambda: socket.code == 3500)
    assert list(live._node.registry) == []


async def test_a_socket_that_asks_for_too_much_is_told_so() -> None:
    live = Freshet(secret=SECRET, environment={}, config=Config(rates=Rates(user=Rate(1, 2))))
    async with live.lifespan(), Socket(live, f"token={live.token('alice')}") as socket:
        for _ in range(10):
            socket.say(type="resume", requestId="1")  # of nothing, which costs its user a command
        await eventually(lambda: socket.code == 4111)


async def test_a_socket_goes_with_its_user_whatever_runs_on_it(live: Freshet) -> None:
    async with Socket(live, f"token={live.token('alice')}") as socket:
        socket.say(type="send", requestId="1", **ASKED)
        await eventually(lambda: any('"end"' in each.get("text", "") for each in socket.got))
        await live.disconnect("alice")
        await eventually(lambda: socket.code == Disconnect.force_no_reconnect().code)


async def test_a_socket_whose_client_is_gone_without_a_word_is_closed() -> None:
    clock = ManualClock()
    live = Freshet(config=Config(tokens=Tokens(anonymous=True)), environment={}, clock=clock)
    async with live.lifespan(), Served(live).come() as peer:
        await peer.write(client_request("localhost", "/ai/ai/socket")[0])
        await eventually(lambda: [each.connected for each in live._node.registry] == [True])
        (session,) = live._node.registry
        await clock.advance(60)
        assert session.closing is not None
        assert session.closing.code == Disconnect.no_pong().code


async def test_no_more_is_read_of_a_client_that_does_not_read_what_it_is_answered(live: Freshet) -> None:
    async with Socket(live, f"token={live.token('alice')}") as socket:
        await eventually(lambda: any(each["type"] == "websocket.accept" for each in socket.got))
        socket.reads.clear()
        most = live._node.config.limits.outbox
        count = 2 * most // 10_000 + live._node.config.limits.backlog
        for _ in range(count):  # each is refused, with its own words
            socket.say(type="send", requestId="x" * 10_000)
        (session,) = live._node.registry
        await eventually(lambda: session.backlog_full)
        assert session.outbox.waiting <= most
        assert not socket.coming.empty()
        socket.reads.set()
        await eventually(lambda: sum("x" * 10_000 in each.get("text", "") for each in socket.got) == count)
