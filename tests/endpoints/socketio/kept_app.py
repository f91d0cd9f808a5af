"""A shop on Socket.IO: what the tests with official clients talk to."""

import asyncio
import os
from collections import Counter
from contextlib import suppress
from typing import Any

from freshet import Disconnect, Freshet, History, Refusal, Session, SocketSession, Welcome
from freshet.config import parse

PING = float(os.environ.get("TEST_PING", "1"))  # seconds

live = Freshet(
    config=parse(
        {
            "engine": os.environ.get("TEST_ENGINE", "memory://"),
            "tokens": {"anonymous": True},
            "api": {"anonymous": True},
            "timing": {"ping_interval": PING, "pong_timeout": 0.8 * PING},
            "origins": ["*", "https://page.example"],
            "limits": {
                "connects_per_second": float(os.environ.get("TEST_CONNECTS", "0")),
                "connects_burst": int(os.environ.get("TEST_BURST", "1")),
            },
        }
    ),
    environment={},
)
live.channel("lot:{id}", history=History(size=100, ttl=60))
live.channel("quiet:{name}")
live.channel("sealed:{name}", history=History(size=100, ttl=60), subscribe="token")
live.channel("small:{name}", history=History(size=2, ttl=60))
live.channel("log:{name}", history=History(size=1000, ttl=60), presence=True, publish="client", read="client")
shop = live.namespace("/shop")
banned: set[str] = set()
later: Counter[str] = Counter()  # how often somebody is refused who may come a moment later


@shop.on_connect
async def connect(session: Session, auth: dict[str, Any]) -> Welcome:
    if auth.get("name") == "nobody":
        raise Refusal.permission_denied("not you")
    if later[auth["name"]]:
        later[auth["name"]] -= 1
        raise Refusal.internal("not now")
    if auth.get("greet"):
        await session.emit("greeting", 1)
        await session.emit("greeting", 2)
    return Welcome(user=auth["name"])


@shop.on("come later")
async def come_later(session: SocketSession) -> None:
    later[session.user] = 2
    await session.disconnect(Disconnect.force_reconnect())


@shop.on("bid")
async def bid(session: Session, lot: str, amount: int) -> dict[str, Any]:
    return {"lot": lot, "amount": amount}


@shop.on("mirror")
async def mirror(session: Session, *arguments: Any) -> list[Any]:
    return list(arguments)


@shop.on("ask me")
async def ask(session: Session, question: str) -> str:
    return str(await session.call("confirm", question, timeout=5))


@shop.on("ask slowly")
async def ask_slowly(session: Session) -> str:
    try:
        await session.call("silence", timeout=0.2)
    except TimeoutError:
        return "no answer"
    return "an answer"


@shop.on("from a thread")
async def from_a_thread(session: SocketSession, lot: str) -> Any:
    async def work() -> Any:
        await session.join(lot)
        await shop.emit("price", 1, room=lot)
        await live.emit("price", 2, room=lot, namespace="/shop")
        await session.emit("hint", 3)
        answer = await session.call("confirm", "sure?", timeout=5)
        await session.leave(lot)
        await shop.emit("price", 4, room=lot)
        return answer

    return await asyncio.to_thread(asyncio.run, work())


@shop.on("leave from a thread")
async def leave_from_a_thread(session: SocketSession) -> None:
    await asyncio.to_thread(asyncio.run, session.disconnect())


@shop.on("ask twice")
async def ask_twice(session: SocketSession) -> str:
    with suppress(TimeoutError):
        await session.call("late", timeout=0.2)
    return str(await session.call("confirm", "again?", timeout=5))


@shop.on("7")
async def seven(session: Session, value: str) -> str:
    return value


@shop.on("enter")
async def enter(session: Session, room: str) -> None:
    await session.join(room)


@shop.on("exit")
async def leave(session: Session, room: str) -> None:
    await session.leave(room)


@shop.on("tell")
async def tell(session: Session, room: str, price: int) -> None:
    await shop.emit("price", price, "EUR", room=room)
    await shop.emit("all", price)


@shop.on("forth")
async def forth(session: Session, number: int) -> None:
    await session.emit("back", number)


@shop.on("flood")
async def flood(session: Session, count: int) -> None:
    for number in range(count):
        await session.emit("drop", number, "x" * 10_000, volatile=True)
        if number % 10 == 0:
            await asyncio.sleep(0)
    await live.publish("log:flooded", count)


@shop.on("throw me out")
async def throw_out(session: Session) -> None:
    await session.disconnect()


kept = live.namespace("/kept", recovery=30)


@kept.on_connect
async def connect_kept(session: Session, auth: dict[str, Any]) -> Welcome:
    if auth["name"] in banned:
        raise Refusal.permission_denied("not you")
    return Welcome(user=auth["name"])


@kept.on("enter")
async def enter_kept(session: Session, *rooms: str) -> None:
    for room in rooms:
        await session.join(room)


@kept.on("tell")
async def tell_kept(session: Session, room: str, price: int) -> None:
    await kept.emit("price", price, room=room)


@kept.on("tell all")
async def tell_all(session: Session, text: str) -> None:
    await kept.emit("all", text)


@kept.on("ban")
async def ban(session: Session, name: str) -> None:
    banned.add(name)


@kept.on("throw me out")
async def throw_out_kept(session: Session) -> None:
    await session.disconnect()


@live.rpc("add")
async def add(session: Session, data: list[int]) -> int:
    return sum(data)
