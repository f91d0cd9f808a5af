"""Socket.IO's side of the application: namespaces, and the functions that answer the events of their clients."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import msgspec

from freshet.dialects.socketio.packets import ARGUMENTS, EVENT, NAMESPACE, SocketIO
from freshet.errors import Refusal
from freshet.model.json_text import decode
from freshet.model.log import History, Kind, Position
from freshet.rules.hooks import Function, Hook, HookLimits, as_payload, misfit, name_of
from freshet.rules.rules import ChannelRule, ChannelRules

F = TypeVar("F", bound=Function)
ServerPublish = Callable[[str, tuple[bytes, Kind], Mapping[str, str] | None], Awaitable[Position]]
_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD


class EventHook:
    """A function of the user's for one event: `function(session, *arguments)`; what it returns is the acknowledgement.

    A type on a parameter (anything that msgspec can convert to, or a pydantic model) is what the client's argument is
    converted to. concurrent: it need not wait for the client's events before it, nor they for it.
    """

    __slots__ = ("_function", "_most", "_names", "_needed", "_types", "concurrent", "limits", "name")

    def __init__(
        self,
        function: Function,
        concurrent: bool = False,
        limits: HookLimits = HookLimits(),  # noqa: B008 - it is immutable
    ) -> None:
        self.name = name_of(function)
        self.limits = limits.checked(self.name)
        self.concurrent = concurrent
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].kind not in (_PLAIN, inspect.Parameter.POSITIONAL_ONLY):
            raise TypeError(f"{self.name} must take the session first")
        given = parameters[1:]
        by_position = [it for it in given if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
        if any(it.kind is it.KEYWORD_ONLY and it.default is it.empty for it in given):
            raise TypeError(f"{self.name}: an event's arguments come by position")
        rest = next((it for it in given if it.kind is it.VAR_POSITIONAL), None)
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
        self._names = [it.name for it in by_position]
        self._types = [hints.get(it.name, Any) for it in by_position]
        self._needed = sum(it.default is it.empty for it in by_position)
        self._most = None if rest else len(by_position)

    async def __call__(self, session: Any, arguments: list[Any]) -> Any:
        """Raises what the function raises, and `Refusal` 107 when the arguments do not fit."""
        if len(arguments) < self._needed or (self._most is not None and len(arguments) > self._most):
            most = "more" if self._most is None else str(self._most)
            expected = str(self._needed) if most == str(self._needed) else f"{self._needed} to {most}"
            raise Refusal.bad_request(f"expected {expected} arguments ({', '.join(self._names)}), got {len(arguments)}")
        values = [self._convert(at, value) for at, value in enumerate(arguments)]
        result = self._function(session, *values)
        return await result if inspect.isawaitable(result) else result

    def _convert(self, at: int, value: Any) -> Any:
        kind = self._types[at] if at < len(self._types) else Any
        return converted(value, kind, self._names[at] if at < len(self._names) else "arguments")


def converted(value: Any, kind: Any, name: str) -> Any:
    """An argument as a type. value: JSON as it came, `msgspec.Raw`, or decoded. name: what it is for.

    Raises `Refusal` 107 when it does not fit.
    """
    try:
        if hasattr(kind, "model_validate"):
            return kind.model_validate(decode(bytes(value)) if type(value) is msgspec.Raw else value)
        if type(value) is msgspec.Raw:
            return decode(bytes(value), kind)
        return value if kind is Any else msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal.bad_request(misfit(name, error)) from None


class Namespace:
    """One Socket.IO namespace: its sessions, and the functions for their events. Made by `Freshet.namespace`.

    recovery: seconds for which a client that was cut off may resume its session; 0: it may not.
    """

    def __init__(self, name: str, publish: ServerPublish, recovery: float = 0) -> None:
        self.name = name
        self.recovery = recovery
        self.dialect = SocketIO(name, recovers=recovery > 0)
        self.connect: Hook | None = None
        self.disconnect: Hook | None = None
        self.events: dict[str, EventHook] = {}
        self._publish = publish

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    def take_over(self, other: "Namespace") -> None:
        """The functions that another of the same name had."""
        self.connect, self.disconnect, self.events = other.connect, other.disconnect, other.events

    def on_connect(self, function: F) -> F:
        """`function(session, auth)` runs when a client connects here; it may ask for `request`, may return `Welcome`.

        auth: what the client sent along. A `Refusal` is the client's `connect_error`.
        """
        self.connect = Hook(function, ("session", "data"), ("request",))
        return function

    def on_disconnect(self, function: F) -> F:
        """`function(session)` runs when a client has left this namespace; it may ask for `why`, a `Disconnect`."""
        self.disconnect = Hook(function, ("session",), ("why",))
        return function

    def on(
        self,
        event: str,
        *,
        concurrent: bool = False,
        timeout: float | None = None,
        grace: float | None = None,
    ) -> Callable[[F], F]:
        """`function(session, *arguments)` answers an event; what it returns is the acknowledgement.

        The events of one client are answered in order, one at a time; concurrent: this one at once. timeout, grace: see
        `Freshet.rpc`.
        """

        def register(function: F) -> F:
            self.events[event] = EventHook(function, concurrent, HookLimits(timeout, grace))
            return function

        return register

    async def emit(
        self, event: str, *arguments: Any, room: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Position:
        """See `Freshet.emit`."""
        tags = {**(tags or {}), EVENT: event, NAMESPACE: self.name}
        if len(arguments) != 1:
            tags[ARGUMENTS] = str(len(arguments))
        payload = as_payload(arguments[0] if len(arguments) == 1 else arguments)
        return await self._publish(self.name if room is None else room, payload, tags)


class Namespaces:
    """All namespaces of an application. publish: as the server. rules: a namespace has a channel of its own."""

    def __init__(self, publish: ServerPublish, rules: ChannelRules) -> None:
        self._publish = publish
        self._rules = rules
        self._by_name: dict[str, Namespace] = {}
        self.add("/")

    @property
    def admit(self) -> bool:
        """Whether any has a function of its own that says who may connect."""
        return any(namespace.connect is not None for namespace in self._by_name.values())

    @property
    def longest_recovery(self) -> float:
        """Seconds, of all of them."""
        return max(namespace.recovery for namespace in self._by_name.values())

    def get(self, name: str) -> Namespace | None:
        return self._by_name.get(name)

    def find(self, name: str) -> Namespace:
        """As `get`. Raises `Refusal` 102 when there is no such namespace."""
        namespace = self._by_name.get(name)
        if namespace is None:
            raise Refusal.unknown_channel(f"no namespace {name!r}; there are {', '.join(self._by_name)}")
        return namespace

    def add(self, name: str, recovery: float = 0) -> Namespace:
        """The namespace of that name; made, if there is none or only one with a shorter recovery. Raises ValueError."""
        if not name.startswith("/") or set(name) & set(",?*{}"):
            raise ValueError(f"a namespace begins with / and has none of , ? * {{ }}, got {name!r}")
        known = self._by_name.get(name)
        if known is None or recovery > known.recovery:
            made = self._by_name[name] = Namespace(name, self._publish, recovery)
            if known is not None:
                made.take_over(known)
            history = History(size=100, ttl=recovery) if recovery else None
            self._rules.add_first(ChannelRule(name, subscribe="nobody", history=history))
        return self._by_name[name]
