"""Connection state recovery of Socket.IO: a client that was cut off comes back as the same session, and misses nothing.

What the client received is in the stamp that its events carry (where it stands in each room), and in the rooms' logs
is what it missed. What the server has to know beside is who it was and in which rooms: that is the last item of a small
log of its own, so that it is wherever the logs are, on any node and after a restart if the engine keeps them.
"""

from urllib.parse import parse_qsl

import msgspec

from freshet.engines.base import Engine
from freshet.errors import Disconnect
from freshet.model.log import History, Position, PublishOptions
from freshet.session.session import Session


class State(msgspec.Struct, frozen=True):
    """rooms: of each, where the session came in."""

    sid: str
    user: str
    rooms: dict[str, Position]


def _channel(pid: str) -> str:
    return f"\0recovery:{pid}"  # no client can name it: a name of theirs is matched by a rule first


async def remember(engine: Engine, session: Session, ttl: float) -> None:
    """Keep what is needed to go on, for `ttl` seconds from now. Raises EngineUnavailable."""
    rooms = {channel: it.position for channel, it in session.subscriptions.items()}
    state = State(session.id, session.user, rooms)
    options = PublishOptions(history=History(1, ttl))
    await engine.publish(_channel(session.pid), msgspec.json.encode(state), options)


async def recall(engine: Engine, pid: str, ttl: float) -> State | None:
    """What was kept, if it still is. Raises EngineUnavailable."""
    stream = await engine.history(_channel(pid), History(1, ttl), limit=1, reverse=True)
    if not stream.publications or not stream.publications[0].data:
        return None
    return msgspec.json.decode(stream.publications[0].data, type=State)


async def forget(engine: Engine, pid: str) -> None:
    await engine.remove_history(_channel(pid))


def places(state: State, stamp: str) -> dict[str, Position]:
    """Where the client stands in each of its rooms: as it says, otherwise where it came in.

    Raises `Disconnect` for what is no stamp.
    """
    since = dict(state.rooms)
    try:
        for channel, place in parse_qsl(stamp, max_num_fields=len(since)):
            epoch, _, offset = place.rpartition(":")
            if channel in since:
                since[channel] = Position(epoch, int(offset))
    except ValueError:
        raise Disconnect.bad_request("offset: expected what the last event brought") from None
    return since
