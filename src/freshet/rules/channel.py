"""The channels of one pattern, as an application sees them."""

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from freshet.config import ChannelOptions
from freshet.rules.hooks import Function, Hook
from freshet.rules.rules import ChannelRule

F = TypeVar("F", bound=Function)
P = ParamSpec("P")
R = TypeVar("R")


def with_options(
    options: Callable[P, ChannelOptions],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, str, P], R]]:
    """Let a method take, behind a pattern, what a structure is made of: the options are declared there alone."""

    def take(method: Callable[..., R]) -> Callable[Concatenate[Any, str, P], R]:
        own = inspect.signature(method)
        parameters = [*list(own.parameters.values())[:-1], *inspect.signature(options).parameters.values()]
        method.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return method

    return take


class Channel:
    """The channels that one pattern matches: where a user hangs hooks."""

    def __init__(self, rule: ChannelRule) -> None:
        self.rule = rule

    def on_subscribe(self, function: F) -> F:
        """`function(session, **parameters)` runs before a client subscribes; raise `Refusal` to refuse it.

        It may also ask for `channel`, and for `data`, what the client sent along.
        """
        self.rule.on_subscribe = Hook(function, ("session",), ("channel", *self.rule.parameters, "data"))
        return function

    def on_publish(self, function: F) -> F:
        """`function(session, data, **parameters)` runs before a client's publication; what it returns is published.

        None: as the client sent it. Raise `Refusal` to refuse it. It may also ask for `channel`. Not called for what
        the server publishes.
        """
        self.rule.on_publish = Hook(function, ("session", "data"), ("channel", *self.rule.parameters))
        return function
