"""Runs a Lambda handler: what a handler expects around it; and, as a program, one event after the other.

An event comes on standard input, and what the handler returns goes to standard output, both as JSON behind four bytes
of length. What the handler prints goes to standard error. The process ends with its input.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from freshet.errors import FreshetError

HEADER = 4  # bytes of a length
LOOPBACK = ("https://127.", "https://localhost", "https://[::1]")

Handler = Callable[[Any, Any], Any]


class FunctionError(FreshetError):
    """The handler raised. kind: the name of what it raised."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class LambdaContext:
    """The second argument of a handler. timeout: seconds. See AWS's "Using the Lambda context object"."""

    def __init__(self, function: str, timeout: float) -> None:
        self.function_name = function
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:local:000000000000:function:{function}"
        self.memory_limit_in_mb = 128
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{function}"
        self.log_stream_name = "local"
        self.identity = None
        self.client_context = None
        self._end = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._end - time.monotonic()) * 1000))


def load(function: str, code: str) -> Handler:
    """A handler by its name: `app.handler`, `folder/app.handler`. Raises ImportError, AttributeError."""
    folder = str(Path(code).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module, _, name = function.replace("/", ".").rpartition(".")
    return called(getattr(importlib.import_module(module), name))


def called(handler: Handler) -> Handler:
    """A handler that may be a coroutine's function, as one that is none."""
    if not inspect.iscoroutinefunction(handler):
        return handler
    return lambda event, context: asyncio.run(handler(event, context))


def call_this_machine_by_http() -> None:
    """Let boto3 reach a server of this machine that has no TLS.

    Handlers make `https://` and `domainName` the address of `@connections`, as AWS says. What they sign does not have
    the scheme in it.
    """
    if find_spec("botocore") is None:  # it is the application's, if it has it
        return
    handlers = importlib.import_module("botocore.handlers").BUILTIN_HANDLERS
    if _BY_HTTP not in handlers:
        handlers.append(_BY_HTTP)


def _by_http(request: Any, **_: Any) -> None:
    if request.url.startswith(LOOPBACK):
        request.url = "http" + request.url.removeprefix("https")


_BY_HTTP = ("before-send.apigatewaymanagementapi", _by_http)


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Some, where there are none: without, AWS's libraries make no request, though nobody checks a signature."""
    if environment.get("AWS_ACCESS_KEY_ID") or environment.get("AWS_PROFILE"):
        return {}
    return {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "local"}


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(HEADER, "big") + data


def run(function: str, code: str, timeout: float, source: BinaryIO, sink: BinaryIO) -> None:
    """Until `source` ends."""
    handler: Handler | None = None
    while header := source.read(HEADER):
        event = json.loads(source.read(int.from_bytes(header, "big")))
        try:
            handler = handler or load(function, code)
            reply = json.dumps({"returned": handler(event, LambdaContext(function, timeout))})
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)  # to standard error, the server's log
            reply = json.dumps({"error": type(error).__name__, "message": str(error)})
        sys.stdout.flush()
        sink.write(framed(reply.encode()))
        sink.flush()


def main() -> None:
    function, code, timeout, scheme = sys.argv[1:]
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the handler prints
    if scheme == "http":
        call_this_machine_by_http()
    run(function, code, float(timeout), sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
