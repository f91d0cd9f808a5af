"""An application that webhooks go to: a real HTTP server in a thread, that answers as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.tools.patience import seconds


class Receiver:
    """An application. answers: what it says to each request, the last of them again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = [(200, b'{"may":true}', {})]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.at_once = self.most_at_once = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"

    def serve(self, it: BaseHTTPRequestHandler) -> None:
        body = it.rfile.read(int(it.headers["content-length"]))
        self.requests.append(({name.lower(): value for name, value in it.headers.items()}, body))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.hold.wait(seconds(10))
        self.at_once -= 1
        status, answer, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0:
            it.close_connection = True
            it.connection.close()
            return
        it.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            it.send_header(name, value)
        it.end_headers()
        it.wfile.write(answer)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.hold.set()
        receiver.server.shutdown()
        receiver.server.server_close()
