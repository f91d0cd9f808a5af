"""What this node holds, and what all nodes hold together: each is asked, and answers for itself."""

import asyncio
from collections import Counter
from fnmatch import fnmatchcase

import msgspec

from freshet.node.node import Node, Statistics

HOLDING, CHANNELS = "holding", "channels"
PATIENCE = 2.0  # seconds for the others; who does not answer is missing


class Holding(msgspec.Struct, frozen=True):
    """node: its id. uptime: seconds."""

    node: str
    statistics: Statistics
    uptime: float


async def holdings(node: Node) -> list[Holding]:
    """Of each node, this one first."""
    answers = await node.peers.ask_all(HOLDING, b"", PATIENCE)
    return [msgspec.msgpack.decode(answer, type=Holding) for answer in answers]


async def channels(node: Node, pattern: str = "") -> dict[str, int]:
    """The channels that have subscribers, and how many. pattern: `*` is anything, `?` one character."""
    found: Counter[str] = Counter()
    for answer in await node.peers.ask_all(CHANNELS, pattern.encode(), PATIENCE):
        found.update(msgspec.msgpack.decode(answer, type=dict[str, int]))
    return dict(found)


def listen(node: Node) -> None:
    """Let the node answer what others ask."""

    async def holding(body: bytes, gone: asyncio.Event) -> bytes:
        return msgspec.msgpack.encode(Holding(node.id, node.statistics(), node.uptime()))

    async def hears(body: bytes, gone: asyncio.Event) -> bytes:
        pattern, counts = body.decode(), node.hub.channels()
        fitting = {name: count for name, count in counts.items() if not pattern or fnmatchcase(name, pattern)}
        return msgspec.msgpack.encode(fitting)

    node.peers.verbs |= {HOLDING: holding, CHANNELS: hears}
