"""What `JSON.parse` takes goes through every door and comes out of every other as the same bytes; what does not is
refused for that message, and everybody stays."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings

from freshet.model.json_text import one_line
from tests.tools.doors import Doors, doors
from tests.tools.json_texts import json_texts
from tests.tools.serving import serving

CONFIG = """
timing = { ping_interval = 3600 }  # connections of which each is read only when it is its turn
tokens = { anonymous = true }
api = { anonymous = true }
[[channels]]
match = "*"
history = { size = 10, ttl = 60 }
publish = "client"
read = "client"
"""
CUT = rb'"hi \ud83d"'  # what JSON.stringify writes of "hi \u{1F600}".slice(0, 4)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def opened(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    config = tmp_path_factory.mktemp("doors") / "freshet.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as server:
        context = doors(server)
        yield runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


def same(text: bytes) -> bytes:
    return one_line(text).strip(b" \t")


async def goes_through(doors: Doors, name: str, text: bytes) -> None:
    assert await doors.ways_in[name](text), f"{name} refused {text!r}"
    for out, read in doors.ways_out.items():
        assert same(await read()) == same(text), f"in: {name}, out: {out}"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=json_texts)
@example(text=CUT)
@example(text=rb'{"\uD83d":1e999,"\uD83d":-0.0,"a":"\u0000\u2028"}')
@example(text='["\u2028\u2029\x85",\r\n\r1]'.encode())
@example(text=b"9" * 400)
@example(text=b"{}")
@example(text=b"2")
@example(text=b"[" * 200 + b"]" * 200)
@example(text=b'"' + b"a" * 60_000 + b'"')
def test_json_comes_out_of_every_door_as_it_went_in_through_any(
    text: bytes, opened: Doors, runner: asyncio.Runner
) -> None:
    for name in opened.ways_in:
        runner.run(goes_through(opened, name, text))


@pytest.mark.parametrize("levels", [1_000, 5_000, 10_000])
def test_json_of_too_many_levels_is_refused_and_everybody_stays(
    levels: int, opened: Doors, runner: asyncio.Runner
) -> None:
    deep = b"[" * levels + b"]" * levels
    for name, publish in opened.ways_in.items():
        if name != "channel url, websocket":  # which has no replies: it goes on as the text that it also is
            assert not runner.run(publish(deep)), name
            runner.run(goes_through(opened, name, b'"still here"'))


def test_what_is_no_json_is_refused_where_json_is_expected(opened: Doors, runner: asyncio.Runner) -> None:
    for name in ("api publish", "api batch", "channel url, post"):
        for text in (b"NaN", b"\xef\xbb\xbf1", b'"\\ud83', b'"\xff"', b"[1,]", b""):
            assert not runner.run(opened.ways_in[name](text)), (name, text)
        runner.run(goes_through(opened, name, b'"still here"'))
