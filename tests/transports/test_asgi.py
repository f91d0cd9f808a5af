"""The ASGI shell, called as a server calls it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from freshet import Freshet
from freshet.config import parse
from freshet.dialects.base import HEARTBEAT, Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.channel_url import ChannelUrl
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.session.outbox import ADMITTED, LITTLE, PIECE
from freshet.session.session import Session
from freshet.transports import asgi
from tests.tools.patience import eventually, seconds
from tests.transports.calls import Call, Message, calling


async def test_a_goodbye_of_our_own_leaves_no_cancellation_behind() -> None:
    """What is around the call, a timeout or a task group, would take it for its own."""
    live = Freshet(secret="a secret for tests, thirty-two bytes")
    sent: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    asked: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    asked.put_nowait({"type": "websocket.connect"})
    scope = {"type": "websocket", "path": "/channels/news", "query_string": b"", "headers": [], "subprotocols": []}
    async with live.lifespan(), asyncio.timeout(seconds(5)):
        await live(scope, asked.get, sent.put)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    assert sent.get_nowait()["type"] == "websocket.accept"
    assert sent.get_nowait() == {"type": "websocket.close", "code": 3500, "reason": "a token is required"}


def over_asgi(session: Session, subprotocol: str | None = None) -> AbstractAsyncContextManager[Call]:
    return calling(lambda call: asgi.converse(session, subprotocol, call.receive, call.send))


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(config=parse({"limits": {"backlog": 2}}), dev=True, environment={})
    async with live.lifespan():
        yield live


def opened(live: Freshet, dialect: Dialect | None = None) -> Session:
    return live._dispatcher.open(dialect or Centrifuge(), Handshake("/"))


async def accepted(call: Call) -> Message:
    call.say(type="websocket.connect")
    return await call.next()


async def test_a_writer_whose_client_does_not_read_ends_with_the_tasks_of_the_node(live: Freshet) -> None:
    session, tasks = opened(live), live._node.tasks
    async with over_asgi(session) as call:
        await accepted(call)
        call.room.clear()
        session.outbox.push(Frame(b"one"))
        await eventually(lambda: len(tasks) == 1, 5, "the writer")
        await tasks.stop()
        assert len(tasks) == 0
        assert not [task for task in asyncio.all_tasks() if "_Shell._write" in repr(task.get_coro())]


async def test_what_a_client_does_not_read_waits_in_the_outbox_but_for_a_piece(live: Freshet) -> None:
    session = opened(live, ChannelUrl("a"))
    frames = [Frame(b"%d " % number + bytes(10_000)) for number in range(20)]
    async with over_asgi(session) as call:
        await accepted(call)
        call.room.clear()
        for frame in frames:
            session.outbox.push(frame)
        for _ in range(5):
            await asyncio.sleep(0)
        assert session.outbox.waiting >= sum(frame.size for frame in frames) - PIECE
        call.room.set()
        assert [(await call.next())["text"] for _ in frames] == [frame.data.decode() for frame in frames]


async def test_texts_and_bytes_go_both_ways(live: Freshet) -> None:
    session = opened(live, ChannelUrl("a"))
    async with over_asgi(session, "own.v1") as call:
        assert await accepted(call) == {"type": "websocket.accept", "subprotocol": "own.v1"}
        call.say(type="websocket.receive", text="é")
        call.say(type="websocket.receive", bytes=b"\xff\x00")
        call.say(type="websocket.receive", bytes=b"last", text=None)
        assert await call.next() == {"type": "websocket.send", "text": "é"}
        assert await call.next() == {"type": "websocket.send", "bytes": b"\xff\x00"}
        assert await call.next() == {"type": "websocket.send", "bytes": b"last"}


async def test_a_frame_comes_before_its_tail_and_a_heartbeat_is_the_servers_business(live: Freshet) -> None:
    session = opened(live)
    async with over_asgi(session) as call:
        await accepted(call)
        session.outbox.push(HEARTBEAT)
        session.outbox.push(Frame(b"head", tail=Frame(b"tail", binary=True)))
        assert await call.next() == {"type": "websocket.send", "text": "head"}
        assert await call.next() == {"type": "websocket.send", "bytes": b"tail"}


async def test_a_client_that_only_listens_stays_where_nobody_shows_its_pongs(live: Freshet) -> None:
    session = opened(live, ChannelUrl("a"))
    async with over_asgi(session) as call:
        await accepted(call)
        await eventually(lambda: session.connected)
        wheel = live._node.wheel
        for number in range(1, 4):
            now = wheel.clock.monotonic() + number * live.config.timing.ping_interval * 1.1
            session.visit(now)  # a heartbeat
            await eventually(lambda: not live._node.turn.scheduled and not live._node.tasks, 5, "it to be written")
            session.visit(now + live.config.timing.pong_timeout + 0.1)
            assert session.outbox.closed is None


async def test_a_client_that_takes_nothing_does_not_stay_by_heartbeats(live: Freshet) -> None:
    session = opened(live, ChannelUrl("a"))
    async with over_asgi(session) as call:
        await accepted(call)
        await eventually(lambda: session.connected)
        call.room.clear()
        session.outbox.push(Frame(b"not taken"))
        await eventually(lambda: len(live._node.tasks) == 1, 5, "the writer to wait")
        now = live._node.wheel.clock.monotonic() + live.config.timing.ping_interval * 2
        session.visit(now)
        await eventually(lambda: not live._node.turn.scheduled)
        session.visit(now + live.config.timing.pong_timeout + 0.1)
        assert session.outbox.closed is not None
        assert session.outbox.closed.code == 3012


async def test_a_message_that_is_too_large_closes_with_1009(live: Freshet) -> None:
    session = opened(live)
    async with over_asgi(session) as call:
        await accepted(call)
        size, option = live.config.limits.frame
        call.say(type="websocket.receive", text="x" * (size + 1))
        reason = f"message too big: at most {size} bytes, see {option}"
        assert await call.next() == {"type": "websocket.close", "code": 1009, "reason": reason}
        await call.result()


async def test_what_waits_is_sent_before_the_close(live: Freshet) -> None:
    session = opened(live)
    async with over_asgi(session) as call:
        await accepted(call)
        session.outbox.push(Frame(b"one"))
        session.outbox.push(Frame(b"two"))
        session.close(Disconnect(4501, "enough"))
        assert [(await call.next()).get("text") for _ in range(2)] == ["one", "two"]
        assert await call.next() == {"type": "websocket.close", "code": 4501, "reason": "enough"}
        await call.result()


async def test_no_more_is_received_while_the_backlog_is_full(live: Freshet) -> None:
    gate = asyncio.Event()

    @live.rpc("wait")
    async def wait(session: Session, data: int) -> int:
        await gate.wait()
        return data

    session = opened(live)
    async with over_asgi(session) as call:
        await accepted(call)
        call.say(type="websocket.receive", text='{"id": 1, "connect": {}}')
        await call.next()
        for number in range(2, 22):
            call.say(
                type="websocket.receive", text=f'{{"id": {number}, "rpc": {{"method": "wait", "data": {number}}}}}'
            )
        await eventually(lambda: call.asked.qsize() == 17 and session.busy)
        await asyncio.sleep(0)
        assert call.asked.qsize() == 17  # one runs, and two wait, which is what may
        gate.set()
        replies = [json.loads((await call.next())["text"]) for _ in range(20)]
        assert [reply["rpc"]["data"] for reply in replies] == list(range(2, 22))


@pytest.mark.parametrize("how", ["says so", "cannot be sent to"])
async def test_a_client_that_is_gone_ends_the_session(live: Freshet, how: str) -> None:
    session = opened(live)
    async with over_asgi(session) as call:
        await accepted(call)
        if how == "says so":
            call.say(type="websocket.disconnect", code=1001)
        else:
            call.broken = True
            session.outbox.push(Frame(b"one"))
            await eventually(lambda: session.outbox.closed)
            call.say(type="websocket.disconnect", code=1006)  # which every server says then
        await call.result()
        assert session.ended is not None
        assert session.ended.code == 3000
    await eventually(lambda: not live._node.registry and not live._node.tasks)


async def test_a_call_that_the_server_cancels_is_cancelled(live: Freshet) -> None:
    session = opened(live)
    async with over_asgi(session) as call:
        await accepted(call)
        assert call.task is not None
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.result()
        assert session.ended is not None


async def test_much_of_a_client_waits_until_it_is_admitted(live: Freshet) -> None:
    session = opened(live)
    turn = session.outbox.turn
    async with over_asgi(session) as call:
        await accepted(call)
        assert turn.admits(ADMITTED + 1)  # another's, in this turn
        call.say(type="websocket.receive", text='{"id":1,"connect":{}}' + " " * LITTLE)
        assert live._node.counts.received == 0
        await eventually(lambda: session.connected)
        turn.busy = True
        received = live._node.counts.received
        call.say(type="websocket.receive", text='{"id":2,"rpc":{}}')
        await eventually(lambda: live._node.counts.received == received + 1)
