"""Rooms for the clients that people have: official ones, unmodified, and bare WebSockets and event streams."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from centrifuge.exceptions import ReplyError
from socketio import AsyncClient
from websockets.sync.client import connect

from tests.tools.clients import SECRET, Listener, connected
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

BIDS = "auction:42"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    env = {"FRESHET_ROOMS__STORE": "memory://", "FRESHET_TOKENS__ANONYMOUS": "true", "FRESHET_TOKENS__SECRET": SECRET}
    with serving("tests.rooms.auction_app:live", env=env) as server:
        yield server


def price(server: Server) -> int:
    """What an event stream is shown that comes now."""
    with httpx.stream("GET", server.http(f"/channels/{BIDS}"), headers={"Accept": "text/event-stream"}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and "price" in line:
                return int(json.loads(line.removeprefix("data:"))["price"])
    raise AssertionError("the stream ended")


async def test_official_clients_of_two_protocols_a_bare_websocket_and_an_event_stream_bid_in_one_room(
    server: Server,
) -> None:
    start = price(server)
    socket_client, events = AsyncClient(), list[Any]()
    socket_client.on("*", lambda event, *arguments: events.append((event, *arguments)))
    async with connected(server, "alice") as alice:
        listener = Listener(alice, BIDS)
        await listener.start()
        assert await listener.data(1) == [{"price": start}]
        await socket_client.connect(server.http(""), wait_timeout=seconds(5))
        try:
            await socket_client.call("subscribe", BIDS, timeout=seconds(5))
            with connect(server.ws(f"/channels/{BIDS}")) as bare:
                assert json.loads(bare.recv(timeout=seconds(5))) == {"price": start}

                await listener.subscription.publish({"amount": start + 1})
                await socket_client.call("publish", (BIDS, {"amount": start + 2}), timeout=seconds(5))
                bare.send(json.dumps({"amount": start + 3}))

                bids = [{"price": start + 1, "by": "alice"}, *({"price": start + n, "by": ""} for n in (2, 3))]
                assert await listener.data(3) == bids
                assert [json.loads(bare.recv(timeout=seconds(5))) for _ in bids] == bids
                await eventually(lambda: len(events) == 4)
                assert [it[-1] for it in events] == [{"price": start}, *bids]
                with pytest.raises(ReplyError) as refusal:
                    await listener.subscription.publish({"amount": 1})
                assert (refusal.value.code, refusal.value.message) == (107, "too low")
        finally:
            await socket_client.disconnect()
    assert price(server) == start + 3


async def test_what_a_room_answers_comes_back_by_rpc_and_as_an_acknowledgement(server: Server) -> None:
    start, socket_client = price(server), AsyncClient()
    async with connected(server, "alice") as alice:
        listener = Listener(alice, BIDS)
        await listener.start()
        assert (await alice.rpc(BIDS, {"amount": start + 1})).data == {"yours": start + 1}
        with pytest.raises(ReplyError) as refusal:
            await alice.rpc(BIDS, {"amount": start})
        assert (refusal.value.code, refusal.value.message) == (107, "too low")
    await socket_client.connect(server.http(""), wait_timeout=seconds(5))
    try:
        await socket_client.call("subscribe", BIDS, timeout=seconds(5))
        answer = await socket_client.call("publish", (BIDS, {"amount": start + 2}), timeout=seconds(5))
        assert answer == {"yours": start + 2}
        by_name = await socket_client.call(BIDS, {"amount": start + 3}, timeout=seconds(5))
        assert by_name == {"yours": start + 3}
    finally:
        await socket_client.disconnect()


async def test_a_page_of_history_is_no_visit(server: Server) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(server.http(f"/channels/{BIDS}"))
        posted = await client.post(server.http(f"/channels/{BIDS}"), json={"amount": 1_000_000})
    assert posted.status_code == 403, "only subscribers may publish there"
