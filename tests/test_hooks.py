"""A user's functions: checked when they are registered, called with what they ask for."""

from typing import Any

import msgspec
import pytest

from freshet import Freshet, Refusal
from freshet.hooks import Hook, to_json


class Bid(msgspec.Struct):
    amount: int


async def test_parameters_of_the_pattern_come_by_name() -> None:
    live = Freshet(dev=True)
    channel = live.channel("lot:{house}:{number}")
    seen: list[Any] = []

    @channel.on_publish
    def bid(session: Any, data: Bid, number: str) -> None:
        seen.append((session, data, number))

    assert channel.rule.on_publish is not None
    await channel.rule.on_publish("session", b'{"amount": 5}', house="h", number="7")
    assert seen == [("session", Bid(5), "7")]


def test_a_function_that_asks_for_something_else_is_refused_at_once_with_what_it_may_ask_for() -> None:
    channel = Freshet(dev=True).channel("lot:{number}")
    with pytest.raises(TypeError, match="asks for 'lot'; after session it may ask for data, number"):

        @channel.on_subscribe
        def wrong(session: Any, lot: str) -> None: ...

    with pytest.raises(TypeError, match="must take session, data"):
        channel.on_publish(lambda session: None)


@pytest.mark.parametrize("data", [b'{"amount": "many"}', b"{", b"7", b'{"amount": 1e400}'])
async def test_data_that_does_not_fit_its_type_is_refused_and_named(data: bytes) -> None:
    def bid(session: Any, data: Bid) -> None: ...

    with pytest.raises(Refusal, match="data: ") as refusal:
        await Hook(bid, ("session", "data"))("session", data)
    assert refusal.value.code == 107


def test_what_cannot_be_json_says_so() -> None:
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        to_json(object())
