"""PyPI `socketify`, which is uWebSockets, for the benchmarks: what one sends, all get. Argument: the port."""

import sys
from typing import Any

from socketify import App, AppListenOptions

app = App()


def enter(socket: Any) -> None:
    socket.subscribe("bench")


def say(_: Any, message: str, opcode: int) -> None:
    app.publish("bench", message, opcode)


app.ws("/*", {"compression": 0, "max_backpressure": 1 << 26, "idle_timeout": 0, "open": enter, "message": say})
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
# Its own `run` asks asyncio and libuv in turn, without a rest; this is uWebSockets alone.
app.loop.uv_loop.run()
