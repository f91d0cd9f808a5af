"""A session's share of the outbox of its connection: what a room gets, past it or by it, and its end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from freshet.dialects.socketio.packets import Stamped
from freshet.endpoints.socketio.sessions import NamespaceOutbox
from freshet.errors import Disconnect
from freshet.model.frame import Frame
from freshet.session.outbox import broadcast
from freshet.websocket.frames import wire
from tests.session.lines import KIB, Line, three_lines

STAMP = b',""'  # of a session that is in no room with a log


lines = pytest.fixture(three_lines)


def share(line: Line, namespace: str = "/", *, stamps: bool = False) -> NamespaceOutbox:
    sessions = SimpleNamespace(closed=lambda namespace, why: None)
    outbox = NamespaceOutbox(cast(Any, SimpleNamespace(outbox=line.outbox)), cast(Any, sessions), namespace)
    outbox.places = {} if stamps else None
    return outbox


@pytest.mark.parametrize("stamps", [False, True], ids=["the same", "stamped"])
async def test_what_a_room_gets_is_written_past_the_transports_and_what_the_kernel_does_not_take_comes_later(
    lines: list[Line], stamps: bool
) -> None:
    prompt, late, _ = lines
    shares = [share(line, stamps=stamps) for line in lines]
    sent, got = b"", b""
    for number in range(50):
        if number == 5:
            assert [line.woken for line in lines] == [1, 1, 1]  # for the first, from which on nothing waits in them
        frame = Frame(b'42["%d",' % number + bytes(16 * KIB if number >= 5 else 1) + b"]")
        broadcast(shares, Stamped(frame) if stamps else frame)
        sent += wire(Frame(frame.data[:-1] + STAMP + b"]")) if stamps else wire(frame)
        got += prompt.read()
    assert got == sent
    assert late.waiting
    assert late.read() == sent


async def test_a_session_that_is_over_gets_nothing_and_those_beside_it_on_the_connection_go_on(
    lines: list[Line],
) -> None:
    line, *_ = lines
    over, other = share(line), share(line, "/other")
    broadcast([over, other], Frame(b"first"))
    over.close(Disconnect.normal())
    broadcast([over, other], Frame(b"second"))
    assert line.read() == 2 * wire(Frame(b"first")) + wire(Frame(b"second"))


async def test_what_a_room_gets_comes_behind_what_one_was_told_before(lines: list[Line]) -> None:
    line, *_ = lines
    its = share(line)
    broadcast([its], Frame(b"first"))
    its.push(Frame(b"told"))
    broadcast([its], Frame(b"last"))
    line.outbox.turn.end()
    assert line.read() == wire(Frame(b"first")) + wire(Frame(b"told")) + wire(Frame(b"last"))
