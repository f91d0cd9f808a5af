"""Requests of many connections, the short way: each has its turn, and who does not read has none."""

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

from starlette.responses import Response
from starlette.types import Receive, Scope

from freshet.runtime.fair_queue import LEAST, FairQueue
from tests.tools.patience import eventually
from tests.transports.test_entrance import GET, Refuses, Served


async def test_requests_of_many_connections_are_answered_a_portion_a_turn() -> None:
    now = 0.0

    class Slow(Refuses):
        asked = 0

        def reply(self, scope: Scope, receive: Receive) -> Response:
            nonlocal now
            now += LEAST
            self.asked += 1
            return Response(b"one")

    served, application = Served(None), Slow()
    served.server.direct[""] = application
    served.server.fair_queue = FairQueue(now=lambda: now)
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(served.come()) for _ in range(20)]
        for peer in peers:
            await peer.write(GET)
        asked = [0]
        for _ in range(1000):
            await asyncio.sleep(0)
            asked.append(application.asked)
        assert application.asked == len(peers)
        assert max(after - before for before, after in pairwise(asked)) <= 2
        for peer in peers:
            assert (await peer.read()).endswith(b"one")
    assert served.long_way.got == []


async def test_who_does_not_read_what_was_answered_gets_no_more_answers() -> None:
    served, asked = Served(None), 0

    class Large(Refuses):
        def reply(self, scope: Scope, receive: Receive) -> Response:
            nonlocal asked
            asked += 1
            return Response(b"%d" % asked + bytes(200_000))

    served.server.direct[""] = Large()
    async with served.come() as peer:
        await peer.write(GET)
        await eventually(lambda: asked == 1)
        await peer.write(GET)
        for _ in range(10):
            await asyncio.sleep(0)
        assert asked == 1
        got = b""
        while got.count(b"HTTP/1.1 200 OK") < 2:
            got += await peer.read()
        assert asked == 2
