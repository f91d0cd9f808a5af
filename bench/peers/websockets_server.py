"""PyPI `websockets` with its `broadcast`, on uvloop: what one sends, all get. Argument: the port."""

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

everyone: set[ServerConnection] = set()


async def stay(socket: ServerConnection) -> None:
    everyone.add(socket)
    try:
        async for message in socket:
            broadcast(everyone, message)
    finally:
        everyone.discard(socket)


async def main() -> None:
    async with serve(stay, "127.0.0.1", int(sys.argv[1]), compression=None, ping_interval=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
