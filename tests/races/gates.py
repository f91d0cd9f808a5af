"""The places at which something waits, numbered as they are passed, of which a test may hold one."""

import asyncio
from collections.abc import Mapping, Sequence

from freshet.engines.base import Engine, Lease, Present, Receiver
from freshet.errors import EngineUnavailable
from freshet.model.log import ClientInfo, History, Position, PublishOptions, Stream


class Gates:
    """hold: the number of the gate that holds whoever comes, from `arm` on; None: all stand open.

    held: its name, once somebody has come. passed: the names of those that were passed, in order.
    """

    def __init__(self) -> None:
        self.hold: int | None = None
        self.armed = self.fails = False
        self.held = ""
        self.passed: list[str] = []
        self._go = asyncio.Event()

    def arm(self, hold: int | None, *, fails: bool = False) -> None:
        """fails: the engine is away there instead."""
        self.hold, self.armed, self.fails = hold, True, fails

    def release(self) -> None:
        self._go.set()

    async def come(self, name: str) -> None:
        """Every gate gives the loop a turn, as the socket of a real engine would."""
        if not self.armed:
            await asyncio.sleep(0)
            return
        number = len(self.passed)
        self.passed.append(name)
        if number == self.hold:
            self.held = name
            if self.fails:
                raise EngineUnavailable("away")
            await self._go.wait()
        else:
            await asyncio.sleep(0)


class GateEngine(Engine):
    """Another engine, with a gate before and behind each call: what was asked has not happened yet, or nobody knows."""

    shared = False

    def __init__(self, inner: Engine, gates: Gates) -> None:
        self.inner = inner
        self._gates = gates

    async def start(self, node: str, receiver: Receiver) -> None:
        await self.inner.start(node, receiver)

    async def stop(self) -> None:
        await self.inner.stop()

    async def tell(self, node: str | None, message: bytes) -> None:
        await self.inner.tell(node, message)

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        await self._gates.come("subscribe")
        position = await self.inner.subscribe(channel, keep)
        await self._gates.come("subscribed")
        return position

    async def unsubscribe(self, channel: str) -> None:
        await self._gates.come("unsubscribe")
        await self.inner.unsubscribe(channel)
        await self._gates.come("unsubscribed")

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        await self._gates.come("publish")
        position = await self.inner.publish(channel, data, options)
        await self._gates.come("published")
        return position

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        await self._gates.come("history")
        stream = await self.inner.history(channel, keep, since, limit, reverse)
        await self._gates.come("history read")
        return stream

    async def remove_history(self, channel: str) -> None:
        await self._gates.come("remove history")
        await self.inner.remove_history(channel)
        await self._gates.come("history removed")

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        await self._gates.come("presence")
        present = await self.inner.presence(channel)
        await self._gates.come("presence read")
        return present

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        what = "presence" if info is not None else "absence"
        await self._gates.come(f"set {what}")
        await self.inner.set_presence(channel, client, info)
        await self._gates.come(f"{what} set")

    async def renew_presence(self, present: Sequence[Present]) -> None:
        await self._gates.come("renew presence")
        await self.inner.renew_presence(present)
        await self._gates.come("presence renewed")

    async def take_lease(self, name: str, owner: str, ttl: float) -> Lease:
        await self._gates.come("take lease")
        lease = await self.inner.take_lease(name, owner, ttl)
        await self._gates.come("lease taken")
        return lease

    async def renew_leases(self, owner: str, leases: Mapping[str, int], ttl: float) -> set[str]:
        await self._gates.come("renew leases")
        renewed = await self.inner.renew_leases(owner, leases, ttl)
        await self._gates.come("leases renewed")
        return renewed

    async def release_lease(self, name: str, lease: Lease) -> None:
        await self._gates.come("release lease")
        await self.inner.release_lease(name, lease)
        await self._gates.come("lease released")
