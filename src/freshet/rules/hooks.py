"""A user's functions: checked once when they are registered, called with what they ask for.

A hook may be `async def` or `def`. Its first parameters are given by position, all others by name. A type on `data`
(anything that msgspec can convert to, or a pydantic model) is what the client's JSON is converted to.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from types import CoroutineType, SimpleNamespace
from typing import Any, NamedTuple, Self, get_type_hints

import msgspec
import msgspec.inspect

from freshet.errors import Refusal
from freshet.model.entries import Expected
from freshet.model.json_text import decode, encode, has_half, one_line
from freshet.model.log import Kind

Function = Callable[..., Any]
_Custom = msgspec.inspect.CustomType


class HookLimits(NamedTuple):
    """How long a hook may take. timeout: seconds in all. grace: seconds once its client is gone.

    None: as `timing.hook_timeout` and `timing.hook_grace` say.
    """

    timeout: float | None = None
    grace: float | None = None

    def checked(self, name: str) -> Self:
        """Raises ValueError for what cannot be."""
        for limit, value, least in (("timeout", self.timeout, 0.001), ("grace", self.grace, 0)):
            if value is not None and not least <= value < math.inf:
                raise ValueError(f"{name}: {limit}: expected seconds, {least:g} or more, got {value}")
        return self


def must_have_name(given: object, decorator: str) -> None:
    """Raises TypeError for `@live.rpc` without its name, which would replace the function and register nothing."""
    if not isinstance(given, str):
        raise TypeError(f'@{decorator} wants a name: @{decorator}("..."), got {given!r}')


def name_of(function: Function) -> str:
    """For logs and metrics. Of an object that is called, its class: where it is in memory is nobody's business."""
    named: str = getattr(function, "__qualname__", "") or type(function).__qualname__
    return named


class Hook:
    """One function of the user's.

    positional: what its first parameters are given. named: what it may ask for by name.

    Raises TypeError at once, with what is allowed, when the function asks for something else.
    """

    __slots__ = ("_data", "_data_at", "_function", "_named", "_positional", "limits", "name")

    def __init__(
        self,
        function: Function,
        positional: tuple[str, ...],
        named: Iterable[str] = (),
        limits: HookLimits = HookLimits(),  # noqa: B008 - it is immutable
    ) -> None:
        self.name = name_of(function)
        self.limits = limits.checked(self.name)
        self._function = function
        self._positional = positional
        self._data_at = positional.index("data") if "data" in positional else -1
        parameters = inspect.signature(function).parameters
        first, asked = list(parameters)[: len(positional)], list(parameters)[len(positional) :]
        by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        if len(first) < len(positional) or any(parameters[name].kind in by_name for name in first):
            raise TypeError(f"{self.name} must take {', '.join(positional)} by position")
        allowed = set(named)
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in asked:
            parameter = parameters[name]
            fits = name in allowed or parameter.default is not parameter.empty
            if not fits and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                may = ", ".join(sorted(allowed)) or "nothing more"
                raise TypeError(f"{self.name} asks for {name!r}; after {', '.join(positional)} it may ask for {may}")
        self._named = frozenset(allowed if takes_all else allowed & set(asked))
        name = first[positional.index("data")] if "data" in positional else "data"
        self._data = self._type_of(function, name)

    @property
    def asks(self) -> frozenset[str]:
        """What it asks for by name."""
        return self._named

    def _type_of(self, function: Function, name: str) -> Any:
        """The type of one parameter; what other parameters are typed with need not be there when this runs."""
        real = inspect.unwrap(function)
        hint = getattr(real, "__annotations__", {}).get(name, Any)
        try:
            only = SimpleNamespace(__annotations__={name: hint})
            kind = get_type_hints(only, getattr(real, "__globals__", {}), include_extras=True)[name]
        except NameError as error:
            raise TypeError(f"{self.name}: the type of {name} cannot be resolved here: {error}") from None
        if not hasattr(kind, "model_validate_json") and isinstance(msgspec.inspect.type_info(kind), _Custom):
            raise TypeError(f"{self.name}: JSON cannot be converted to the type of {name}, {kind}")
        return kind

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function. `data` among the arguments is JSON, given to it converted.

        What the function takes by position may be among `named` too.

        Raises what the function raises, and `Refusal` 107 when the data does not fit its type.
        """
        given = list(arguments)
        if len(given) < len(self._positional):
            given += [named[name] for name in self._positional[len(given) :]]
        if self._data_at >= 0:
            given[self._data_at] = self._convert(given[self._data_at])
        asked = {name: named[name] for name in self._named if name in named}
        if "data" in asked:
            asked["data"] = self._convert(asked["data"])
        try:
            result = self._function(*given, **asked)
            return await result if type(result) is CoroutineType or inspect.isawaitable(result) else result
        except Refusal as why:
            why.by_application = True
            raise

    def _convert(self, data: Any) -> Any:
        if not isinstance(data, bytes):
            return data  # text and bytes that are not JSON come as they are
        if not data:
            return None
        try:
            if not hasattr(self._data, "model_validate_json"):
                return decode(data, self._data)
            if has_half(data):  # pydantic's own reader refuses it wherever it is
                return self._data.model_validate(decode(data))
            return self._data.model_validate_json(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refusal.bad_request(misfit("data", error)) from None


def misfit(name: str, error: Any) -> str:
    """What of `name` does not fit its type: pydantic's own text repeats what was sent, and links to a page."""
    if not hasattr(error, "errors"):
        return f"{name}: {error}"
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join((name, *map(str, each['loc'])))}: {each['msg']}" for each in found)


class Welcome(msgspec.Struct, frozen=True):
    """What the hook `on_connect` may return: who the client is, and what it starts with.

    user: replaces the token's. info: what others in a channel see of it. channels: it is subscribed to them by the
    server. data: goes to the client with the reply. expires: epoch seconds.
    """

    user: str | None = None
    info: Any = None
    channels: list[str] = []
    data: Any = None
    expires: float | None = None


class Hooks:
    """The user's functions that belong to no channel rule."""

    __slots__ = ("any_rpc", "api", "connect", "disconnect", "message", "own_rpc", "refresh", "rpc")

    def __init__(self) -> None:
        self.connect: Hook | None = None
        self.disconnect: Hook | None = None
        self.message: Hook | None = None
        self.refresh: Hook | None = None  # until when a client may stay whose time is over
        self.rpc: dict[str, Hook] = {}  # of clients
        self.own_rpc: dict[str, Hook] = {}  # the server's own, of clients
        self.any_rpc: Hook | None = None  # for methods that are not among them
        self.api: dict[str, Hook] = {}  # of callers of the server API

    def method(self, name: str) -> Hook | None:
        """What a client calls by this name: the user's, or else the server's own."""
        return self.rpc.get(name) or self.own_rpc.get(name)


def to_json(value: Any) -> bytes:
    """A value of the user's as UTF-8 JSON on one line: what msgspec knows, and pydantic models.

    Raises TypeError for anything else.
    """
    return one_line(encode(value, _unknown))  # a `Raw` is as it was written


def as_expected(value: Any) -> bytes | None:
    """What an entry is expected to be, as `EntryChange.expect` has it. Raises as `to_json`."""
    if isinstance(value, Expected):
        return None if value is Expected.ANY else b""
    return to_json(value)


def as_payload(value: Any) -> tuple[bytes, Kind]:
    """What a user publishes: bytes stay bytes, everything else becomes JSON. Raises as `to_json`."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), Kind.BYTES
    return to_json(value), Kind.JSON


def _unknown(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__qualname__} cannot be written as JSON")
