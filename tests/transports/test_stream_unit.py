"""Sessions over a response, called as a server calls them: how frames are laid into it, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from freshet import Freshet
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.dialects.channel_url import ChannelEvents
from freshet.endpoints.streams import ENVELOPED
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.session.outbox import Turn
from freshet.session.session import Session
from freshet.testing import ManualClock
from freshet.transports import stream
from freshet.transports.stream import EVENTS, LINES, MESSAGES, Bodies, CutShort, Form, client_gone, collect
from tests.tools.patience import eventually, seconds
from tests.transports.calls import Call, calling


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        yield live


def opened(live: Freshet, dialect: Dialect | None = None) -> Session:
    return live._dispatcher.open(dialect or Centrifuge(), Handshake("/"))


def conversing(session: Session, form: Form = LINES, headers: Any = ()) -> AbstractAsyncContextManager[Call]:
    return calling(lambda call: stream.converse(session, form, list(headers), call.receive, call.send))


# ------------------------------------------------------------------------------------------------------------ converse


@pytest.mark.parametrize(
    ("form", "media_type", "body"),
    [
        (LINES, "application/json", b"one\ntwo\n"),
        (MESSAGES, "application/octet-stream", b"onetwo"),
        (EVENTS, "text/event-stream", b"onetwo"),
        (ENVELOPED, "text/event-stream", b":\ndata: one\n\ndata: two\n\n"),
    ],
    ids=["lines", "messages", "events", "enveloped"],
)
async def test_frames_are_laid_into_the_stream_as_its_form_says(
    live: Freshet, form: Form, media_type: str, body: bytes
) -> None:
    session = opened(live)
    async with conversing(session, form, [(b"x-own", b"yes")]) as call:
        session.outbox.push(Frame(b"one"))
        session.outbox.push(Frame(b"two"))
        status, headers = await call.head()
        assert (status, headers["content-type"], headers["x-own"]) == (200, media_type, "yes")
        assert ("no-transform" in headers["cache-control"], headers["x-accel-buffering"]) == (True, "no")
        assert await call.next() == {"type": "http.response.body", "body": body, "more_body": True}


async def test_lines_within_a_frame_stay_one_event_and_the_first_bytes_come_once(live: Freshet) -> None:
    session = opened(live)
    async with conversing(session, ENVELOPED) as call:
        session.outbox.push(Frame(b'{"id":1}\n{"id":2}'))
        assert await call.chunk() == b':\ndata: {"id":1}\ndata: {"id":2}\n\n'
        session.outbox.push(Frame(b"{}"))
        assert await call.chunk() == b"data: {}\n\n"


async def test_what_comes_while_a_client_does_not_read_leaves_in_one_part(live: Freshet) -> None:
    session = opened(live)
    async with conversing(session) as call:
        call.room.clear()
        for text in (b"one", b"two", b"three"):
            session.outbox.push(Frame(text))
            await eventually(lambda: not live._node.turn.scheduled)
        call.room.set()
        assert await call.chunk() == b"one\n"
        assert await call.chunk() == b"two\nthree\n"


async def test_a_writer_whose_client_does_not_read_ends_with_the_tasks_of_the_node(live: Freshet) -> None:
    session, tasks = opened(live), live._node.tasks
    async with conversing(session) as call:
        call.room.clear()
        session.outbox.push(Frame(b"one"))
        await eventually(lambda: len(tasks) == 1, 5, "the writer")
        await tasks.stop()
        assert len(tasks) == 0
        assert not [task for task in asyncio.all_tasks() if "_Writer._write" in repr(task.get_coro())]


async def test_a_client_that_does_not_read_the_end_either_is_a_client_no_longer() -> None:
    """Its response is the server's to cut; what it held here is free."""
    clock = ManualClock()
    live = Freshet(dev=True, environment={}, clock=clock)
    async with live.lifespan():
        session = opened(live)
        async with conversing(session) as call:
            session.outbox.push(Frame(b"one"))
            await call.chunk()
            call.room.clear()
            session.outbox.push(Frame(b"two"))
            await eventually(lambda: session.outbox.first is None)
            session.close(Disconnect.slow())
            await eventually(lambda: not live._node.turn.scheduled)
            assert session.ended is None
            await clock.advance(live.config.timing.close_timeout + 2)
            assert session.ended is not None
            assert session.ended.code == 3008
            assert not live._node.registry
            call.room.set()
            assert await call.result() is None


async def test_a_session_that_the_server_ends_says_why_and_ends_the_response(live: Freshet) -> None:
    session = opened(live)
    async with conversing(session) as call:
        session.outbox.push(Frame(b"one"))
        session.close(Disconnect(4501, "enough"))
        _, _, body = await call.response()
        assert body == b'one\n{"push":{"disconnect":{"code":4501,"reason":"enough"}}}\n'
        assert await call.result() is None
        assert session.ended is not None
        assert session.ended.code == 4501


async def test_an_end_of_our_own_leaves_no_cancellation_behind(live: Freshet) -> None:
    """What is around the call, a timeout or a task group, would take it for its own."""
    session = opened(live)
    cancelling: list[int] = []

    async def converse(call: Call) -> None:
        async with asyncio.timeout(seconds(5)):
            await stream.converse(session, LINES, [], call.receive, call.send)
            task = asyncio.current_task()
            assert task is not None
            cancelling.append(task.cancelling())

    async with calling(converse) as call:
        session.close(Disconnect(4501, "enough"))
        await call.result()
    assert cancelling == [0]


async def test_a_stream_without_an_answer_yet_says_why_it_ends_by_the_status_where_its_form_does(live: Freshet) -> None:
    session = opened(live, ChannelEvents(["a"]))
    async with conversing(session, EVENTS) as call:
        session.close(Disconnect.permission_denied("not you"))
        why = await call.result()
        assert (why.code, why.reason) == (3507, "not you")
        assert call.unread.empty()


async def test_once_it_has_begun_a_stream_says_why_it_ends_in_itself(live: Freshet) -> None:
    session = opened(live, ChannelEvents(["a"]))
    async with conversing(session, EVENTS) as call:
        session.outbox.push(Frame(b"data: 1\n\n"))
        assert await call.chunk() == b"data: 1\n\n"
        session.close(Disconnect.force_no_reconnect())
        assert b"event: disconnected" in await call.chunk()
        assert await call.next() == {"type": "http.response.body", "body": b"", "more_body": False}
        assert await call.result() is None


async def test_a_client_that_goes_ends_the_session_and_nothing_is_sent_to_it(live: Freshet) -> None:
    session = opened(live)
    async with conversing(session) as call:
        session.outbox.push(Frame(b"one"))
        await call.chunk()
        call.leave()
        assert await call.result() is None
        assert session.ended is not None
        assert session.ended.code == 3000
        session.outbox.push(Frame(b"two"))
        await asyncio.sleep(0)
        assert call.unread.empty()


async def test_a_server_that_cannot_send_any_more_ends_the_session(live: Freshet) -> None:
    session = opened(live)
    async with conversing(session) as call:
        call.broken = True
        session.outbox.push(Frame(b"one"))
        await call.result()
        assert session.ended is not None
    await eventually(lambda: not live._node.registry)


async def test_a_call_that_the_server_cancels_is_cancelled(live: Freshet) -> None:
    session = opened(live)
    async with conversing(session) as call:
        await asyncio.sleep(0)
        assert call.task is not None
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.result()
        assert session.ended is not None


async def test_a_quiet_stream_has_no_task_besides_its_own(live: Freshet) -> None:
    session, tasks = opened(live), live._node.tasks
    async with conversing(session) as call:
        before = len(tasks)
        session.outbox.push(Frame(b"one"))
        await call.chunk()
        await eventually(lambda: len(tasks) == before)


# ------------------------------------------------------------------------------------------------------------- collect


def collecting(session: Session, wait: float, enough: int = 1) -> AbstractAsyncContextManager[Call]:
    return calling(lambda call: collect(session, call.receive, wait, lambda frames: len(frames) >= enough))


async def test_a_response_is_complete_once_there_is_enough_for_it(live: Freshet) -> None:
    session = opened(live)
    async with collecting(session, seconds(60), enough=2) as call:
        session.outbox.push(Frame(b"one"))
        await eventually(lambda: session.outbox.first is None)
        assert call.task is not None
        assert not call.task.done()
        session.outbox.push(Frame(b"two"))
        assert [frame.data for frame in await call.result()] == [b"one", b"two"]
        assert session.ended is not None


async def test_after_its_wait_a_response_has_what_there_is(live: Freshet) -> None:
    session = opened(live)
    async with collecting(session, 0.01, enough=2) as call:
        session.outbox.push(Frame(b"one"))
        assert [frame.data for frame in await call.result()] == [b"one"]
    session = opened(live)
    async with collecting(session, 0.01) as call:
        assert (await call.result()).code == 3000  # nothing at all
        await eventually(lambda: not live._node.tasks)


async def test_a_session_that_ends_before_there_is_anything_says_why(live: Freshet) -> None:
    session = opened(live)
    async with collecting(session, seconds(60)) as call:
        session.close(Disconnect(4501, "enough"))
        why = await call.result()
        assert (why.code, why.reason) == (4501, "enough")


async def test_a_client_that_goes_while_it_waits_ends_the_session_at_once(live: Freshet) -> None:
    session = opened(live)
    async with collecting(session, seconds(60)) as call:
        call.leave()
        assert (await call.result()).code == 3000
    await eventually(lambda: not live._node.registry and not live._node.tasks)


async def test_a_client_is_gone_when_the_server_says_so_and_not_before() -> None:
    async with calling(lambda call: client_gone(call.receive)) as call:
        call.body(b"more", more_body=True)
        call.body()
        await eventually(call.asked.empty)
        assert call.task is not None
        assert not call.task.done()
        call.leave()
        await call.result()


# ----------------------------------------------------------------------------------------------------------- read_body


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        ([b""], b""),
        ([b"abcde"], b"abcde"),
        ([b"ab", b"", b"cde"], b"abcde"),
        ([b"abcdef"], None),
        ([b"abc", b"def"], None),
    ],
)
async def test_a_body_is_read_whole_unless_it_is_larger_than_its_limit(chunks: list[bytes], body: bytes | None) -> None:
    async with calling(lambda call: Bodies(0, Turn()).read(call.receive, 5)) as call:
        for number, chunk in enumerate(chunks, 1):
            call.body(chunk, more_body=number < len(chunks))
        assert await call.result() == body


async def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    async with calling(lambda call: Bodies(0, Turn()).read(call.receive, 5)) as call:
        call.body(b"x" * 6, more_body=True)
        assert await call.result() is None


async def test_a_client_that_goes_within_its_body_has_said_nothing() -> None:
    async with calling(lambda call: Bodies(0, Turn()).read(call.receive, 5)) as call:
        call.body(b"abc", more_body=True)
        call.leave()
        with pytest.raises(CutShort):
            await call.result()
