"""A chat: rooms with a log, who is there, who is typing. What a lost connection missed comes from the log.

Clients of Centrifuge and of Socket.IO are in the same rooms. Nothing here knows which is which.
"""

import asyncio
import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from freshet import Freshet, History, Refusal, Session, Welcome
from freshet.demos.pace import Pace
from freshet.demos.visitors import Visitor

HOUR = 3600  # seconds
ROOMS = {
    "lobby": "keeps its last 100 messages for an hour. Cut your connection and come back to all of it.",
    "tea": "is a second room, with a log and people of its own.",
    "goldfish": "keeps only its last 5 messages. Cut your connection here to see how a loss is reported.",
}

live = Freshet()
live.namespace("/", recovery=2 * 60)  # so that Socket.IO's events say where in the log they are
# The goldfish forgets: its log is too short for a long absence, so that you see what happens then.
goldfish = live.channel(
    "room:goldfish", history=History(size=5, ttl=HOUR), presence=True, join_leave=True, publish="subscriber"
)
rooms = live.channel(
    "room:{room}", history=History(size=100, ttl=HOUR), presence=True, join_leave=True, publish="subscriber"
)
typing = live.channel("typing:{room}", publish="subscriber")  # no log: an old "is typing" is worth nothing


class Written(msgspec.Struct):
    text: Annotated[str, Meta(max_length=500)]


@live.on_connect
async def welcome(session: Session, data: Visitor | None) -> Welcome:
    """Everyone may come in; `info` is what the others see of them."""
    if data is None:
        raise Refusal.bad_request("a visitor needs a name")
    return Welcome(user=session.id, info=data, data={"rooms": ROOMS})


@rooms.on_subscribe
@typing.on_subscribe
async def must_exist(session: Session, room: str) -> None:
    if room not in ROOMS:
        raise Refusal.unknown_channel(f"no room {room!r}; there are {', '.join(ROOMS)}")


writing = Pace(rate=1, burst=5)
hinting = Pace(rate=1, burst=2)


@rooms.on_publish
@goldfish.on_publish
async def write(session: Session, data: Written) -> dict[str, Any]:
    """What a visitor wrote, as it goes into the log. Who wrote it is added here, so nobody can pretend."""
    writing.check(session)
    text = data.text.strip()
    if not text:
        raise Refusal.bad_request("a message needs a text")
    return message(text, session)


@typing.on_publish
async def hint(session: Session, data: Any) -> dict[str, Any]:
    hinting.check(session)
    return {"at": time.time() * 1000, "by": who(session.id, session.info)}


def message(text: str, by: Session | None = None) -> dict[str, Any]:
    """at: the server's clock in milliseconds, for the time that is shown and the latency that is measured."""
    return {"text": text, "at": time.time() * 1000, "by": who(by.id, by.info) if by else None}


def who(client: str, info: msgspec.Raw) -> dict[str, str]:
    return {"client": client, "name": msgspec.json.decode(info, type=Visitor).name}


# ------------------------------------------------------------------ what Socket.IO has no words of its own for


@live.rpc("rooms")
async def all_rooms(session: Session, data: None) -> dict[str, str]:
    return ROOMS


@live.rpc("people")
async def people(session: Session, data: str) -> list[dict[str, str]]:
    """Who is in a room."""
    present = await live.presence(f"room:{data}")
    return [who(client, it.conn_info) for client, it in present.items()]


@live.rpc("past")
async def past(session: Session, data: str) -> list[dict[str, Any]]:
    """The last messages of a room, newest first."""
    stream = await live.history(f"room:{data}", limit=50, reverse=True)
    return [{"offset": each.offset, "data": msgspec.Raw(each.data)} for each in stream.publications]


# ------------------------------------------------------------------------------ a robot, for those who are alone here

LINES = [
    "You are away, so I write to this room: eight messages.",
    "Each one gets the next offset of the room's log.",
    "Your page remembers the last offset that it has seen.",
    "It misses all of this.",
    "When it is back, it says: I stood at that offset.",
    "The server answers with all that came after, in order.",
    "Or it says that the log no longer reaches back. Never a part.",
    "That was the eighth. Welcome back!",
]
talking: dict[str, asyncio.Task[None]] = {}  # by room, so that there is never more than one in it


@live.rpc("robot")
async def robot(session: Session, data: str) -> None:
    """Talk in a room for four seconds: a visitor is about to cut their connection."""
    if data not in ROOMS:
        raise Refusal.bad_request(f"no room {data!r}; there are {', '.join(ROOMS)}")
    if data not in talking:
        talking[data] = asyncio.create_task(talk(data))


async def talk(room: str) -> None:
    try:
        for line in LINES:
            await asyncio.sleep(0.5)
            await live.publish(f"room:{room}", message(line))
    finally:
        del talking[room]
