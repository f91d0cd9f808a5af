"""The engine of a worker: a line to the hub of its host, which runs the engine that has the logs: `local_hub.py`."""

import asyncio
import logging
from collections.abc import Callable
from itertools import count

from freshet.engines.base import Engine, Receiver
from freshet.engines.codec import Info
from freshet.engines.local.messages import (
    HubConnection,
    HubDelivery,
    HubHello,
    HubNeighbours,
    HubNotice,
    HubPresence,
    HubPublish,
    HubRead,
    HubRemove,
    HubReply,
    HubRequest,
    HubSetPresence,
    HubSubscribe,
    HubTell,
    HubUnsubscribe,
    WireItem,
    to_worker,
)
from freshet.errors import EngineUnavailable
from freshet.model.log import ClientInfo, History, Position, PublishOptions, Stream

log = logging.getLogger("freshet.engines.local")

IN_FLIGHT = 20_000  # questions of a worker
PATIENCE = 5.0  # seconds for an answer
AGAIN = 0.1  # seconds between attempts to connect


class LocalEngine(Engine):
    """path: of the hub's socket. engine: the URL of the engine that the hub shall run, the same for all workers."""

    def __init__(self, path: str, engine: str, presence_time: float = 60.0) -> None:
        self._path = path
        self._engine = engine
        self._presence_time = presence_time
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[HubReply]] = {}
        self._listening: dict[str, History | None] = {}
        self._line: HubConnection | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def start(self, node: str, receiver: Receiver) -> None:
        self._hello = HubHello(node, self._engine, self._presence_time)
        self._receiver = receiver
        try:
            await self._connect()
        except OSError as error:
            raise EngineUnavailable(f"no hub at {self._path}: {error}") from error

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, line = await loop.create_unix_connection(lambda: HubConnection(self._hear, self._lost), self._path)
        line.say(self._hello)
        self._line = line

    async def stop(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        line, self._line = self._line, None
        if line is not None:
            line.close()
        self._listening.clear()

    def _hear(self, line: HubConnection, data: bytes) -> None:
        said = to_worker.decode(data)
        if isinstance(said, HubDelivery):
            if said.channel in self._listening:
                self._receiver.deliver(said.delivery())
        elif isinstance(said, HubNotice):
            self._receiver.notify(said.message)
        else:
            answer = self._asked.get(said.number)
            if answer is not None and not answer.done():
                answer.set_result(said)

    def _lost(self, line: HubConnection) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(EngineUnavailable("the line to the hub is lost"))
        if self._line is line:
            self._line = None
            self._connecting = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        while self._line is None:
            await asyncio.sleep(AGAIN)
            try:
                await self._connect()
                for channel, keep in list(self._listening.items()):
                    await self.subscribe(channel, keep)
            except (OSError, EngineUnavailable) as error:
                log.warning("the hub is away: %s", error)
        self._connecting = None
        self._receiver.suspect("")

    async def _ask(self, question: Callable[[int], HubRequest]) -> HubReply:
        if self._line is None:
            raise EngineUnavailable("the hub of this host is away")
        if len(self._asked) >= IN_FLIGHT:
            raise EngineUnavailable(f"{IN_FLIGHT} questions wait for the hub")
        number = next(self._numbers)
        future: asyncio.Future[HubReply] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._line.say(question(number))
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await future
        except TimeoutError:
            raise EngineUnavailable("the hub of this host does not answer") from None
        finally:
            del self._asked[number]
        if answer.failed:
            raise EngineUnavailable(answer.failed)
        return answer

    async def subscribe(self, channel: str, keep: History | None) -> Position:
        self._listening[channel] = keep
        return _position(await self._ask(lambda number: HubSubscribe(number, channel, keep)))

    async def unsubscribe(self, channel: str) -> None:
        self._listening.pop(channel, None)
        await self._ask(lambda number: HubUnsubscribe(number, channel))

    async def publish(self, channel: str, data: bytes, options: PublishOptions) -> Position:
        item = WireItem(data, 0, options.kind.value, options.tags, Info.of(options.info) if options.info else None)
        key, keep = options.idempotency_key, options.history
        return _position(await self._ask(lambda number: HubPublish(number, channel, item, keep, key)))

    async def history(
        self, channel: str, keep: History, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> Stream:
        limit = max(-1, min(limit, 1 << 62))
        if since is not None:
            since = Position(since.epoch, max(-(1 << 62), min(since.offset, 1 << 62)))
        answer = await self._ask(lambda number: HubRead(number, channel, keep, since, limit, reverse))
        return Stream([item.publication() for item in answer.items], _position(answer))

    async def remove_history(self, channel: str) -> None:
        await self._ask(lambda number: HubRemove(number, channel))

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        answer = await self._ask(lambda number: HubPresence(number, channel))
        return {client: who.info() for client, who in answer.present.items()}

    async def set_presence(self, channel: str, client: str, info: ClientInfo | None) -> None:
        who = Info.of(info) if info else None
        await self._ask(lambda number: HubSetPresence(number, channel, client, who))

    async def neighbours(self) -> list[str]:
        return (await self._ask(HubNeighbours)).nodes

    async def tell(self, node: str | None, message: bytes) -> None:
        await self._ask(lambda number: HubTell(number, node, message))


def _position(answer: HubReply) -> Position:
    if answer.position is None:
        raise EngineUnavailable("the hub gave no position")
    return answer.position
