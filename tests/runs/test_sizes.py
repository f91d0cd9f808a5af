"""How much a run may write, how fast, and what happens when an engine takes less than that."""

import time
from typing import Any

import msgspec
import pytest

from freshet import Config, Freshet, Refusal, Run
from freshet.config import Runs, Tokens
from tests.runs.test_runs import follow, made
from tests.runs.two import texts
from tests.tools.nats import nats
from tests.tools.patience import eventually, seconds

CHANNEL = "chat:1"


def writing(live: Freshet, pieces: list[Any]) -> Freshet:
    @live.run("chat:{chat}")
    async def answer(run: Run, message: Any) -> None:
        for piece in pieces:
            await run.write(piece)

    return live


async def ended(live: Freshet) -> tuple[str, str, str]:
    """The state, the reason and the text of a run, which its viewers have too."""
    async with live.test_client() as client:
        await client.subscribe(CHANNEL)
        await live.start(CHANNEL, 1, id="r1")
        viewer = await follow(client, "r1")
        message = (await live.messages(CHANNEL))[-1]
        assert viewer.text("r1") == texts(message)
        return viewer.states["r1"], message["metadata"]["run"].get("reason", ""), texts(message)


async def test_the_size_of_a_run_is_that_of_its_message_in_however_small_pieces_it_came() -> None:
    assert await ended(writing(made(size=4096), ["a"] * 4000)) == ("finished", "", "a" * 4000)
    state, reason, text = await ended(writing(made(size=4096), ["a"] * 4200))
    assert (state, reason) == ("finished", "length")
    assert 4000 < len(text) < 4096


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 100_000, '"\n' * 100_000])
async def test_of_one_piece_that_is_too_large_what_fits_is_written(text: str) -> None:
    state, reason, written = await ended(writing(made(size=4096), ["so: ", text]))
    assert (state, reason) == ("finished", "length")
    assert f"so: {text}".startswith(written)
    assert 600 < len(msgspec.json.encode(written)) <= 4096


async def test_a_part_that_is_too_large_ends_a_run_before_it() -> None:
    data = {"type": "data-x", "data": "x" * 5000}
    assert await ended(writing(made(size=4096), ["so far", data])) == ("finished", "length", "so far")


async def test_a_run_writes_no_faster_than_it_may() -> None:
    live = writing(made(rate=2000.0), ["x" * 100] * 24)  # what a second allows at once, and 400 more
    began = time.monotonic()
    assert (await ended(live))[0] == "finished"
    assert time.monotonic() - began > 0.15


async def test_what_an_engine_does_not_take_fails_the_run_that_wrote_it_and_no_other() -> None:
    """Its log ends before that, and its viewers with it."""
    with nats() as server:
        config = Config(
            engine=f"{server.url}?prefix=large&storage=memory",
            runs=Runs(lease=seconds(2), size=4 * 1024 * 1024),
            tokens=Tokens(anonymous=True),
        )
        live = Freshet(secret="s" * 32, config=config)

        @live.run("chat:{chat}")
        async def answer(run: Run, message: str) -> None:
            await run.write("so far. ")
            await run.flush()
            await run.write(message[:1] * int(message[1:8]))
            await run.flush()

        async with live.test_client() as client:
            await client.subscribe(CHANNEL)
            await live.start(CHANNEL, "x2000000", id="r1")
            viewer = await follow(client, "r1")
            message = (await live.messages(CHANNEL))[-1]
            assert (viewer.states["r1"], viewer.text("r1"), texts(message)) == ("failed", "so far. ", "so far. ")
            with pytest.raises(Refusal) as refusal:
                await live.start(CHANNEL, "y" * 2_000_000, id="r2")
            assert refusal.value.code == 106
            await live.start(CHANNEL, "x3", id="r3")
            assert (await follow(client, "r3", viewer)).text("r3") == "so far. xxx"
            await eventually(lambda: live._runs.statistics()[1] == 0)
