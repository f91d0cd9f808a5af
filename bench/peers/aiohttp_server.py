"""aiohttp, on uvloop, for the benchmarks: what one sends, all get. Argument: the port."""

import sys

import uvloop
from aiohttp import WSMsgType, web

everyone: set[web.WebSocketResponse] = set()


async def stay(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    everyone.add(socket)
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                for each in everyone:
                    await each.send_str(message.data)
    finally:
        everyone.discard(socket)
    return socket


if __name__ == "__main__":
    application = web.Application()
    application.router.add_get("/", stay)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), loop=uvloop.new_event_loop(), print=None)
