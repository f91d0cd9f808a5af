"""The server API: `POST /api/{method}` with JSON and a key, for back ends in any language.

A request that can be read is answered with 200 and `{"result": ...}`, or `{"error": {"code", "message"}}` when it could
not be done. One that cannot be read, or comes from who has no key, gets 4xx and the same kind of error.
"""

import asyncio
import hmac
import logging
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.api.methods import Method, publish_each
from freshet.api.requests import BatchRequest, MethodRequest, PublishRequest
from freshet.api.results import BatchResult, Failure, failure
from freshet.api.table import METHODS
from freshet.commands.server import ServerOperations
from freshet.config import Api
from freshet.errors import EngineUnavailable, Refusal
from freshet.model.json_text import TOO_DEEP, Reader
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.policy.origin import Origins

log = logging.getLogger("freshet.api")

_POLICIES = {  # that refuse a request with these
    HTTPStatus.UNAUTHORIZED: "key",
    HTTPStatus.FORBIDDEN: "origin",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "size",
}

COMMANDS = 10_000  # of one batch
_REQUESTS: list[type[Any]] = [BatchRequest, *(method.request for method in METHODS.values())]
_READERS = {kind: Reader(kind) for kind in _REQUESTS}
NAMES = ", ".join(sorted([*METHODS, "batch"]))

_encode = msgspec.json.Encoder().encode


class Unanswered(Exception):
    """A request that is not carried out. status: HTTP's."""

    def __init__(self, status: HTTPStatus, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = Failure(code, message)


class ApiEndpoint:
    """`/api/{method}`. key: what callers have to send; None: nobody is answered, unless all may call.

    counts: what refusals are added to.
    """

    def __init__(
        self, server: ServerOperations, config: Api, origins: Origins, key: str | None, counts: Counts
    ) -> None:
        self._counts = counts
        self._server = server
        self._config = config
        self._origins = origins
        self._key = key.encode() if key else b""
        self._log = BoundedLog(log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["method"]
        headers: dict[str, str] = {}
        try:
            self._admit(Headers(scope=scope))
            if name not in METHODS and name != "batch":
                raise Unanswered(HTTPStatus.NOT_FOUND, 104, f"no method {name!r}; there are {NAMES}")
            if scope["method"] != "POST":
                headers["Allow"] = "POST"
                raise Unanswered(HTTPStatus.METHOD_NOT_ALLOWED, 107, f"{scope['method']}: expected POST")
            status, answer = HTTPStatus.OK, await self._answer(name, await self._body(scope, receive))
        except Unanswered as why:
            status, answer = why.status, {"error": why.error}
            if (policy := _POLICIES.get(status)) is not None:
                self._counts.refuse(policy)
                client = (scope.get("client") or ["?"])[0]
                self._log.warning(str(status), "a call of the API from %s was refused: %s", client, why)
        except ClientDisconnect:
            return
        if status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'ApiKey header="X-API-Key"'
        response = Response(_encode(answer), status, headers, "application/json")
        await response(scope, receive, send)

    # ----------------------------------------------------------------------------------------------------- who may call

    def _admit(self, headers: Headers) -> None:
        """Raises `Unanswered` for a caller without the key and, where none is asked for, for a page of another site."""
        if self._config.anonymous:
            judged = self._origins.judge("POST", headers)
            if judged.refusal or judged.shared:  # `*` lets pages connect, and is no word for what the server may do
                message = "this origin is not allowed here: see the option `origins`"
                raise Unanswered(HTTPStatus.FORBIDDEN, 103, message)
            return
        if not self._key:
            variable = self._config.key_env
            message = f"the server has no API key: set {variable} or [api] key"
            raise Unanswered(HTTPStatus.UNAUTHORIZED, 101, message)
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key") or (credentials.strip() if scheme.lower() == "apikey" else "")
        if not given:
            raise Unanswered(HTTPStatus.UNAUTHORIZED, 101, "a key is required, in the header X-API-Key")
        if not hmac.compare_digest(given.encode("latin-1"), self._key):
            raise Unanswered(HTTPStatus.UNAUTHORIZED, 101, "the key in X-API-Key is not this server's")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._config.body_size
        parts, size = [], 0
        async for part in Request(scope, receive).stream():
            parts.append(part)
            size += len(part)
            if size > limit:
                message = f"a request has at most {limit} bytes: see the option api.body_size"
                raise Unanswered(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, 106, message)
        return b"".join(parts)

    # ------------------------------------------------------------------------------------------------- what is answered

    async def _answer(self, name: str, body: bytes) -> Any:
        try:
            body.decode()  # a payload goes on to clients as it is
        except UnicodeDecodeError as error:
            raise Unanswered(HTTPStatus.BAD_REQUEST, 107, f"the body is not UTF-8: {error.reason}") from None
        if name == "batch":
            return await self._batch(_read(body, BatchRequest))
        method = METHODS[name]
        done = await self._do(name, method, _read(body, method.request))
        return {"error": done} if isinstance(done, Failure) else {"result": done}

    async def _batch(self, it: BatchRequest) -> BatchResult:
        if len(it.commands) > COMMANDS:
            raise Unanswered(HTTPStatus.BAD_REQUEST, 107, f"commands: at most {COMMANDS}")
        work: list[tuple[str, MethodRequest]] = []
        for index, command in enumerate(it.commands):
            name = next(iter(command), "")
            if len(command) != 1 or name not in METHODS:
                allowed = ", ".join(sorted(METHODS))
                message = f"expected an object with one method's name, of {allowed} - at `$.commands[{index}]`"
                raise Unanswered(HTTPStatus.BAD_REQUEST, 107, message)
            work.append((name, _read(bytes(command[name]), METHODS[name].request, f"commands[{index}].{name}")))
        done = await (self._do_at_once(work) if it.parallel else self._do_in_turn(work))
        pairs = zip(work, done, strict=True)
        return BatchResult([{"error" if isinstance(each, Failure) else name: each} for (name, _), each in pairs])

    async def _do_in_turn(self, work: list[tuple[str, MethodRequest]]) -> list[msgspec.Struct]:
        return [await self._do(name, METHODS[name], parameters) for name, parameters in work]

    async def _do_at_once(self, work: list[tuple[str, MethodRequest]]) -> list[msgspec.Struct]:
        publications = [it for _, it in work if isinstance(it, PublishRequest)]
        if len(publications) < len(work):
            return await asyncio.gather(*(self._do(name, METHODS[name], parameters) for name, parameters in work))
        outcomes = await publish_each(self._server, publications)  # as most batches are: without a task for each
        return [_failure("publish", it) if isinstance(it, BaseException) else it for it in outcomes]

    async def _do(self, name: str, method: Method, parameters: MethodRequest) -> msgspec.Struct:
        try:
            return await method.run(self._server, parameters)
        except Exception as why:
            return _failure(name, why)


def _failure(name: str, why: BaseException) -> Failure:
    if isinstance(why, Refusal | EngineUnavailable):
        return failure(why)
    log.error("/api/%s failed: the caller got an internal server error", name, exc_info=why)
    return failure(Refusal.internal())


def _read(body: bytes, kind: Any, where: str = "") -> Any:
    try:
        return _READERS[kind](body or b"{}")
    except msgspec.ValidationError as error:
        message = str(error).replace("`$", f"`$.{where}" if where else "`$")
        if "unknown field" in message:
            message += f"; there are {', '.join(kind.__struct_fields__)}"
        raise Unanswered(HTTPStatus.BAD_REQUEST, 107, message) from None
    except RecursionError:
        raise Unanswered(HTTPStatus.BAD_REQUEST, 107, TOO_DEEP) from None
    except msgspec.DecodeError as error:
        raise Unanswered(HTTPStatus.BAD_REQUEST, 107, f"not JSON: {error}") from None
