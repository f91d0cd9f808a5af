"""AWS's own limits, `limits = "aws"`: met in a test rather than in production; and none but ours without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from freshet import Freshet
from freshet.config import KIB
from freshet.errors import ConfigError
from freshet.testing import ManualClock
from freshet.testing.gateway import GatewayClient, manage
from tests.tools.clocks import SetClock
from tests.tools.patience import seconds
from tests.tools.serving import Server

MINUTES = 60


def application(limits: str, clock: ManualClock | None = None) -> Freshet:
    live = Freshet(dev=True, clock=clock or ManualClock())

    @live.gateway(stage="dev", limits=limits).route("$default")
    def default(connection: Any, data: Any) -> str:
        return "ok"

    return live


async def test_a_connection_that_is_idle_for_ten_minutes_is_closed() -> None:
    clock = ManualClock()
    async with GatewayClient(application("aws", clock)) as client:
        await clock.advance(9 * MINUTES)
        await client.send("x")
        assert await client.receive() == "ok"
        await clock.advance(9 * MINUTES)
        await client.expect_nothing()
        await clock.advance(1 * MINUTES + 30)
        assert (await client.closed()).code == 1001


async def test_what_is_posted_to_it_keeps_it_too() -> None:
    clock = ManualClock()
    live = application("aws", clock)
    async with GatewayClient(live) as client:
        for _ in range(3):
            await clock.advance(9 * MINUTES)
            await live.gateway().post(client.id, "still here")
            assert await client.receive() == "still here"


async def test_a_connection_lasts_for_two_hours_at_most() -> None:
    clock = ManualClock()
    async with GatewayClient(application("aws", clock)) as client:
        for _ in range(23):
            await clock.advance(5 * MINUTES)
            await client.send("x")
            assert await client.receive() == "ok"
        await clock.advance(5 * MINUTES + 30)
        assert (await client.closed()).code == 1001


async def test_a_clock_that_is_set_ends_no_connection() -> None:
    clock = SetClock()
    live = application("aws", clock)
    async with GatewayClient(live) as client:
        for hours in (3, -6):
            clock.ahead += hours * 60 * MINUTES
            await clock.advance(1 * MINUTES)
            await client.send("x")
            assert await client.receive() == "ok"
        (session,) = live._node.registry
        told = session.describe()  # type: ignore[attr-defined]
        assert told.last_active_at - told.connected_at == 2 * MINUTES


async def test_without_limits_it_stays() -> None:
    clock = ManualClock()
    async with GatewayClient(application("none", clock)) as client:
        await clock.advance(180 * MINUTES)
        await client.send("x")
        assert await client.receive() == "ok"


async def test_a_message_of_more_than_128_kib_and_a_binary_one_end_it() -> None:
    live = application("aws")
    async with GatewayClient(live) as client:
        await client.send("x" * 128 * KIB)
        assert await client.receive() == "ok"
        await client.send("x" * (128 * KIB + 1))
        assert (await client.closed()).code == 1009
    async with GatewayClient(live) as client:
        await client.send(b"x")
        assert (await client.closed()).code == 1003
    async with GatewayClient(application("none")) as client:
        await client.send(b"x" * 200 * KIB)
        assert await client.receive() == "ok"


async def test_more_than_128_kib_cannot_be_posted() -> None:
    live = application("aws")
    async with GatewayClient(live) as client:
        assert (await manage(live, "POST", f"/dev/@connections/{client.id}", b"x" * 128 * KIB)).status == 200
        done = await manage(live, "POST", f"/dev/@connections/{client.id}", b"x" * (128 * KIB + 1))
        assert (done.status, done.headers["x-amzn-errortype"]) == (413, "PayloadTooLargeException")


def test_an_integration_has_29_seconds_at_most() -> None:
    with pytest.raises(ConfigError, match="29 s"):
        Freshet(dev=True).gateway(stage="dev", limits="aws", routes=[{"key": "x", "mock": "", "timeout": 30}])


def test_a_frame_of_more_than_32_kib_ends_it_and_frames_of_less_do_not(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    routes = (
        '[gateway]\nstage = "dev"\nlimits = "aws"\n[[gateway.routes]]\nkey = "$default"\nmock = "ok"\nresponse = true\n'
    )
    (tmp_path / "freshet.toml").write_text(routes)
    server = serve("--dev", "--config", str(tmp_path / "freshet.toml"))
    with connect(server.ws("/dev")) as socket:
        socket.send(["x" * 32 * KIB, "x" * 32 * KIB])
        assert socket.recv(timeout=seconds(5)) == "ok"
        socket.send("x" * (32 * KIB + 1))
        with pytest.raises(ConnectionClosedError, match="1009"):
            socket.recv(timeout=seconds(5))
