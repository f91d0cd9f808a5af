"""One client in time: heartbeats, what goes stale, what expires, with a clock that the test turns."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from freshet import Freshet
from freshet.config import Config, parse
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.errors import Disconnect
from freshet.model.frame import Frame, Handshake
from freshet.model.log import History
from freshet.policy.tokens import issue
from freshet.runtime.wheel import TICK
from freshet.session.session import Session
from freshet.testing import ManualClock
from tests.tools.patience import eventually

SECRET = "a secret for tests, thirty-two bytes"
START = 1_000_000.0


class Scene:
    """An application in this process, whose time goes when the test says so."""

    def __init__(self, config: Config) -> None:
        self.clock = ManualClock(START)
        self.live = Freshet(config=config, environment={}, clock=self.clock)
        self.node = self.live._node

    def client(self) -> Session:
        session = self.live._dispatcher.open(Centrifuge(), Handshake("/"))
        session.open()
        return session

    async def say(self, session: Session, *commands: dict[str, Any]) -> list[dict[str, Any]]:
        """Give commands to a session, and what was pushed to it when all are done."""
        session.receive(Frame(b"\n".join(json.dumps(command).encode() for command in commands)))
        await eventually(lambda: not session.busy)
        return pushed(session)

    async def go(self, seconds: float, *answering: Session) -> None:
        """Let time pass; some clients answer every heartbeat."""
        for _ in range(int(seconds / TICK)):
            self.clock.now += TICK
            self.node.wheel.advance()
            await asyncio.sleep(0)
            for session in answering:
                session.receive(Frame(b"{}"))


def pushed(session: Session) -> list[dict[str, Any]]:
    """What waits for a client, taken."""
    return [json.loads(line) for frame in session.outbox.take() for line in frame.data.split(b"\n")]


def code(session: Session) -> int | None:
    return session.outbox.closed.code if session.outbox.closed else None


@pytest.fixture
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    timing = {"ping_interval": 20, "pong_timeout": 5, "connect_timeout": 10, "expiry_grace": 15, **request.param}
    tokens = {"secret": SECRET, "anonymous": True}
    config = parse({"timing": timing, "tokens": tokens, "channels": [{"match": "*", "presence": True}]})
    scene = Scene(config)
    async with scene.live.lifespan():
        scene.node.wheel.stop()  # from now on the test turns it
        yield scene


usual = pytest.mark.parametrize("scene", [{}], indirect=True, ids=[""])


async def test_a_client_has_as_long_as_the_configuration_says_to_connect() -> None:
    scene = Scene(parse({"tokens": {"secret": SECRET}, "timing": {"connect_timeout": 200}}))
    async with scene.live.lifespan():
        session = scene.client()
        await scene.go(190)  # longer than the wheel
        assert code(session) is None
        await scene.go(15)
        assert code(session) == 3502


@usual
async def test_a_client_that_does_not_connect_in_time_is_stale(scene: Scene) -> None:
    session = scene.client()
    await scene.go(10)
    assert code(session) is None
    await scene.go(1)
    assert code(session) == 3502


@usual
async def test_a_client_that_answers_heartbeats_stays_and_one_that_does_not_goes(scene: Scene) -> None:
    calm, silent = scene.client(), scene.client()
    for session in (calm, silent):
        await scene.say(session, {"id": 1, "connect": {}})
    beats = 0
    for _ in range(100):
        await scene.go(1)
        if {} in pushed(calm):
            beats += 1
            await scene.say(calm, {})
    assert beats in (4, 5)
    assert code(calm) is None
    assert code(silent) == 3012
    assert pushed(silent) == [{}]


@usual
async def test_whatever_a_client_says_shows_that_it_is_there(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}})
    for number in range(2, 60):
        await scene.go(2)
        await scene.say(session, {"id": number, "ping": {}})
    assert code(session) is None


@usual
async def test_a_client_that_is_not_read_from_is_not_missed(scene: Scene) -> None:
    """Its answer to a heartbeat may wait behind a batch that is still being carried out."""
    session, gate = scene.client(), asyncio.Event()
    await scene.say(session, {"id": 1, "connect": {}})

    @scene.live.rpc("wait")
    async def wait(session: Session, data: Any) -> None:
        await gate.wait()

    limit = scene.live.config.limits.backlog
    calls = [{"id": number, "rpc": {"method": "wait"}} for number in range(2, limit + 4)]
    session.receive(Frame(b"\n".join(json.dumps(call).encode() for call in calls)))
    await scene.go(60)
    assert (session.backlog_full, code(session)) == (True, None)
    gate.set()
    await eventually(lambda: not session.busy)
    assert len([reply for reply in pushed(session) if "rpc" in reply]) == len(calls)
    await scene.go(60)
    assert code(session) == 3012, "now it could have answered"


@usual
async def test_first_heartbeats_of_many_clients_are_spread_over_half_an_interval(scene: Scene) -> None:
    sessions = [scene.client() for _ in range(200)]
    for session in sessions:
        await scene.say(session, {"id": 1, "connect": {}})
    beats = []
    for _ in range(22):
        await scene.go(1)
        beats.append(sum({} in pushed(session) for session in sessions))
    assert sum(beats) == 200
    assert sum(map(bool, beats)) > 5
    assert max(beats) < 100


@usual
async def test_a_connection_ends_when_its_token_and_the_grace_ran_out_unless_it_is_refreshed(scene: Scene) -> None:
    token = issue(SECRET, "alice", expires_in=3600)
    ending, refreshed = scene.client(), scene.client()
    for session in (ending, refreshed):
        await scene.say(session, {"id": 1, "connect": {"token": token}})
        session.expires = scene.clock.now + 30
    await scene.go(40, ending, refreshed)
    assert code(ending) is code(refreshed) is None
    reply = (await scene.say(refreshed, {"id": 2, "refresh": {"token": token}}))[-1]
    assert reply["refresh"]["expires"] is True
    await scene.go(20, ending, refreshed)
    assert code(ending) == 3005
    assert code(refreshed) is None


@usual
async def test_anothers_token_does_not_refresh_a_connection(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {"token": issue(SECRET, "alice")}})
    await scene.say(session, {"id": 2, "refresh": {"token": issue(SECRET, "bob")}})
    assert code(session) == 3500


@usual
async def test_a_subscription_whose_token_ran_out_is_ended_and_the_client_told_to_come_again(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {"token": issue(SECRET, "alice")}})
    token = issue(SECRET, "alice", channel="a")
    [reply] = await scene.say(session, {"id": 2, "subscribe": {"channel": "a", "token": token}})
    assert "subscribe" in reply
    session.subscriptions["a"].expires = scene.clock.now + 5
    news: list[dict[str, Any]] = []
    for _ in range(60):
        await scene.go(1)
        news += await scene.say(session, {})
    assert code(session) is None
    assert [each["push"]["unsubscribe"]["code"] for each in news if "push" in each] == [2501]
    assert session.subscriptions == {}


@usual
async def test_a_client_that_is_there_stays_present_for_as_long_as_it_is(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}})
    for _ in range(300):
        await scene.go(1)
        await scene.say(session, {})
        assert list(await scene.live.presence("a")) == [session.id]
    session.end(Disconnect.normal())
    await eventually(lambda: not scene.node.tasks)
    assert await scene.live.presence("a") == {}


@usual
async def test_a_session_that_ended_is_held_by_nothing(scene: Scene) -> None:
    for _ in range(50):
        session = scene.client()
        token = issue(SECRET, "alice", channels=["b"])
        await scene.say(session, {"id": 1, "connect": {"token": token}}, {"id": 2, "subscribe": {"channel": "a"}})
        session.end(Disconnect.normal())
        session.end(Disconnect.slow())
        assert session.ended is not None
        assert session.ended.code == 3000
    await eventually(lambda: not scene.node.tasks and not scene.node.hub._unsubscribing)
    node = scene.node
    assert not any(
        (len(node.registry), node.registry.users, len(node.presence), node.hub._channels, *node.wheel._slots)
    )


@usual
async def test_what_comes_after_the_end_is_not_run(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}}, {"id": 2, "nothing": {}}, {"id": 3, "ping": {}})
    assert code(session) == 3501
    assert await scene.say(session, {"id": 4, "ping": {}}) == []


@usual
async def test_replies_come_in_the_order_of_the_commands(scene: Scene) -> None:
    order: list[int] = []

    @scene.live.rpc("slow first")
    async def rpc(session: Session, data: int) -> int:
        for _ in range(10 - data):
            await asyncio.sleep(0)
        order.append(data)
        return data

    session = scene.client()
    calls = [{"id": 2 + number, "rpc": {"method": "slow first", "data": number}} for number in range(10)]
    replies = await scene.say(session, {"id": 1, "connect": {}}, *calls)
    assert [reply["id"] for reply in replies] == list(range(1, 12))
    assert order == list(range(10))


@usual
async def test_a_command_does_not_wait_until_the_answer_to_the_one_before_is_sent(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}})
    scene.node.rules.find("a")[0].publish = "client"
    for id in (2, 3, 4):  # each in a frame of its own, as clients send them that do not wait
        session.receive(Frame(b'{"id":%d,"publish":{"channel":"a","data":1}}' % id))
        assert not session.busy
    assert [reply["id"] for reply in pushed(session)] == [2, 3, 4]


@usual
async def test_a_client_that_has_much_to_read_waits_with_its_next_command(scene: Scene) -> None:
    session = scene.client()
    await scene.say(session, {"id": 1, "connect": {}})
    session.outbox.push(Frame(b"x" * (session.outbox.limit // 2 + 1)))
    scene.node.rules.find("a")[0].publish = "client"
    session.receive(Frame(b'{"id":2,"publish":{"channel":"a","data":1}}'))
    assert session.busy
    session.outbox.take()
    await eventually(lambda: not session.busy)
    assert [reply["id"] for reply in pushed(session)] == [2]


@usual
async def test_a_backlog_is_full_while_more_commands_wait_than_the_limit_and_the_transport_is_woken_after(
    scene: Scene,
) -> None:
    session, gate = scene.client(), asyncio.Event()

    @scene.live.rpc("wait")
    async def rpc(session: Session, data: Any) -> None:
        await gate.wait()

    await scene.say(session, {"id": 1, "connect": {}})
    woken: list[bool] = []
    session.outbox.attach(lambda: woken.append(session.backlog_full))
    commands = [{"id": 2 + number, "rpc": {"method": "wait"}} for number in range(300)]
    session.receive(Frame(b"\n".join(json.dumps(command).encode() for command in commands)))
    assert session.backlog_full
    gate.set()
    await eventually(lambda: not session.busy)
    assert not session.backlog_full
    assert woken[-1] is False


@usual
async def test_one_client_has_a_limited_number_of_channels(scene: Scene) -> None:
    session = scene.client()
    asks = [{"id": 2 + number, "subscribe": {"channel": f"c{number}"}} for number in range(129)]
    replies = await scene.say(session, {"id": 1, "connect": {}}, *asks)
    errors = [reply["error"]["code"] for reply in replies if "error" in reply]
    assert errors == [106]
    assert len(session.subscriptions) == 128


async def test_history_of_a_rule_made_in_code_is_kept() -> None:
    live = Freshet(dev=True, environment={})
    live.channel("kept", history=History(size=2, ttl=60))
    async with live.lifespan():
        for number in range(3):
            await live.publish("kept", number)
        assert [publication.data for publication in (await live.history("kept")).publications] == [b"1", b"2"]
