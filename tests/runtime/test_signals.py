"""The signals that end a process: noticed beside whoever else handles them, in whatever order they come and go."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from freshet import Freshet
from freshet.config import parse
from freshet.runtime.server import SERVER, RunningServer
from freshet.runtime.signals import EndingSignals
from tests.tools.patience import eventually
from tests.tools.sessions import connected


class HostServer:
    """What handles the signals of the process. handled: those that came."""

    def __init__(self) -> None:
        self.handled: list[int] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.handled.append(number)


@pytest.fixture
def host() -> Iterator[HostServer]:
    host = HostServer()
    before = {number: signal.signal(number, host.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    yield host
    assert [signal.getsignal(number) for number in before] == [host.handle, host.handle]  # it has them back
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_noticed_and_reaches_the_server_that_handles_it(host: HostServer, number: int) -> None:
    noticed = asyncio.Event()
    signals = EndingSignals(noticed.set)
    signals.watch()
    signals.watch()
    os.kill(os.getpid(), number)
    await eventually(noticed.is_set)
    assert host.handled == [number]
    signals.stop()


async def test_a_server_whose_handler_raises_does_not_keep_it_from_being_noticed(host: HostServer) -> None:
    def fail(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, fail)
    noticed = asyncio.Event()
    signals = EndingSignals(noticed.set)
    signals.watch()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    await eventually(noticed.is_set)
    signals.stop()
    signal.signal(signal.SIGINT, host.handle)


async def test_what_nobody_handles_is_left_alone(host: HostServer) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals = EndingSignals(lambda: None)
    signals.watch()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signals.stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, host.handle)


async def test_several_watch_end_in_any_order_and_begin_again(host: HostServer) -> None:
    came: list[str] = []
    one, two = (EndingSignals(lambda name=name: came.append(name)) for name in ("one", "two"))  # type: ignore[misc]
    one.watch()
    two.watch()
    one.stop()  # its handler stands behind that of the other
    one.watch()
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: len(came) == 2)
    assert sorted(came) == ["one", "two"]
    assert host.handled == [signal.SIGTERM]
    one.stop()
    two.stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert host.handled == [signal.SIGTERM] * 2
    assert len(came) == 2
    for number in (signal.SIGTERM, signal.SIGINT):  # what is left of the chain only passes signals on
        signal.signal(number, host.handle)


def test_a_loop_that_is_closed_is_not_told(host: HostServer) -> None:
    signals = EndingSignals(lambda: pytest.fail("nobody is there"))

    async def watch() -> None:
        signals.watch()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(watch())
    loop.close()
    os.kill(os.getpid(), signal.SIGTERM)
    assert host.handled == [signal.SIGTERM]
    signals.stop()


def test_after_a_loop_that_is_gone_without_an_end_it_watches_in_the_next(host: HostServer) -> None:
    noticed: list[asyncio.AbstractEventLoop] = []
    signals = EndingSignals(lambda: noticed.append(asyncio.get_running_loop()))

    async def watch() -> None:
        signals.watch()

    async def notice() -> None:
        signals.watch()
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: noticed == [asyncio.get_running_loop()])

    for work in (watch, notice):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(work())
        loop.close()
    assert host.handled == [signal.SIGTERM]
    signals.stop()


def test_in_a_thread_nothing_is_watched_as_python_has_it(host: HostServer) -> None:
    async def run() -> None:
        signals = EndingSignals(lambda: None)
        signals.watch()
        signals.stop()

    failed: list[BaseException] = []
    hook, threading.excepthook = threading.excepthook, lambda it: failed.append(it.exc_value or RuntimeError())
    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    threading.excepthook = hook
    assert failed == []


async def test_an_application_under_another_server_drains_when_the_signal_comes(host: HostServer) -> None:
    live = Freshet(dev=True, environment={})
    for _ in range(2):  # it may be started again
        async with live.lifespan():
            session = await connected(live)
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually(lambda: session.outbox.closed, 5, "the client to be disconnected")  # noqa: B023
            assert session.outbox.closed is not None
            assert (session.outbox.closed.code, live._node.state) == (3001, "draining")
    assert host.handled == [signal.SIGTERM] * 2


async def test_an_application_leaves_signals_alone_where_it_is_told_to_or_its_own_server_drains_it(
    host: HostServer,
) -> None:
    async with Freshet(config=parse({"drain_on_signal": False}), dev=True, environment={}).lifespan():
        assert signal.getsignal(signal.SIGTERM) == host.handle
    before = SERVER.set(RunningServer())
    async with Freshet(dev=True, environment={}).lifespan():
        assert signal.getsignal(signal.SIGTERM) == host.handle
    SERVER.reset(before)


async def test_an_application_can_be_drained_without_a_signal() -> None:
    live = Freshet(dev=True, environment={})
    async with live.lifespan():
        session = await connected(live)
        await live.drain()
        assert session.outbox.closed is not None
        assert (session.outbox.closed.code, live._node.state) == (3001, "draining")
