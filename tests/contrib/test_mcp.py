"""`mcp` over Freshet: its own client and server, two nodes on Redis, and sessions that must not see one another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.streamable_http import EventMessage
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent, ToolsListChanged
from mcp_types import JSONRPCMessage, JSONRPCNotification

from freshet import Freshet, History
from freshet.config import Config
from freshet.contrib import mcp
from freshet.contrib.mcp import SESSIONS, ChangesBus, SessionEvents
from freshet.engines.memory import MemoryEngine
from tests.tools.patience import eventually, seconds
from tests.tools.redis import redis

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture
async def two() -> AsyncIterator[tuple[ChangesBus, ChangesBus]]:
    """The buses of two nodes."""
    with redis() as server:
        async with AsyncExitStack() as stack:
            lives = [Freshet(config=Config(engine=server.url), environment={}) for _ in range(2)]
            buses = [ChangesBus(live) for live in lives]
            for live in lives:
                await stack.enter_async_context(live.lifespan())
            yield buses[0], buses[1]


async def test_a_change_is_heard_by_the_clients_of_all_nodes(two: tuple[ChangesBus, ChangesBus]) -> None:
    heard: list[list[ServerEvent]] = [[], []]
    ends = [bus.subscribe(each.append) for bus, each in zip(two, heard, strict=True)]

    async def both_hear() -> bool:
        await two[0].publish(ToolsListChanged())
        return all(ToolsListChanged() in each for each in heard)

    await eventually(both_hear)
    await two[1].publish(ResourceUpdated("file:///a"))
    for each in heard:
        await eventually(lambda each=each: ResourceUpdated("file:///a") in each)
    for end in ends:
        end()
        end()  # twice is harmless


async def test_one_who_left_hears_nothing_and_one_who_fails_disturbs_nobody(live: Freshet) -> None:
    bus = ChangesBus(live, channel="changes")
    heard: list[ServerEvent] = []
    left: list[ServerEvent] = []

    def fail(event: ServerEvent) -> None:
        raise ValueError("a mistake of its own")

    async with live.lifespan():
        ends = [bus.subscribe(fail), bus.subscribe(heard.append)]
        bus.subscribe(left.append)()

        async def hears() -> bool:
            await bus.publish(ToolsListChanged())
            return bool(heard)

        await eventually(hears)
        assert not left
        for end in ends:
            end()


@pytest.fixture
def live() -> Freshet:
    return Freshet(environment={})


class Request:
    """The application behind `bind`: what it does with the store, as `mcp` would."""

    def __init__(self, session: str = "", status: int = 200) -> None:
        self.session = session
        self.status = status
        self.do: Any = None
        self.result: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"mcp-session-id", self.session.encode())] if self.session else []
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        self.result = await self.do()


async def within(
    events: SessionEvents, session: str, do: Any, *, first: bool = False, method: str = "POST", status: int = 200
) -> Any:
    """Run `do` as a part of a session's request, which gets that status. first: the one that begins it."""
    app = Request(session, status)
    app.do = do

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        assert message["type"] == "http.response.start"

    headers = [] if first else [(b"mcp-session-id", session.encode())]
    await events.bind(app)({"type": "http", "method": method, "headers": headers}, receive, send)
    return app.result


def note(number: int) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="note", params={"n": number})


async def replayed(events: SessionEvents, session: str, id: str) -> tuple[str | None, list[Any]]:
    got: list[EventMessage] = []

    async def take(message: EventMessage) -> None:
        got.append(message)

    stream = await within(events, session, lambda: events.replay_events_after(id, take))
    return stream, [each.message.params["n"] for each in got]


async def test_who_comes_back_gets_the_rest_of_its_own_stream(live: Freshet) -> None:
    events = SessionEvents(live)
    async with live.lifespan():
        begin = await within(events, "a", lambda: events.store_event("1", None), first=True)
        first = await within(events, "a", lambda: events.store_event("1", note(1)))
        await within(events, "a", lambda: events.store_event("2", note(2)))
        await within(events, "a", lambda: events.store_event("1", note(3)))
        assert await replayed(events, "a", begin) == ("1", [1, 3])
        assert await replayed(events, "a", first) == ("1", [3])
        assert await replayed(events, "a", "nonsense") == (None, [])


async def test_a_session_gets_nothing_of_another_whose_requests_have_the_same_ids(live: Freshet) -> None:
    events = SessionEvents(live)
    async with live.lifespan():
        mine = await within(events, "a", lambda: events.store_event("1", None), first=True)
        theirs = await within(events, "b", lambda: events.store_event("1", None), first=True)
        await within(events, "b", lambda: events.store_event("1", note(7)))
        assert await replayed(events, "a", mine) == ("1", [])
        assert await replayed(events, "a", theirs) == (None, [])
        assert await replayed(events, "unknown", theirs) == (None, [])
        assert await replayed(events, "b", theirs) == ("1", [7])


async def test_what_a_session_does_not_keep_any_more_is_not_replayed_in_part(live: Freshet) -> None:
    events = SessionEvents(live, size=2)
    async with live.lifespan():
        begin = await within(events, "a", lambda: events.store_event("1", None), first=True)
        for number in range(5):
            await within(events, "a", lambda number=number: events.store_event("1", note(number)))
        assert await replayed(events, "a", begin) == (None, [])


async def nothing() -> None:
    """What a request does that has nothing to do with events."""


async def test_who_may_not_end_a_session_ends_nothing_and_who_may_leaves_nothing(live: Freshet) -> None:
    events = SessionEvents(live)
    async with live.lifespan():
        begin = await within(events, "a", lambda: events.store_event("1", None), first=True)
        await within(events, "a", lambda: events.store_event("1", note(1)))
        for status in (401, 404, 405):
            await within(events, "a", nothing, method="DELETE", status=status)
            assert await replayed(events, "a", begin) == ("1", [1])
        await within(events, "a", nothing, method="DELETE")
        assert await replayed(events, "a", begin) == (None, [])
        channel = SESSIONS + begin.partition(".")[0]
        assert (await live.history(channel)).publications == []


@pytest.mark.parametrize("id", ["é.a.1.YQ==", "..1.", "a.b.c", "", ".", "a.b.99999999999999999999.YQ==", "a.b.-1.YQ=="])
async def test_an_event_id_that_is_none_brings_nothing(live: Freshet, id: str) -> None:
    events = SessionEvents(live)
    async with live.lifespan():
        begin = await within(events, "a", lambda: events.store_event("1", None), first=True)
        await within(events, "a", lambda: events.store_event("1", note(1)))
        assert await replayed(events, "a", id) == (None, [])
        key = begin.partition(".")[0]
        assert (await replayed(events, "a", f"{key}.{id.partition('.')[2]}"))[1] == []


async def test_sessions_that_are_opened_and_left_push_out_neither_the_logs_of_other_channels_nor_those_in_use(
    live: Freshet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "SESSIONS_KNOWN", 10)
    live.channel("kept", history=History(10, 3600))
    events = SessionEvents(live, kept=50_000)
    async with live.lifespan():
        await live.publish("kept", "x" * 1000)
        await within(events, "a", lambda: events.store_event("1", None), first=True)
        long = JSONRPCNotification(jsonrpc="2.0", method="note", params={"n": "x" * 5000})
        for number in range(100):
            last = await within(events, "a", lambda: events.store_event("1", note(0)))
            await within(events, f"b{number}", lambda: events.store_event("1", long), first=True)
        await within(events, "a", lambda: events.store_event("1", note(1)))
        assert await replayed(events, "a", last) == ("1", [1])
        assert len((await live.history("kept")).publications) == 1
        engine = live._node.engine
        assert isinstance(engine, MemoryEngine)
        assert engine._quota.size < 60_000


class Noted(SessionEvents):
    """stored: all that `mcp` gave to it."""

    def __init__(self, live: Freshet) -> None:
        super().__init__(live)
        self.stored: list[JSONRPCMessage | None] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        id = await super().store_event(stream_id, message)
        self.stored.append(message)
        return id


async def test_a_server_of_mcp_resumes_the_stream_of_a_tool_that_its_client_lost(live: Freshet) -> None:
    """The real server of `mcp`; the client is bare, for it is to be cut off in the middle."""
    events, going, sent = Noted(live), asyncio.Event(), list[bytes]()
    server = MCPServer("tests")

    @server.tool()
    async def slow(ctx: Context) -> str:
        await eventually(lambda: any(b"id: " in each for each in sent))
        await ctx.close_sse_stream()
        await going.wait()
        return "done"

    inner = events.bind(server.streamable_http_app(event_store=events))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            await send(message)
            sent.append(message.get("body", b""))

        await inner(scope, receive, noted)

    async with live.lifespan(), server.session_manager.run():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8000", timeout=seconds(10)
        ) as http:
            about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            begun = await http.post("/mcp", headers=HEADERS, json=_request(0, "initialize", about))
            session = {
                **HEADERS,
                "mcp-session-id": begun.headers["mcp-session-id"],
                "mcp-protocol-version": "2025-11-25",
            }
            await http.post("/mcp", headers=session, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
            sent.clear()
            cut = await http.post("/mcp", headers=session, json=_request(1, "tools/call", {"name": "slow"}))
            assert "done" not in cut.text
            last = [line[4:] for line in cut.text.splitlines() if line.startswith("id: ")][-1]
            going.set()
            await eventually(lambda: any("done" in str(each) for each in events.stored))
            rest = asyncio.create_task(http.get("/mcp", headers={**session, "last-event-id": last}))
            await eventually(lambda: any(b'"done"' in each for each in sent))
            rest.cancel()
            await asyncio.wait([rest])


def _request(id: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
