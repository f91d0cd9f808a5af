"""The chain of policies: each is asked in order, one that waits is awaited, and the first refusal ends it."""

from collections.abc import Awaitable

import pytest

from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command, Ping
from freshet.policy.base import Context, Grant, Policy, PolicyChain
from freshet.rules.rules import ChannelRule

RULE = ChannelRule("chat:{room}")


class Named(Policy):
    """Notes its name. why: what it raises. later: it has to be awaited, and raises then."""

    def __init__(self, name: str, notes: list[str], *, later: bool = False, why: Exception | None = None) -> None:
        self.name = name
        self.notes = notes
        self.later = later
        self.why = why
        self.rule: ChannelRule | None = None

    def check(self, context: Context, command: Command) -> Awaitable[None] | None:
        self.rule = context.rule
        self.notes.append(self.name)
        if self.later:
            return self._decide()
        if self.why is not None:
            raise self.why
        return None

    async def _decide(self) -> None:
        self.notes.append(f"{self.name} decides")
        if self.why is not None:
            raise self.why


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def context() -> Context:
    return Context(None, RULE, {"room": "7"})


def test_without_policies_everything_may_run(context: Context) -> None:
    assert PolicyChain([]).check(context, Ping()) is None


def test_policies_that_decide_at_once_are_asked_in_order_with_the_rule(context: Context, notes: list[str]) -> None:
    policies = [Named("one", notes), Named("two", notes)]
    assert PolicyChain(policies).check(context, Ping()) is None
    assert notes == ["one", "two"]
    assert [policy.rule for policy in policies] == [RULE, RULE]


@pytest.mark.parametrize("why", [Refusal.permission_denied(), Disconnect.bad_request()])
def test_a_refusal_at_once_comes_at_once_and_ends_it(context: Context, notes: list[str], why: Exception) -> None:
    chain = PolicyChain([Named("one", notes), Named("two", notes, why=why), Named("three", notes)])
    with pytest.raises(type(why)) as error:
        chain.check(context, Ping())
    assert error.value is why
    assert notes == ["one", "two"]


async def passed(chain: PolicyChain, context: Context) -> None:
    pending = chain.check(context, Ping())
    assert pending is not None
    await pending


async def test_those_behind_one_that_waits_are_asked_when_it_has_decided(context: Context, notes: list[str]) -> None:
    chain = PolicyChain([Named("one", notes), Named("two", notes, later=True), Named("three", notes)])
    pending = chain.check(context, Ping())
    assert pending is not None
    assert notes == ["one", "two"]
    await pending
    assert notes == ["one", "two", "two decides", "three"]


async def test_several_may_wait_one_after_the_other(context: Context, notes: list[str]) -> None:
    chain = PolicyChain([Named("one", notes, later=True), Named("two", notes, later=True)])
    await passed(chain, context)
    assert notes == ["one", "one decides", "two", "two decides"]


@pytest.mark.parametrize("first_waits", [True, False])
@pytest.mark.parametrize("second_waits", [True, False])
async def test_a_refusal_of_one_that_waits_or_stands_behind_one_ends_it(
    context: Context, notes: list[str], first_waits: bool, second_waits: bool
) -> None:
    """Whichever of the two refuses, the last is not asked."""
    for refusing in ("first", "second"):
        notes.clear()
        why = Refusal.too_many_requests()
        first = Named("first", notes, later=first_waits, why=why if refusing == "first" else None)
        second = Named("second", notes, later=second_waits, why=why if refusing == "second" else None)
        with pytest.raises(Refusal) as error:
            await passed(PolicyChain([first, second, Named("last", notes)]), context)
        assert error.value is why
        assert "last" not in notes
        assert ("second" in notes) is (refusing == "second")


def test_a_chain_does_not_change_with_the_list_that_it_was_made_of(context: Context, notes: list[str]) -> None:
    policies: list[Policy] = [Named("one", notes)]
    chain = PolicyChain(policies)
    policies.append(Named("late", notes))
    chain.check(context, Ping())
    assert notes == ["one"]


def test_a_context_begins_with_nothing_found_out() -> None:
    context = Context(None)
    assert (context.session, context.rule, context.parameters, context.claims) == (None, None, {}, None)
    assert context.grant == Grant()
    assert (bytes(context.grant.info), context.grant.expires) == (b"", 0.0)
