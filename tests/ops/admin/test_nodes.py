"""The admin page over a broker: two servers, clients on both, and an operator who is connected to one of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from selenium import webdriver
from websockets.asyncio.client import connect

from tests.ops.admin.conftest import KEY, RULES
from tests.ops.admin.crowd import SECRET, Crowd, token
from tests.ops.admin.desk import Desk
from tests.ops.admin.operator import operating
from tests.tools.browser import console_errors
from tests.tools.nats import nats
from tests.tools.patience import eventually, wait_until
from tests.tools.redis import redis
from tests.tools.serving import Server, serving

HERE, THERE = 120, 80


class Two:
    """here: where the operator is. there: the other one. crowd: the clients of the other one. users: of both."""

    def __init__(self, here: Server, there: Server, crowd: Crowd, users: set[str]) -> None:
        self.here = here
        self.there = there
        self.crowd = crowd
        self.users = users


@pytest.fixture(scope="module", params=[redis, nats], ids=["redis", "nats"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with ExitStack() as stack:
        broker = stack.enter_context(request.param())
        config = tmp_path_factory.mktemp("two") / "freshet.toml"
        config.write_text(f'engine = "{broker.url}"\n{RULES}')
        env = {"FRESHET_SECRET": SECRET, "FRESHET_ADMIN_KEY": KEY, "FRESHET_API_KEY": KEY}
        here, there = (stack.enter_context(serving("--config", str(config), env=env)) for _ in range(2))
        own = stack.enter_context(Crowd(here, HERE, {1: "alice", 5: "alice of here"}))
        crowd = stack.enter_context(Crowd(there, THERE, {2: "alice", 5: "mallory", 6: "bob"}))
        yield Two(here, there, crowd, {*map(own.user, range(HERE)), *map(crowd.user, range(THERE))})


@pytest.fixture
def desk(two: Two, browser: webdriver.Chrome) -> Iterator[Desk]:
    yield Desk(browser, two.here)
    assert console_errors(browser) == []


def test_the_overview_adds_up_both_and_names_each(desk: Desk) -> None:
    desk.open()
    wait_until(lambda: desk.figure("Connections") >= HERE + THERE - 1, 20, "the connections of both")
    assert desk.text().count("ready") == 2
    desk.shows("everybody")


async def test_a_user_on_both_counts_once(two: Two) -> None:
    async with operating(two.here, KEY) as operator:
        await operator.ask("subscribe", {"channel": "overview"})

        async def all_are_counted() -> bool:
            page = await operator.ask("history", {"channel": "overview", "limit": 1, "reverse": True})
            for sample in (it["data"] for it in page["publications"]):
                assert sample["users"] <= sum(node["users"] for node in sample["nodes"])
                if len(sample["nodes"]) == 2:
                    return bool(sample["users"] == len(two.users - two.crowd.closed.keys()) and not sample["estimated"])
            return False

        await eventually(all_are_counted, 10)


def test_clients_of_both_are_found_and_one_of_the_other_is_disconnected(desk: Desk, two: Two) -> None:
    desk.open("#/search/alice")
    desk.shows("alice of here")
    desk.click("alice")
    desk.shows("2 clients")
    desk.open("#/user/mallory")
    desk.shows("1 client")
    desk.find("td a.mono")[0].click()
    desk.shows("room:5")
    desk.click("Disconnect")
    desk.click("Really disconnect? It will not come back by itself")
    desk.shows("This client is not connected any more.")
    wait_until(lambda: "mallory" in two.crowd.closed, 10, "the end of its connection")


def test_what_is_published_by_the_page_or_at_the_other_is_in_the_tail(desk: Desk) -> None:
    desk.open("#/channel/room%3A7")
    desk.shows(f"{HERE // 40 + THERE // 40} clients")
    desk.shows("Listening to publications in room:7")
    desk.find("textarea")[0].clear()
    desk.find("textarea")[0].send_keys('{"a": "test"}')
    desk.click("Publish")
    desk.shows('{"a":"test"}', ".tail")


async def test_a_user_and_a_channel_of_the_other_are_traced(two: Two) -> None:
    async with operating(two.here, KEY) as operator:
        for tail in ("tail:user:carol", "tail:channel:room:carol"):
            assert "error" not in await operator.ask("subscribe", {"channel": tail})
        async with connect(two.there.ws("/connection/websocket")) as client:
            for command in (
                {"connect": {"token": token("carol")}},
                {"subscribe": {"channel": "room:carol"}},
                {"publish": {"channel": "room:carol", "data": {"hello": 1}}},
            ):
                await client.send(json.dumps({"id": 1, **command}))
                await client.recv()
            await operator.item(kind="command", command="Subscribe", channel="room:carol")
            await operator.item(kind="publication", channel="room:carol")
        await operator.item(kind="end", user="carol")
