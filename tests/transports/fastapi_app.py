"""A FastAPI application with Freshet under /live, and routes of its own: what the tests of the shells serve."""

import asyncio
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, WebSocket
from pydantic import BaseModel

from freshet import Freshet, History, Refusal, Session, Welcome

live = Freshet(secret="a secret for tests, thirty-two bytes")
chat = live.channel("chat:{room}", history=History(size=100, ttl=60), presence=True, publish="subscriber")
news = live.channel("news", history=History(size=100, ttl=60))
gone: list[str] = []


class Line(msgspec.Struct):
    text: str


class Order(BaseModel):
    number: int


@live.on_connect
async def connect(session: Session, data: Any) -> Welcome | None:
    if data == "refuse":
        raise Refusal.unauthorized("not today")
    return Welcome(user="guest", channels=["news"], data={"hello": "guest"}) if data == "guest" else None


@live.on_disconnect
def disconnect(session: Session) -> None:
    gone.append(session.user)


@chat.on_subscribe
async def may_join(session: Session, room: str) -> None:
    await asyncio.sleep(0)
    if room == "closed":
        raise Refusal(1001, "not a member")


@chat.on_publish
async def moderate(session: Session, data: Line, room: str) -> dict[str, str]:
    if data.text == "crash":
        raise RuntimeError("a mistake of the user's")
    return {"text": data.text.upper(), "from": session.user, "room": room}


@live.rpc("order")
def order(session: Session, data: Order) -> Order:
    return Order(number=data.number + 1)


api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)


@api.post("/news/{number}")
async def publish(number: int) -> dict[str, int]:
    position = await live.publish("news", Order(number=number))
    return {"offset": position.offset}


@api.post("/news/{number}/{way}")
def publish_from_a_thread(number: int, way: str) -> dict[str, int]:
    if way == "sync":
        position = live.sync.publish("news", Order(number=number))
    else:
        position = asyncio.run(live.publish("news", Order(number=number)))
    return {"offset": position.offset}


@api.get("/gone")
async def who_is_gone() -> list[str]:
    return gone


@api.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    if "refuse" in socket.query_params:
        raise HTTPException(418, "no")
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=offered[0] if offered else None, headers=[(b"x-own", b"yes")])
    async for message in socket.iter_text():
        if message == "bye":
            await socket.close(4001, "as you wish")
            return
        if message == "crash":
            raise RuntimeError("a mistake of the user's")
        await socket.send_text(message)
