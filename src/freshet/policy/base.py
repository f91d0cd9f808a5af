"""What a check before a command is, and the chain of them that every command and every server operation passes."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import msgspec

from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command
from freshet.model.log import NOTHING
from freshet.policy.claims import ConnectionClaims
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import in_task
from freshet.session.session import Session
from freshet.session.subscription import Issued


class Grant(NamedTuple):
    """What a subscription gets beside the rule's options, from its token or from the server.

    info: JSON that others in the channel see. expires: epoch seconds, or 0. issued: of the token.
    """

    info: msgspec.Raw = NOTHING
    expires: float = 0.0
    issued: Issued | None = None


NO_GRANT = Grant()


class Context(msgspec.Struct, eq=False):
    """One command on its way: who asks, and what the policies found out.

    session: the client; None: the server itself. rule, parameters: of the command's channel, if it has one.
    claims: what a connection's token says. carried: that came with the request, so that the client cannot refresh it.
    grant: what a subscription's token says.
    """

    session: Session | None
    rule: ChannelRule | None = None
    parameters: Mapping[str, str] = MappingProxyType({})
    claims: ConnectionClaims | None = None
    carried: bool = False
    grant: Grant = NO_GRANT


class Policy(ABC):
    """One check: rights, a limit, a webhook. In a tuple, run in order; the first refusal ends it.

    name: in metrics.
    """

    name: ClassVar[str] = "other"

    @abstractmethod
    def check(self, context: Context, command: Command) -> Awaitable[None] | None:
        """May this run? None: decided without waiting, the common case, which costs no coroutine.

        Raises `Refusal`, which becomes the reply, or `Disconnect`; so does what it answers, when that is awaited.
        """


class PolicyChain:
    """The one place that clients' commands and the server's operations pass before they run."""

    def __init__(self, policies: Sequence[Policy], refused: Callable[[str], None] = lambda policy: None) -> None:
        """refused: called with the name of the policy that a command does not pass."""
        self._checks = tuple(policy.check for policy in policies)
        self._names = tuple(policy.name for policy in policies)
        self._refused = refused

    def check(self, context: Context, command: Command) -> Awaitable[None] | None:
        """As `Policy.check`, by all of them in order."""
        done = 0
        try:
            for check in self._checks:
                done += 1
                pending = check(context, command)
                if pending is not None:
                    return self._wait(pending, done, context, command)
        except (Refusal, Disconnect):
            self._refused(self._names[done - 1])
            raise
        return None

    async def _wait(self, pending: Awaitable[None], done: int, context: Context, command: Command) -> None:
        try:
            await in_task()
            await pending
            for check in self._checks[done:]:
                done += 1
                if (waits := check(context, command)) is not None:
                    await waits
        except (Refusal, Disconnect):
            self._refused(self._names[done - 1])
            raise
