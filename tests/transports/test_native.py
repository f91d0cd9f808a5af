"""A session directly on a socket: what is written when, when reading stops, and how it ends, on either event loop."""

import asyncio
import json
import os
import socket
import threading

import pytest

from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session.outbox import broadcast
from freshet.session.session import Session
from freshet.transports.native import _shared
from freshet.websocket.frames import CloseFrame, MessageLimits, Opcode, PongFrame, deflated_wire
from tests.tools.patience import eventually
from tests.transports.scene import BACKLOG, on_each_loop, opened
from tests.transports.sockets import Peer
from tests.websocket.peer import masked, plain


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What has been given to the kernel past the transport, a write each."""
    writes: list[bytes] = []
    write = os.write

    def spy(descriptor: int, data: bytes) -> int:
        sent = write(descriptor, data)
        writes.append(data[:sent])
        return sent

    monkeypatch.setattr(os, "write", spy)
    return writes


# ----------------------------------------------------------------------------------------------------------- bytes in


@on_each_loop
async def test_a_client_has_a_decoder_of_its_own_only_while_something_is_unfinished() -> None:
    """And so nothing that one has begun is mixed with what another sends."""
    async with opened() as (one, _), opened() as (other, _):
        one.socket.data_received(masked(1, b'{"id":1,"connect":{}}'))
        await eventually(lambda: one.socket._session.connected)
        frame = masked(1, b'{"id":2,"rpc":{}}')
        for number, at in enumerate((1, 7, len(frame) - 1), start=1):
            one.socket.data_received(frame[:at])
            assert one.socket._decoder is not None
            other.socket.data_received(masked(9, b"a ping of the other"))
            assert other.socket._decoder is None
            assert one.live._node.counts.received == number
            one.socket.data_received(frame[at:])
            assert one.socket._decoder is None
            assert one.live._node.counts.received == number + 1
        assert other.live._node.counts.received == 0


def test_another_thread_has_another_decoder() -> None:
    limits = MessageLimits()
    here, there = _shared.of(limits, deflate=False), []
    thread = threading.Thread(target=lambda: there.append(_shared.of(limits, deflate=False)))
    thread.start()
    thread.join()
    assert here is _shared.of(limits, deflate=False)
    assert here is not _shared.of(limits, deflate=True)
    assert there != [here]


# ---------------------------------------------------------------------------------------------------------- bytes out


@on_each_loop
async def test_all_frames_of_a_turn_leave_in_one_write_past_the_transport(written: list[bytes]) -> None:
    async with opened() as (scene, peer):
        scene.push(b"one", b"two", b"three")
        assert await peer.texts(3) == [b"one", b"two", b"three"]
        assert written == [b"\x81\x03one\x81\x03two\x81\x05three"]
        scene.push(b"four")
        scene.push(b"five")
        assert await peer.texts(2) == [b"four", b"five"]
        assert written[1:] == [b"\x81\x04four\x81\x04five"]
        assert scene.transport.writes == []


@on_each_loop
async def test_a_single_frame_goes_to_the_kernel_past_the_transport() -> None:
    async with opened() as (scene, peer):
        for text in (b"one", b"two"):
            scene.push(text)
            assert await peer.texts(1) == [text]
        assert scene.transport.writes == []


@on_each_loop
async def test_what_the_kernel_does_not_take_the_transport_sends_and_nothing_overtakes_it() -> None:
    async with opened() as (scene, peer):
        large = b"x" * 500_000
        scene.push(large)
        await eventually(lambda: scene.transport.writes)
        assert 0 < sum(map(len, scene.transport.writes)) < len(large)  # the kernel took the rest
        assert scene.outbox.direct == -1
        scene.push(b"behind")
        broadcast([scene.outbox], Frame(b"last"))
        assert await peer.texts(3) == [large, b"behind", b"last"]


@on_each_loop
async def test_frames_wait_in_the_outbox_while_the_transport_is_full_and_leave_when_it_is_not() -> None:
    async with opened() as (scene, peer):
        count = await scene.fill()
        written = scene.transport.get_write_buffer_size()
        assert 0 < written < 150_000  # no more than the last frame, of which the kernel took a part, perhaps
        scene.push(b"waits", b"too")
        await asyncio.sleep(0)
        assert scene.transport.get_write_buffer_size() == written
        assert scene.outbox.first is not None
        got = await peer.texts(count + 2)
        assert [int(text.split()[0]) for text in got[:count]] == list(range(1, count + 1))
        assert got[count:] == [b"waits", b"too"]


@on_each_loop
async def test_a_broadcast_is_written_directly_where_nothing_waits() -> None:
    async with opened() as (scene, peer):
        scene.push(b"first")
        await peer.next()
        assert scene.outbox.direct >= 0
        broadcast([scene.outbox], Frame(b"second"))
        assert plain([await peer.next()]) == [("frame", b"second", False)]
        assert scene.transport.writes == []


@on_each_loop
async def test_broadcasts_to_a_client_that_reads_slowly_arrive_whole_and_in_order() -> None:
    async with opened() as (scene, peer):
        scene.push(b"first")
        await peer.next()
        frames = [Frame(b"%d " % number + b"x" * 20_000) for number in range(30)]
        for frame in frames:
            broadcast([scene.outbox], frame)
        assert scene.transport.writes
        assert await peer.texts(30) == [frame.data for frame in frames]


@on_each_loop
async def test_the_descriptor_is_given_up_while_the_transport_holds_something_and_comes_back() -> None:
    async with opened() as (scene, peer):
        scene.push(b"first")
        await peer.next()
        descriptor = scene.outbox.direct
        count = await scene.fill()
        assert scene.outbox.direct == -1
        await peer.texts(count)
        await eventually(lambda: not scene.transport.get_write_buffer_size())
        scene.push(b"again")
        await peer.next()
        assert scene.outbox.direct == descriptor >= 0


@on_each_loop
async def test_the_descriptor_is_given_up_at_once_when_the_outbox_closes() -> None:
    async with opened() as (scene, peer):
        scene.push(b"first")
        await peer.next()
        scene.session.close(Disconnect(4501, "enough"))
        assert scene.outbox.direct == -1
        broadcast([scene.outbox], Frame(b"too late"))
        assert await peer.next() == CloseFrame(4501, "enough")


@on_each_loop
async def test_a_descriptor_that_became_another_files_is_not_written_to() -> None:
    async with opened() as (scene, peer):
        scene.push(b"first")
        await peer.next()
        descriptor = scene.outbox.direct
        peer.close()
        await eventually(lambda: not scene.connections)
        assert scene.socket._descriptor == scene.outbox.direct == -1
        others = [*socket.socketpair(), *socket.socketpair()]
        os.dup2(others[0].fileno(), descriptor)  # now a file of somebody else's
        try:
            broadcast([scene.outbox], Frame(b"secret"))
            scene.socket()
            others[1].setblocking(False)
            with pytest.raises(BlockingIOError):
                others[1].recv(100)
        finally:
            for other in others:
                other.close()


# ----------------------------------------------------------------------------------------------------------- bytes in


@on_each_loop
async def test_reading_pauses_while_the_backlog_is_full_and_every_command_is_answered_in_order() -> None:
    async with opened() as (scene, peer):
        gate = asyncio.Event()

        @scene.live.rpc("wait")
        async def wait(session: Session, data: int) -> int:
            await gate.wait()
            return data

        await peer.send(b'{"id": 1, "connect": {}}')
        await peer.next()
        calls = [json.dumps({"id": 2 + n, "rpc": {"method": "wait", "data": n}}).encode() for n in range(3 * BACKLOG)]
        for call in calls[: 2 * BACKLOG]:
            await peer.send(call)
        await eventually(lambda: not scene.transport.is_reading())
        assert scene.session.backlog_full
        for call in calls[2 * BACKLOG :]:
            await peer.send(call)
        gate.set()
        replies = [json.loads(line) for line in await _lines(peer, len(calls))]
        assert [reply["rpc"]["data"] for reply in replies] == list(range(3 * BACKLOG))
        await eventually(scene.transport.is_reading)


@on_each_loop
async def test_reading_goes_on_after_a_full_backlog_of_commands_that_have_no_reply() -> None:
    async with opened() as (scene, peer):
        gate, got = asyncio.Event(), []

        @scene.live.on_message
        async def message(session: Session, data: int) -> None:
            await gate.wait()
            got.append(data)

        await peer.send(b'{"id": 1, "connect": {}}')
        await peer.next()
        await peer.send(b'{"send": {"data": 0}}')
        await eventually(lambda: scene.session.busy)
        await asyncio.sleep(0)  # the first is under way, so that those behind it fill the backlog
        for number in range(1, BACKLOG + 1):
            await peer.send(b'{"send": {"data": %d}}' % number)
        await eventually(lambda: not scene.transport.is_reading())
        gate.set()
        await eventually(scene.transport.is_reading)
        await peer.send(b'{"send": {"data": -1}}')
        await eventually(lambda: got == [*range(BACKLOG + 1), -1])


async def _lines(peer: Peer, count: int) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) < count:
        lines += (await peer.texts(1))[0].split(b"\n")
    return lines


@on_each_loop
async def test_a_ping_gets_its_pong_and_shows_that_the_client_is_alive() -> None:
    async with opened() as (scene, peer):
        scene.session._pong_received = False
        await peer.send(b"are you there?", Opcode.PING)
        assert await peer.next() == PongFrame(b"are you there?")
        assert scene.session._pong_received


@on_each_loop
async def test_of_the_pings_of_a_client_that_does_not_read_the_last_has_its_pong_when_it_does() -> None:
    async with opened() as (scene, peer):
        count = await scene.fill()
        before = len(scene.transport.writes)
        for number in range(100):
            await peer.send(b"%d" % number, Opcode.PING)
        await peer.send(b'{"id": 1, "connect": {}}')
        await eventually(lambda: scene.session.connected)  # all has been read
        assert len(scene.transport.writes) == before
        await peer.texts(count)
        assert await peer.next() == PongFrame(b"99")
        assert b"connect" in (await peer.texts(1))[0]


@on_each_loop
async def test_messages_that_come_in_pieces_are_put_together() -> None:
    async with opened() as (_, peer):
        for part, opcode, fin in ((b'{"id": 1, ', Opcode.TEXT, False), (b'"connect": {}}', Opcode.CONTINUATION, True)):
            await peer.send(part, opcode, fin=fin)
        assert "connect" in json.loads((await peer.texts(1))[0])


# ------------------------------------------------------------------------------------------------------------ the end


@on_each_loop
async def test_a_session_closes_with_its_code_and_reason_behind_what_waits() -> None:
    async with opened() as (scene, peer):
        scene.push(b"one", b"two")
        scene.session.close(Disconnect(4501, "enough"))
        assert await peer.texts(2) == [b"one", b"two"]
        assert await peer.next() == CloseFrame(4501, "enough")
        assert scene.session.ended is not None
        assert scene.session.ended.code == 4501
        await peer.send(b"\x11\x95", Opcode.CLOSE)
        assert await peer.ended()
        await eventually(lambda: not scene.connections)


@on_each_loop
async def test_a_client_that_does_not_close_its_side_is_aborted_by_the_wheel() -> None:
    async with opened() as (scene, peer):
        scene.session.close(Disconnect.force_no_reconnect())
        assert (await peer.closed()).code == 3503
        await scene.clock.advance(4)
        assert not scene.transport.is_closing()
        await scene.clock.advance(3)
        assert scene.transport.is_closing()
        assert await peer.ended()


@on_each_loop
async def test_a_client_that_closes_its_side_in_time_is_no_longer_on_the_wheel() -> None:
    async with opened() as (scene, peer):
        scene.session.close(Disconnect.force_no_reconnect())
        await peer.closed()
        assert scene.socket.slot >= 0
        await peer.send(b"", Opcode.CLOSE)
        await eventually(lambda: not scene.connections)
        assert scene.socket.slot == -1


@on_each_loop
async def test_a_client_that_stopped_reading_is_told_nothing_more_and_is_aborted_too() -> None:
    async with opened() as (scene, _):
        await scene.fill()
        scene.session.close(Disconnect.slow())
        await eventually(lambda: scene.session.ended)
        await scene.clock.advance(7)
        await eventually(lambda: not scene.connections)


@pytest.mark.parametrize(
    ("payload", "echo"), [(b"", CloseFrame(None, "")), (b"\x03\xe9going", CloseFrame(1001, ""))], ids=["none", "1001"]
)
@on_each_loop
async def test_a_close_of_the_client_is_echoed_with_its_code_and_ends_the_session(
    payload: bytes, echo: CloseFrame
) -> None:
    async with opened() as (scene, peer):
        await peer.send(payload, Opcode.CLOSE)
        assert await peer.next() == echo
        assert await peer.ended()
        assert scene.session.ended is not None
        assert scene.session.ended.code == 3000
        await eventually(lambda: not scene.connections)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\x81\x01a", 1002), (b"\x81\x82\0\0\0\0\xff\xff", 1007), (b"\x81\xff" + b"\0" * 4 + b"\x01" * 8, 1009)],
    ids=["unmasked", "no UTF-8", "too large"],
)
@on_each_loop
async def test_a_protocol_error_closes_with_its_code(data: bytes, code: int) -> None:
    async with opened() as (scene, peer):
        await peer.write(data)
        assert (await peer.closed()).code == code
        assert await peer.ended()
        assert scene.session.ended is not None
        assert scene.session.ended.code == code
        peer.close()  # after 1009 it may finish what it sends
        await eventually(lambda: not scene.connections)


TOO_MUCH = b"\x81\xff" + b"\0" * 4 + b"\x01" * 8 + bytes(100_000)


@on_each_loop
async def test_who_sends_too_much_may_finish_and_is_cut_when_it_does_not() -> None:
    async with opened() as (scene, peer):
        scene.push(b"what waits goes no more")
        await peer.write(TOO_MUCH)
        assert (await peer.closed()).code == 1009
        (last_word,) = scene.connections
        for _ in range(4):
            await peer.write(bytes(1000))
            await eventually(lambda: not last_word._is_quiet)  # type: ignore[attr-defined]
            await scene.clock.advance(1)
            assert scene.connections
        await peer.write(bytes(1000))
        await scene.clock.advance(3)
        await eventually(lambda: not scene.connections)


@on_each_loop
async def test_who_has_finished_is_not_waited_for_though_it_sees_no_end_as_over_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as (scene, peer):
        monkeypatch.setattr(scene.socket._transport, "can_write_eof", lambda: False, raising=False)
        await peer.write(TOO_MUCH[:20])
        assert (await peer.closed()).code == 1009
        await scene.clock.advance(3)  # of five
        assert await peer.ended()
        await eventually(lambda: not scene.connections)


@on_each_loop
async def test_a_connection_that_is_lost_ends_the_session_and_what_is_pushed_then_goes_nowhere() -> None:
    async with opened() as (scene, peer):
        scene.push(b"first")
        await peer.next()
        assert scene.connections == {scene.socket}
        peer.close()
        await eventually(lambda: scene.session.ended)
        scene.push(b"too late")
        await asyncio.sleep(0)
        assert scene.transport.writes == []
        assert (scene.connections, scene.socket.slot) == (set(), -1)


@on_each_loop
async def test_the_end_of_the_server_is_told_with_3001() -> None:
    async with opened() as (scene, peer):
        scene.socket.shutdown()
        assert await peer.next() == CloseFrame(3001, "shutdown")


# ------------------------------------------------------------------------------------------------------------ deflate


@on_each_loop
async def test_with_deflate_messages_are_compressed_both_ways_and_no_broadcast_goes_past_that(
    written: list[bytes],
) -> None:
    async with opened(deflate=True) as (scene, peer):
        text = b"again and " * 100
        scene.push(text)
        assert await peer.texts(1) == [text]
        broadcast([scene.outbox], Frame(text))
        assert await peer.texts(1) == [text]
        assert len(written) == 2
        assert max(map(len, written)) < len(text) / 5
        assert scene.outbox.direct == -1
        command = Frame(b'{"id": 1, "connect": {"data": "%b"}}' % text)
        compressed = deflated_wire(command)
        assert compressed[0] & 0x40
        await peer.send(compressed[4:] if compressed[1] == 126 else compressed[2:], rsv1=True)
        assert "connect" in json.loads((await peer.texts(1))[0])


@on_each_loop
async def test_with_deflate_a_short_message_goes_as_it_is(written: list[bytes]) -> None:
    async with opened(deflate=True) as (scene, peer):
        scene.push(b"short")
        assert await peer.texts(1) == [b"short"]
        assert written == [b"\x81\x05short"]
