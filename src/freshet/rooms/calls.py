"""The rpc method `state`, by which a client changes an entry on a condition, for which its protocol has no word."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Raw

from freshet.errors import Refusal
from freshet.model.commands import Publish
from freshet.model.entries import EntryChange, EntryResult
from freshet.policy.base import Context, PolicyChain
from freshet.rooms.state_messages import EntryMessage
from freshet.rules.hooks import Hook
from freshet.rules.rules import ChannelRules
from freshet.session.session import Session

METHOD = "state"

CarryOut = Callable[[Session, str, EntryChange, str], Awaitable[EntryResult]]


class StateCall(EntryMessage, kw_only=True):
    """A change, and the channel whose state is meant."""

    channel: str = ""


def state_call(rules: ChannelRules, policies: PolicyChain, carry_out: CarryOut) -> Hook:
    """Who may publish in the channel may call it; the answer says whether it was done, and the value as it is now."""

    async def call(session: Session, data: StateCall) -> dict[str, Any]:
        rule, parameters = rules.find(data.channel)
        if rule.state is None:
            raise Refusal.not_available(f"{METHOD}: not available, the rule of {data.channel!r} has no option `state`")
        change = data.change()
        pending = policies.check(Context(session, rule, parameters), Publish(data.channel, change.value, change=change))
        if pending is not None:
            await pending
        result = await carry_out(session, data.channel, change, "")
        answer: dict[str, Any] = {"done": not result.why, "value": Raw(result.value or b"null")}
        return answer | ({"why": result.why} if result.why else {})

    return Hook(call, ("session", "data"))
