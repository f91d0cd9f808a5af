"""python-socketio, for the benchmark of clients; uvicorn serves it."""

import socketio

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", ping_interval=3600, ping_timeout=3600)
app = socketio.ASGIApp(sio)


@sio.on("enter")
async def enter(sid: str) -> bool:
    await sio.enter_room(sid, "bench")
    return True


@sio.on("say")
async def say(sid: str, data: dict[str, object]) -> None:
    await sio.emit("news", data, room="bench")
