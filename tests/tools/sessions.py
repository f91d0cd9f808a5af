"""A node in this process, and clients of it without a network: the raw commands in, the raw replies out."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from freshet import Freshet
from freshet.commands.dispatch import Dispatcher
from freshet.config import Config, Tokens
from freshet.dialects.base import Dialect
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.engines.base import Engine
from freshet.engines.memory import MemoryEngine
from freshet.model.commands import Command
from freshet.model.frame import Frame, Handshake
from freshet.node.node import Node
from freshet.policy.base import Policy
from freshet.rules.rules import ChannelRule
from freshet.runtime.clock import SYSTEM, Clock
from freshet.session.session import Session
from tests.tools.patience import eventually

Wire = dict[str, Any]
ANONYMOUS = Config(tokens=Tokens(anonymous=True))
HERE = Handshake("/")

_ids = count(1)


@asynccontextmanager
async def running(
    *rules: ChannelRule,
    policies: Sequence[Policy] = (),
    config: Config = ANONYMOUS,
    engine: Engine | None = None,
    clock: Clock = SYSTEM,
) -> AsyncIterator[Dispatcher]:
    """A dispatcher above a node that runs until the block ends. Without policies everybody may do everything."""
    node = Node(config, engine or MemoryEngine(config.timing.presence_ttl, clock), clock=clock)
    for rule in rules:
        node.rules.add(rule)
    await node.start()
    try:
        yield Dispatcher(node, policies)
    finally:
        await node.stop()


def dev(**options: Any) -> Freshet:
    """An application that is open to everybody, whatever the environment says."""
    return Freshet(dev=True, environment={}, **options)


def opened(
    server: Dispatcher | Freshet, dialect: Dialect | None = None, headers: dict[str, str] | None = None
) -> Session:
    """A session of a client that has said nothing yet. headers: of its request."""
    dispatcher = server._dispatcher if isinstance(server, Freshet) else server
    return dispatcher.open(dialect or Centrifuge(), Handshake("/", headers=headers) if headers else HERE)


def taken(session: Session) -> list[Wire]:
    """What waits for a client, taken."""
    return [json.loads(line) for frame in session.outbox.take() for line in frame.data.split(b"\n")]


async def from_loop(call: Callable[..., None], *arguments: object) -> None:
    """Let the event loop call it, as it calls a transport: in no task."""
    asyncio.get_running_loop().call_soon(call, *arguments)
    await asyncio.sleep(0)


async def say(session: Session, *commands: Wire) -> list[Wire]:
    """Give commands to a session, and take what waits for its client when all are done."""
    await from_loop(session.receive, Frame(b"\n".join(json.dumps(command).encode() for command in commands)))
    await eventually(lambda: not session.busy)
    return taken(session)


async def do(session: Session, *commands: Command) -> list[Wire]:
    """As `say`, past the dialect."""
    await from_loop(session.do, list(commands))
    await eventually(lambda: not session.busy)
    return taken(session)


async def ask(session: Session, method: str, /, **request: Any) -> Wire:
    """The reply to one command: `{method: ...}` or `{"error": ...}`; what else came is taken too."""
    id = next(_ids)
    replies = await say(session, {"id": id, method: request})
    [reply] = [each for each in replies if each.get("id") == id]
    return reply


async def refused(session: Session, method: str, /, **request: Any) -> int:
    """The code with which a command is refused."""
    return int((await ask(session, method, **request))["error"]["code"])


async def connected(server: Dispatcher | Freshet, **request: Any) -> Session:
    """A session whose client has connected."""
    session = opened(server)
    reply = await ask(session, "connect", **request)
    assert reply["connect"]["client"] == session.id
    return session


async def came(server: Dispatcher, user: str, *channels: str) -> Session:
    """A session of `user`, subscribed by the server to `channels`, with nothing waiting for its client."""
    session = opened(server)
    session.user = user
    await say(session, {"id": next(_ids), "connect": {}})
    for channel in channels:
        await session.join(channel)
    taken(session)
    return session


def code(session: Session) -> int | None:
    """With which code the server closes it; None: not at all."""
    return session.outbox.closed.code if session.outbox.closed else None
