"""What answers a route: the interface, what an answer is, and the two that need nobody: Python functions, and mocks.

An integration is called as hooks are (`node.invoking`), so that each has its time. It gets an `Occurrence`, of which it
takes what it needs: the event as AWS has it is made only for those who ask for it.
"""

from abc import ABC, abstractmethod
from base64 import b64decode
from binascii import Error
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from freshet.endpoints.gateway.connection import Connection
from freshet.endpoints.gateway.events import JsonObject
from freshet.errors import FreshetError
from freshet.model.json_text import is_json, whole_text
from freshet.rules.hooks import Hook, HookLimits, to_json

SUBPROTOCOL = "sec-websocket-protocol"


class IntegrationFailed(FreshetError):
    """It gave no answer that can be read; the message says why, for the log."""


class IntegrationResult(NamedTuple):
    """subprotocol: what `$connect` chose of those that were offered."""

    status: int = HTTPStatus.OK
    body: bytes = b""
    binary: bool = False
    subprotocol: str = ""

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


ACCEPTED = IntegrationResult()


class Occurrence:
    """Something that happened to a connection. data: of a message. code, reason: of a disconnect."""

    __slots__ = ("_event", "_make", "binary", "code", "connection", "data", "reason")

    def __init__(
        self,
        connection: Connection,
        make: Callable[[], JsonObject],
        data: bytes = b"",
        binary: bool = False,
        code: int = 0,
        reason: str = "",
    ) -> None:
        self.connection = connection
        self.data = data
        self.binary = binary
        self.code = code
        self.reason = reason
        self._make = make
        self._event: JsonObject | None = None

    @property
    def event(self) -> JsonObject:
        if self._event is None:
            self._event = self._make()
        return self._event


class Integration(ABC):
    """Implements `node.invoking.Invocable`."""

    name: str
    limits: HookLimits

    @abstractmethod
    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The answer to an `Occurrence`. Raises `IntegrationFailed`, `Refusal`, and what a function raises."""

    def start(self) -> None:  # noqa: B027 - most have nothing to start
        """The node starts, or runs already when the route is registered."""

    async def stop(self) -> None:  # noqa: B027 - most have nothing to stop
        """The node stops."""


class Mock(Integration):
    def __init__(self, key: str, status: int, body: str) -> None:
        self.name = f"mock of {key}"
        self.limits = HookLimits()
        self._answer = IntegrationResult(status, body.encode())

    async def __call__(self, *arguments: Any, **named: Any) -> IntegrationResult:
        return self._answer


class PythonFunction(Integration):
    """A function of the application's: what it returns, unless that is None, is the answer's body."""

    def __init__(self, function: Callable[..., Any], positional: tuple[str, ...], named: tuple[str, ...]) -> None:
        self._takes_data = "data" in positional
        self._hook = Hook(function, positional, named)
        self.name = self._hook.name
        self.limits = HookLimits()
        self._named = frozenset(named)

    async def __call__(self, *arguments: Any, **named: Any) -> IntegrationResult:
        occurrence: Occurrence = arguments[0]
        given: list[Any] = [occurrence.connection]
        if self._takes_data:
            given.append(_given(occurrence))
        asked: dict[str, Any] = {}
        if "event" in self._hook.asks:
            asked["event"] = occurrence.event
        if "code" in self._named:
            asked |= {"code": occurrence.code, "reason": occurrence.reason}
        returned = await self._hook(*given, **asked)
        if returned is None:
            return ACCEPTED
        if isinstance(returned, bytes | bytearray | memoryview):
            return IntegrationResult(body=bytes(returned), binary=True)
        return IntegrationResult(body=whole_text(returned).encode() if isinstance(returned, str) else to_json(returned))


def _given(occurrence: Occurrence) -> Any:
    """JSON as bytes, which the function gets converted; other texts as they are, and bytes as a view of them."""
    if occurrence.binary:
        return memoryview(occurrence.data)
    try:
        return occurrence.data if is_json(occurrence.data) else occurrence.data.decode()
    except RecursionError:  # more levels than can be read: it goes as the text that it also is
        return occurrence.data.decode()


class LambdaAnswer(msgspec.Struct):
    """What a Lambda function of a proxy integration returns."""

    statusCode: int | str  # noqa: N815 - the name is AWS's
    body: Any = None
    headers: dict[str, Any] | None = None
    isBase64Encoded: bool = False  # noqa: N815 - the name is AWS's


def answer_of(returned: Any, *, must: bool) -> IntegrationResult:
    """Of a Lambda function. must: it has to say a status. Raises `IntegrationFailed`."""
    if returned is None and not must:
        return ACCEPTED
    try:
        answer = msgspec.convert(returned, LambdaAnswer)
        status = int(answer.statusCode)
    except (msgspec.ValidationError, ValueError):
        if must:
            raise IntegrationFailed("the function did not return a statusCode") from None
        return ACCEPTED
    body = b""
    try:
        if answer.body is not None:
            body = answer.body.encode() if isinstance(answer.body, str) else to_json(answer.body)
        body = b64decode(body, validate=True) if answer.isBase64Encoded else body
    except (TypeError, Error) as error:
        raise IntegrationFailed(f"the body that the function returned cannot be read: {error}") from None
    chosen = next((value for name, value in (answer.headers or {}).items() if name.lower() == SUBPROTOCOL), "")
    return IntegrationResult(status, body, answer.isBase64Encoded, str(chosen))


def answered(returned: Any, *, must: bool = False) -> IntegrationResult:
    """What an integration answered, whichever it is. must: it has to say a status. Raises `IntegrationFailed`."""
    return returned if isinstance(returned, IntegrationResult) else answer_of(returned, must=must)
