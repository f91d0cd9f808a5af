"""A session's subscriptions: a mapping that is small while there is one."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from freshet.rules.rules import ChannelRule
from freshet.session.subscription import Subscription, Subscriptions

RULE = ChannelRule("*")
CHANNELS = st.sampled_from("abc")
STEPS = st.lists(st.tuples(st.sampled_from(["set", "pop", "del"]), CHANNELS), max_size=20)


@given(STEPS)
def test_it_is_as_a_dict_whatever_comes_and_goes(steps: Iterable[tuple[str, str]]) -> None:
    held, model = Subscriptions(), dict[str, Subscription]()
    for what, channel in steps:
        if what == "set":
            held[channel] = model[channel] = Subscription(RULE, Raw(), 0, present=False)
        elif what == "pop":
            assert held.pop(channel, None) is model.pop(channel, None)
        elif channel in model:
            del held[channel], model[channel]
        assert held == model
        assert (list(held), len(held), bool(held)) == (list(model), len(model), bool(model))
        assert [held.get(each) for each in "abc"] == [model.get(each) for each in "abc"]
        assert [each in held for each in "abc"] == [each in model for each in "abc"]
