"""A user's functions: checked when they are registered, called with what they ask for."""

from functools import partial
from typing import Any

import msgspec
import pydantic
import pytest

from freshet import Freshet, Refusal
from freshet.model.log import Kind
from freshet.rules.hooks import Hook, as_payload, to_json


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
    with pytest.raises(TypeError, match="asks for 'lot'; after session it may ask for channel, data, number"):

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


class PydanticBid(pydantic.BaseModel):
    amount: int


async def test_data_that_does_not_fit_a_pydantic_model_is_named_on_one_line_without_what_was_sent() -> None:
    def bid(session: Any, data: PydanticBid) -> None: ...

    said = {
        b'{"amount": "a secret"}': "data.amount: Input should be a valid integer, unable to parse string as an integer",
        b"{}": "data.amount: Field required",
        b"7": "data: Input should be an object",
    }
    for data, message in said.items():
        with pytest.raises(Refusal) as refusal:
            await Hook(bid, ("session", "data"))("session", data)
        assert refusal.value.message == message


async def test_only_what_was_asked_for_by_name_is_given() -> None:
    def nothing(session: Any) -> str:
        return "nothing"

    def some(session: Any, *, b: str) -> str:
        return b

    def everything(session: Any, **names: Any) -> Any:
        return names

    given = {"a": "1", "b": "2", "data": b"3"}
    assert await Hook(nothing, ("session",), given)(None, **given) == "nothing"
    assert await Hook(some, ("session",), given)(None, **given) == "2"
    assert await Hook(everything, ("session",), given)(None, **given) == {"a": "1", "b": "2", "data": 3}


async def test_a_parameter_with_a_default_may_be_called_anything() -> None:
    def hook(session: Any, retries: int = 3) -> int:
        return retries

    assert await Hook(hook, ("session",))(None) == 3


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: None, "must take session, data"),
        (lambda session: None, "must take session, data"),
        (lambda session, data, lot: None, "asks for 'lot'; after session, data it may ask for house, number"),
    ],
)
def test_a_wrong_signature_is_a_type_error_that_says_what_is_allowed(function: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Hook(function, ("session", "data"), ("number", "house"))


def test_where_nothing_more_may_be_asked_for_it_says_so() -> None:
    with pytest.raises(TypeError, match="nothing more"):
        Hook(lambda session, data, extra: None, ("session", "data"))


async def test_methods_partials_and_objects_that_can_be_called_are_functions_too() -> None:
    class Shop:
        def bid(self, session: Any, data: Bid) -> int:
            return data.amount

        def __call__(self, session: Any, data: Any) -> Any:
            return data

    def taxed(tax: int, session: Any, data: Any) -> int:
        return int(data) + tax

    assert await Hook(Shop().bid, ("session", "data"))(None, b'{"amount":5}') == 5
    assert await Hook(Shop(), ("session", "data"))(None, b"6") == 6
    assert await Hook(partial(taxed, 1), ("session", "data"))(None, b"6") == 7


@pytest.mark.parametrize(
    ("hint", "data", "value"),
    [
        (Any, b'{"a":1}', {"a": 1}),
        (int, b"7", 7),
        (list[int], b"[1,2]", [1, 2]),
        (Bid, b'{"amount":5}', Bid(5)),
        (PydanticBid, b'{"amount":5}', PydanticBid(amount=5)),
        (dict[str, Any], b'{"a":null}', {"a": None}),
        (Any, b"", None),
        (Any, "text", "text"),
    ],
)
async def test_data_comes_as_the_type_that_it_is_annotated_with(hint: Any, data: Any, value: Any) -> None:
    def hook(session: Any, data: Any) -> Any:
        return data

    hook.__annotations__["data"] = hint
    assert await Hook(hook, ("session", "data"))(None, data) == value


@pytest.mark.parametrize("data", [b"{", b"\xff", b'{"amount":"x"}', b"[" * 50_000, b"null", b'{"amount":1}x'])
@pytest.mark.parametrize("hint", [Bid, PydanticBid])
async def test_whatever_a_client_sends_for_a_type_is_refused_and_nothing_else(hint: Any, data: bytes) -> None:
    def hook(session: Any, data: Any) -> Any:
        raise AssertionError("not to be called")

    hook.__annotations__["data"] = hint
    with pytest.raises(Refusal) as refusal:
        await Hook(hook, ("session", "data"))(None, data)
    assert refusal.value.code == 107


@pytest.mark.parametrize(
    ("value", "data", "kind"),
    [
        (b"\0", b"\0", Kind.BYTES),
        (bytearray(b"\0"), b"\0", Kind.BYTES),
        (memoryview(b"\0"), b"\0", Kind.BYTES),
        ("text", b'"text"', Kind.JSON),
        ("two\nlines", b'"two\\nlines"', Kind.JSON),
        (None, b"null", Kind.JSON),
        (Bid(5), b'{"amount":5}', Kind.JSON),
        ([PydanticBid(amount=5)], b'[{"amount":5}]', Kind.JSON),
    ],
)
def test_bytes_are_published_as_they_are_and_all_else_as_json_in_one_line(value: Any, data: bytes, kind: Kind) -> None:
    assert as_payload(value) == (data, kind)


def test_a_hook_is_called_by_the_name_of_its_function_in_what_it_says() -> None:
    def on_bid() -> None: ...

    with pytest.raises(TypeError, match=r"on_bid must take session"):
        Hook(on_bid, ("session",))


def test_what_a_user_wrote_as_json_goes_out_on_one_line() -> None:
    """A line ends a message for some clients."""
    assert to_json(msgspec.Raw(b'{\n"a": 1\r\n}')) == b'{ "a": 1  }'
    assert to_json({"b": msgspec.Raw(b"[1,\n2]")}) == b'{"b":[1, 2]}'


def test_the_name_of_a_hook_does_not_say_where_it_is_in_memory() -> None:
    class Called:
        def __call__(self, session: object) -> None: ...

    def plain(extra: int, session: object) -> None: ...

    names = [Hook(each, ("session",)).name for each in (Called(), partial(plain, 1), Called().__call__)]
    assert [name.rpartition(".")[2] for name in names] == ["Called", "partial", "__call__"]
    assert not any(" at 0x" in name for name in names)
