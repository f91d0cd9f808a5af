"""python-socketio, for the benchmarks; uvicorn serves it. With REDIS_URL, several processes share its rooms."""

import os

import socketio

url = os.environ.get("REDIS_URL")
sio = socketio.AsyncServer(
    async_mode="asgi",
    cors_allowed_origins="*",
    ping_interval=3600,
    ping_timeout=3600,
    client_manager=socketio.AsyncRedisManager(url) if url else None,
)
app = socketio.ASGIApp(sio)


@sio.on("enter")
async def enter(sid: str) -> bool:
    await sio.enter_room(sid, "bench")
    return True


@sio.on("say")
async def say(sid: str, data: dict[str, object]) -> None:
    await sio.emit("news", data, room="bench")
