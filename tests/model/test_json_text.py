"""What `JSON.parse` takes is JSON here too, and passes through as it was written."""

import datetime
import json
import subprocess
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from pydantic import BaseModel

from freshet.model.json_text import (
    DEEP,
    HalfInText,
    Reader,
    decode,
    encode,
    has_half,
    is_deeper,
    is_json,
    one_line,
    outline,
    whole,
    whole_text,
)
from tests.tools.cost import assert_linear
from tests.tools.json_texts import json_texts
from tests.tools.need import require


class Message(Struct):
    channel: str
    data: Raw = Raw()
    tags: dict[str, str] = {}
    nodes: tuple[str, ...] = ()


read = Reader(Message)

texts = json_texts | st.binary(max_size=12)
python_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
) | st.text(st.characters(categories=["Cs"]))


@given(value=json_texts)
def test_what_is_raw_passes_through_as_it_was_written(value: bytes) -> None:
    message = read(b'{"channel":"a","data":%b}' % value)
    assert bytes(message.data) == value.strip(b" \t\r\n")
    assert is_json(value)


@given(value=json_texts)
def test_a_value_is_what_python_reads(value: bytes) -> None:
    try:
        expected = json.loads(value)
    except ValueError:  # a whole number of more digits than Python takes
        return
    assert repr(decode(value)).replace("-0", "0") == repr(expected).replace("-0", "0")  # msgspec: -0 is 0


@given(value=json_texts)
def test_on_one_line_it_is_the_same_json_of_the_same_length(value: bytes) -> None:
    line = one_line(value)
    assert not set(line) & set(b"\r\n")
    assert len(line) == len(value)
    assert line.replace(b" ", b"") == value.translate(None, b"\r\n ")


@given(value=python_values)
def test_what_python_holds_comes_back(value: Any) -> None:
    text = encode(value)
    text.decode()
    # Two halves side by side are one character to whoever reads them.
    assert json.dumps(decode(text)) == json.dumps(json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" ", b"NaN", b"Infinity", b"-", b"01", b"1.", b".5", b"+1", b"[1,]", b'{"a":1,}', b"[", b"]", b'"'),
        *(rb'"\u12', rb'"\ud83"', rb'"\ud83g"', rb'"\x41"', b'"\t"', b'"\n"', b"'a'", b"\xef\xbb\xbf1", b"1\x00"),
        *(rb"\ud83d", rb"[\ud83d]", rb"1\ud83d", rb'{"a"\ud83d:1}', b"\x0c1", b"\xc2\xa01", b"nul", b"1 2"),
        rb'"\ud83d',
    ],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    assert not is_json(text)
    with pytest.raises(msgspec.DecodeError):
        decode(text)
    with pytest.raises(msgspec.DecodeError):
        read(b'{"channel":"a","data":%b}' % text)


def test_node_finds_the_same_texts_to_be_json() -> None:
    found: list[bytes] = []

    @settings(database=None, max_examples=500)
    @given(text=texts)
    def collect(text: bytes) -> None:
        try:
            found.append(text.decode().encode())
        except UnicodeDecodeError:
            return

    collect()
    script = (
        "let all = ''; process.stdin.on('data', (part) => (all += part)).on('end', () => console.log(JSON.stringify("
        "JSON.parse(all).map((text) => { try { JSON.parse(text); return true } catch { return false } }))))"
    )
    given_texts = json.dumps([text.decode() for text in found])
    answer = subprocess.run(
        [require("node"), "-e", script], input=given_texts, capture_output=True, text=True, check=True
    )
    theirs = json.loads(answer.stdout)
    assert len(theirs) == len(found) > 400
    assert {True, False} == set(theirs)
    for text, taken in zip(found, theirs, strict=True):
        assert is_json(text) is taken, text


@pytest.mark.parametrize(
    "fields",
    [
        rb'"channel":"\ud83d"',
        rb'"channel":"a","tags":{"\uDE00":"b"}',
        rb'"channel":"a","tags":{"b":"\uDE00"}',
        rb'"channel":"a","nodes":["b","c\ud83d"]',
    ],
)
def test_half_of_a_character_is_refused_where_text_is_expected(fields: bytes) -> None:
    with pytest.raises(HalfInText):
        read(b"{%b}" % fields)
    message = read.decode(outline(b"{%b}" % fields))
    assert "\ufffd" in repr(message)


def test_a_whole_character_is_none_of_two_halves() -> None:
    assert not has_half(rb'"\ud83d\ude00 \\ud83d \\\\ude00"')
    assert has_half(rb'"\ud83d\ud83d\ude00"')
    assert has_half(rb'"\\\ud83d"')
    assert read(rb'{"channel":"\ud83d\ude00","data":"\ud83d"}').channel == "\U0001f600"


@pytest.mark.parametrize("levels", [1_000, 10_000, 100_000])
@pytest.mark.parametrize(("opens", "closes"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[ {"]":[', b"]}]")])
def test_the_outline_of_what_is_too_deep_can_be_read(levels: int, opens: bytes, closes: bytes) -> None:
    deep = opens * levels + b'"]}\\""' + closes * levels
    for text in (b'{"channel":"a","data":%b}' % deep, b'{"data":%b, "channel":"a"}' % deep):
        with pytest.raises(RecursionError):
            read(text)
        message = read.decode(outline(text))
        assert message.channel == "a"
        assert bytes(message.data).count(b"null") == 1


@given(value=json_texts)
def test_the_outline_of_what_is_not_deep_is_all_of_it(value: bytes) -> None:
    if value.count(b"[") + value.count(b"{") <= DEEP and not has_half(value):
        assert outline(value) == value


@pytest.mark.parametrize("piece", [b"[", b'[{"a":', b'"', b'"\\"', rb"\ud83d", b"]["])
def test_an_outline_takes_time_in_proportion_to_the_length(piece: bytes) -> None:
    def prepared(count: int) -> Any:
        text = b"[" * 100 + b'"' + piece * count
        return lambda: outline(text)

    assert_linear(prepared, 12_500)


class Order(Struct):
    name: str
    when: datetime.datetime
    counts: dict[int, str]


def test_values_of_a_users_types_may_hold_halves() -> None:
    text = rb'{"name":"\ud83d","when":"2026-01-02T03:04:05Z","counts":{"7":"\ude00"}}'
    order = decode(text, Order)
    assert (order.name, order.counts, order.when.year) == ("\ud83d", {7: "\ude00"}, 2026)
    assert encode(order) == text.replace(b"\\ude00", b"\\ude00")
    assert (
        encode({"a": Raw(rb'"\ud83d"'), "b": "\ud83d", "c": float("nan")}) == rb'{"a":"\ud83d","b":"\ud83d","c":null}'
    )
    with pytest.raises(msgspec.ValidationError):
        decode(rb'{"name":7,"when":"\ud83d"}', Order)


def test_what_cannot_be_written_is_a_type_error_with_halves_too() -> None:
    class Person(BaseModel):
        name: str

    def known(value: Any) -> Any:
        if isinstance(value, Person):
            return value.model_dump()
        raise TypeError("unknown")

    assert encode(["\ud83d", Person(name="a")], known) == rb'["\ud83d",{"name":"a"}]'
    for hook in (None, known):
        with pytest.raises(TypeError):
            encode(["\ud83d", object()], hook)


def test_a_number_above_all_is_infinite_to_python_and_null_to_others() -> None:
    assert decode(b"[1e999,-1e999]") == [float("inf"), float("-inf")]
    assert encode(decode(b"[1e999]")) == b"[null]"
    with pytest.raises(msgspec.ValidationError):
        decode(b"1e999", float)
    with pytest.raises(msgspec.DecodeError):
        decode(b"1" * 5_000)


@given(texts)
def test_what_has_to_be_text_has_no_halves_and_nothing_else_is_changed(text: bytes) -> None:
    made = whole(text)
    if has_half(text):
        assert not has_half(made)
    else:
        assert made == text


def test_half_of_a_character_becomes_the_replacement_character() -> None:
    assert whole(rb'"a\ud83d \ud83d\ude00 \\ud83d"') == rb'"a\ufffd \ud83d\ude00 \\ud83d"'
    assert whole_text("a\ud83d \U0001f600") == "a\ufffd \U0001f600"


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b'{"a":[[1,2],{}]}', 3),
        (b"[[],[],[]]", 2),
        (b'"[[[["', 0),
        (b'["[{\\"[[", [[]]]', 3),
        (b"[" * 500 + b"]" * 500, 500),
        (b'{"a":' * 300 + b"1" + b"}" * 300, 300),
        (b"[[[]],{}, [" + b"[]," * 9 + b"[[[]]]]]", 5),
    ],
)
def test_the_levels_of_a_text_are_counted(text: bytes, levels: int) -> None:
    assert not is_deeper(text, levels)
    assert levels == 0 or is_deeper(text, levels - 1)
