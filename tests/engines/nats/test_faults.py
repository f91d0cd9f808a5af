"""What the NATS engine does while its server is away, and when that comes back with less than it had."""

import asyncio
import base64
import binascii
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from msgspec import structs
from websockets.asyncio.client import connect

from freshet.engines.base import Receiver
from freshet.engines.nats.engine import NatsEngine
from freshet.engines.nats.messages import LogMessage
from freshet.engines.nats.url import parse
from freshet.errors import ConfigError, EngineUnavailable, TooLargeForEngine
from freshet.model.events import Joined, Left, Published
from freshet.model.log import NOWHERE, History, Position, PublishOptions
from freshet.node import revoking
from freshet.node.bus import Bus
from freshet.node.registry import Registry
from freshet.node.revoking import Revoking
from freshet.policy.revocations import Revocation, Revocations
from tests.contracts.engine import ALICE, KEEP, LOGGED, Delivered
from tests.tools.certificates import certify
from tests.tools.nats import Nats, nats
from tests.tools.patience import eventually, seconds
from tests.tools.relay import relaying
from tests.tools.serving import HOST, serving
from tests.transports.shells import WebSocketLink


def offsets(delivered: Delivered) -> list[int]:
    return [event.publication.offset for event in delivered if isinstance(event, Published)]


async def published(engine: NatsEngine, channel: str = "a") -> Position:
    """One publication, as soon as the server takes it."""
    position = NOWHERE

    async def once() -> bool:
        nonlocal position
        try:
            position = await engine.publish(channel, b"1", LOGGED)
        except EngineUnavailable:
            return False
        return True

    deadline = time.monotonic() + seconds(10)
    while not await once():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return position


async def test_a_server_that_is_killed_comes_back_with_all_that_was_acknowledged(
    server: Nats, engine: NatsEngine, delivered: Delivered
) -> None:
    await engine.subscribe("a", KEEP)
    last = await engine.publish("a", b"1", LOGGED)
    server.kill()
    await eventually(lambda: engine._connection._client is None, 5, "the loss to be noticed")
    with pytest.raises(EngineUnavailable, match="away"):
        await engine.publish("a", b"lost", LOGGED)
    with pytest.raises(EngineUnavailable, match="away"):
        await engine.publish("a", b"lost", PublishOptions())
    with pytest.raises(EngineUnavailable, match="away"):
        await engine.history("a", KEEP)
    server.start()
    await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
    after = await published(engine)
    assert after == (last.epoch, 2)
    assert [it.offset for it in (await engine.history("a", KEEP)).publications] == [1, 2]
    await eventually(lambda: offsets(delivered) == [1, 2], 5, "both")


async def test_logs_that_are_lost_begin_anew(server: Nats, engine: NatsEngine, delivered: Delivered) -> None:
    await engine.subscribe("a", KEEP)
    last = await engine.publish("a", b"1", LOGGED)
    server.kill()
    shutil.rmtree(server.data)
    server.start()
    await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
    after = await published(engine)
    assert after.offset == 1
    assert after.epoch != last.epoch


async def test_a_node_that_remembers_more_than_the_log_holds_begins_a_new_epoch(
    server: Nats, engine: NatsEngine, delivered: Delivered
) -> None:
    """As when a machine loses its power before JetStream has written all that it acknowledged."""
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"1", LOGGED)
    server.stop()
    older = server.data.with_name("older")
    shutil.copytree(server.data, older)
    server.start()
    last = await published(engine)
    assert last.offset == 2
    server.kill()
    shutil.rmtree(server.data)
    shutil.copytree(older, server.data)
    server.start()
    after = await published(engine)
    assert after.epoch != last.epoch
    stream = await engine.history("a", KEEP)
    assert stream.position.epoch == after.epoch
    assert [it.offset for it in stream.publications] == [after.offset]


async def test_a_server_that_says_nothing_is_given_up_in_time(
    server: Nats, engine: NatsEngine, delivered: Delivered
) -> None:
    await engine.subscribe("a", KEEP)
    await engine.publish("a", b"1", LOGGED)
    server.pause()
    began = time.monotonic()
    try:
        calls = [
            engine.publish("a", b"2", LOGGED),
            engine.publish("b", b"2", PublishOptions()),
            engine.history("a", KEEP),
            engine.presence("a"),
            engine.set_presence("a", "a1", ALICE),
            engine.tell(None, b"x"),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        server.go_on()
    assert all(isinstance(answer, EngineUnavailable) for answer in answers), answers
    assert time.monotonic() - began < seconds(4)
    await published(engine)


async def test_what_one_publishes_at_once_goes_together_and_keeps_its_order(
    engine: NatsEngine, delivered: Delivered
) -> None:
    keep = PublishOptions(history=History(size=500, ttl=60))
    await engine.subscribe("a", keep.history)
    positions = await asyncio.gather(*(engine.publish("a", b"%d" % index, keep) for index in range(500)))
    assert [position.offset for position in positions] == list(range(1, 501))
    await eventually(lambda: offsets(delivered) == list(range(1, 501)), 5, "all")
    assert [int(it.data) for it in (await engine.history("a", History(500, 60))).publications] == list(range(500))


async def test_a_log_is_cut_to_its_size_in_the_server_too(engine: NatsEngine, delivered: Delivered) -> None:
    for _ in range(40):
        await engine.publish("a", b"1", LOGGED)
    await eventually_few(engine)


async def eventually_few(engine: NatsEngine) -> None:
    deadline = time.monotonic() + seconds(5)
    while len((await engine._logs.stream.read(engine._logs._subject("a")))[1]) > KEEP.size + 10:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_publications_are_gone_when_their_time_is_over_and_the_place_stays(
    engine: NatsEngine, delivered: Delivered
) -> None:
    brief = History(size=5, ttl=0.2)
    last = await engine.publish("a", b"1", PublishOptions(history=brief))
    await asyncio.sleep(0.3)
    assert await engine.history("a", brief) == ([], last)
    assert (await engine.publish("a", b"2", PublishOptions(history=brief))) == (last.epoch, 2)


async def test_garbage_on_our_subjects_is_counted_and_left_out(
    server: Nats, engine: NatsEngine, delivered: Delivered
) -> None:
    await engine.subscribe("a", KEEP)
    stranger = NatsEngine(server.url)
    await stranger.start("stranger", Delivered().receiver)
    for data in (b"", b"\x80\x04pickle", b"\xdd\xff\xff\xff\xff", b"[" * 100_000, b"\x00" * 500_000):
        for subject in (engine._flow("a"), engine._names.node("node"), engine._names.node(None)):
            await stranger._connection.publish(subject, data)
    await stranger.stop()
    await engine.publish("a", b"1", LOGGED)
    await delivered.count(1)
    assert engine.ignored == 15
    assert delivered.control == []


async def test_garbage_in_a_log_does_not_stop_it(server: Nats, engine: NatsEngine, delivered: Delivered) -> None:
    """In its midst it is left out; at its end a new log begins, as nobody knows what is behind it."""
    await engine.subscribe("a", KEEP)
    first = await engine.publish("a", b"1", LOGGED)
    stranger = NatsEngine(server.url)
    await stranger.start("stranger", Delivered().receiver)
    await stranger._connection.publish(engine._logs._subject("a"), b"garbage")
    after = await engine.publish("a", b"2", LOGGED)
    assert after.epoch != first.epoch
    assert [it.data for it in (await engine.history("a", KEEP)).publications] == [b"2"]
    assert (await stranger.history("a", KEEP)).position == after
    await stranger.stop()


async def test_what_comes_late_of_a_log_does_not_hide_where_it_stands(engine: NatsEngine) -> None:
    last = await engine.publish("a", b"1", LOGGED)
    for _ in range(4):
        last = await engine.publish("a", b"1", LOGGED)
    engine._logs.note("a", LogMessage(last.epoch, 2, [], 0, 0.0), 2)
    assert (await engine.publish("a", b"1", LOGGED)) == (last.epoch, last.offset + 1)
    assert engine._logs._tails["a"].offset == last.offset + 1


async def test_over_tls_the_certificate_is_checked(tmp_path: Path, delivered: Delivered) -> None:
    certificate, key = certify(tmp_path)
    with nats("--tls", "--tlscert", str(certificate), "--tlskey", str(key)) as server:
        secure = server.url.replace("nats:", "tls:")
        engine = NatsEngine(f"{secure}?ssl_ca_certs={certificate}")
        await engine.start("node", delivered.receiver)
        await engine.subscribe("a", KEEP)
        await engine.publish("a", b"1", LOGGED)
        await delivered.count(1)
        await engine.stop()
        for url, complaint in ((secure, "certificate verify failed"), (server.url, "wants TLS")):
            with pytest.raises(EngineUnavailable, match=complaint):
                await NatsEngine(url).start("node", Delivered().receiver)


async def test_a_client_of_a_node_that_died_is_told_to_have_left(server: Nats, delivered: Delivered) -> None:
    dead, alive = (NatsEngine(server.url, presence_time=1.0) for _ in range(2))
    await dead.start("dead", Delivered().receiver)
    await alive.start("alive", delivered.receiver)
    await alive.subscribe("a", KEEP)
    await dead.set_presence("a", "a1", ALICE)
    await dead.stop()
    await eventually(lambda: list(delivered) == [Joined("a", ALICE), Left("a", ALICE)], 10, "the leave")
    assert await alive.presence("a") == {}
    await alive.stop()


@pytest.mark.parametrize("options", [LOGGED, PublishOptions(), structs.replace(LOGGED, idempotency_key="k")])
async def test_a_message_that_is_too_large_for_the_server_is_refused_by_itself(
    engine: NatsEngine, options: PublishOptions
) -> None:
    with pytest.raises(TooLargeForEngine, match="at most 1048576 bytes: see its max_payload"):
        await engine.publish("a", b"x" * 2_000_000, options)
    assert (await engine.publish("a", b"1", LOGGED)).offset == 1


async def test_whoever_publishes_it_is_told_the_limit_and_not_to_try_again(server: Nats) -> None:
    large = json.dumps("x" * 1_500_000)
    limits = {"FRESHET_LIMITS__MESSAGE_SIZE": "4000000", "FRESHET_API__BODY_SIZE": "4000000"}
    with serving("--dev", "--engine", server.url, env=limits) as freshet:
        async with connect(freshet.ws("/connection/websocket"), max_size=None) as socket:
            talk = WebSocketLink(socket)
            await talk.ask(connect={})
            refused = (await talk.ask(publish={"channel": "a", "data": json.loads(large)}))["error"]
            assert (refused["code"], refused.get("temporary", False)) == (106, False)
            assert "1048576 bytes: see its max_payload" in refused["message"]
            assert "publish" in await talk.ask(publish={"channel": "a", "data": 1})
        async with httpx.AsyncClient(base_url=freshet.http(""), timeout=seconds(5)) as http:
            answer = await http.post("/api/publish", content=f'{{"channel":"a","data":{large}}}')
            posted = await http.post("/channels/a", content=large)
        error = answer.json()["error"]
        assert (error["code"], "max_payload" in error["message"]) == (106, True)
        assert (posted.status_code, "max_payload" in posted.text) == (413, True)


async def test_what_was_published_beside_a_message_that_is_too_large_is_not_lost(engine: NatsEngine) -> None:
    sizes = [10, 2_000_000, 20, 1_000, 2_000_000, 30]
    published = [engine.publish("a", b"x" * size, LOGGED) for size in sizes]
    done = await asyncio.gather(*published, return_exceptions=True)
    assert [type(each) is TooLargeForEngine for each in done] == [size > 1_000_000 for size in sizes]
    assert [each.offset for each in done if isinstance(each, Position)] == [1, 2, 3, 4]
    stream = await engine.history("a", KEEP)
    assert [len(each.data) for each in stream.publications] == [10, 20, 1_000, 30]


async def test_publications_that_are_too_large_together_go_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "small.conf").write_text("max_payload: 2000\n")
    with nats("-c", str(tmp_path / "small.conf")) as server:
        engine, delivered = NatsEngine(server.url), Delivered()
        await engine.start("node", delivered.receiver)
        positions = await asyncio.gather(*(engine.publish("a", b"x" * 900, LOGGED) for _ in range(10)))
        assert [position.offset for position in positions] == list(range(1, 11))
        await engine.stop()


async def test_without_jetstream_a_node_that_starts_later_learns_from_the_others_what_was_revoked() -> None:
    with nats(jetstream=False) as server:
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(_node(server.url, name)) for name in ("one", "two")]
            one, two = nodes
            for number in range(revoking.PORTION + 5):
                it = Revocation(f"r{number}", token=f"t{number}")
                one.known.add(it)
            await one.start()
            await two.start()
            await eventually(lambda: len(two.known) == revoking.PORTION + 5, 5, "what the other knows")
            assert two.known.revoked("alice", "t7", None)
            late = await stack.enter_async_context(_node(server.url, "late"))
            await late.start()
            await eventually(lambda: late.known.revoked("alice", "t1003", None), 5, "what the others know")


@asynccontextmanager
async def _node(url: str, name: str) -> AsyncIterator[Revoking]:
    """A node's part in revocations; it is started by the caller."""
    engine = NatsEngine(f"{url}?timeout={seconds(1)}")
    bus = Bus(name, engine)
    await engine.start(name, Receiver(lambda event: None, lambda channel: None, bus.receive))
    part = Revoking(engine, bus, Registry(), Revocations(time.time), time.time, 3600)
    try:
        yield part
    finally:
        await part.stop()
        await bus.stop()
        await engine.stop()


async def test_without_jetstream_channels_without_history_work_and_others_say_why() -> None:
    with nats(jetstream=False) as server:
        engine, delivered = NatsEngine(server.url), Delivered()
        await engine.start("node", delivered.receiver)
        await engine.subscribe("a", None)
        await engine.publish("a", b"1", PublishOptions())
        await delivered.count(1)
        with pytest.raises(EngineUnavailable, match="is JetStream enabled"):
            await engine.publish("a", b"1", LOGGED)
        await engine.stop()


async def test_a_wrong_password_says_so_and_is_in_no_error() -> None:
    with nats("--user", "freshet", "--pass", "right") as server:
        right = NatsEngine(server.url.replace("//", "//freshet:right@"))
        await right.start("node", Delivered().receiver)
        assert (await right.publish("a", b"1", LOGGED)).offset == 1
        await right.stop()
        wrong = NatsEngine(server.url.replace("//", "//freshet:wrong@"))
        with pytest.raises(EngineUnavailable, match="Authorization Violation") as caught:
            await wrong.start("node", Delivered().receiver)
        assert "wrong" not in str(caught.value)


async def test_a_connection_that_is_cut_comes_back_with_its_subscriptions(server: Nats, delivered: Delivered) -> None:
    with relaying(server.port) as relay:
        engine = NatsEngine(f"nats://127.0.0.1:{relay.port}?timeout={seconds(1)}")
        await engine.start("node", delivered.receiver)
        await engine.subscribe("a", KEEP)
        for index in range(5):
            relay.cut()
            relay.mend()
            await eventually(lambda count=index: len(delivered.suspicions) == count + 1, 10, "the suspicion")  # type: ignore[misc]
            await engine.publish("a", b"1", LOGGED)
        await eventually(lambda: offsets(delivered) == [1, 2, 3, 4, 5], 5, "all")
        await engine.stop()


async def test_a_seed_signs_what_the_server_asks(tmp_path: Path) -> None:
    raw = bytes([0b10010_101, 0b00000_000]) + bytes(range(32))  # a seed, of a user, and its 32 bytes
    seed = base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
    (tmp_path / "seed").write_text(seed + "\n")
    user = str(parse(f"nats://{HOST}?nkey={tmp_path}/seed").login.public_key)
    assert user.startswith("U")
    (tmp_path / "conf").write_text(f"authorization: {{ users: [ {{ nkey: {user} }} ] }}\n")
    with nats("-c", str(tmp_path / "conf")) as server:
        engine = NatsEngine(f"{server.url}?nkey={tmp_path}/seed")
        await engine.start("node", Delivered().receiver)
        assert (await engine.publish("a", b"1", LOGGED)).offset == 1
        await engine.stop()
        stranger = NatsEngine(server.url)
        with pytest.raises(EngineUnavailable, match="Authorization"):
            await stranger.start("node", Delivered().receiver)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nats://h:x", "not the URL"),
        ("nats://user:ha#sh@h", "written %23 %2F %3F"),
        ("nats://h?nix=1", "no option 'nix'"),
        ("nats://h?replicas=2", "1, 3 or 5"),
        ("nats://h?storage=tape", "file or memory"),
        ("nats://h?prefix=a.b", "letters"),
        ("nats://h?nkey=/nowhere", "cannot be read"),
        ("nats://h?creds=/dev/null", "does not hold any"),
        ("nats://h/path", "without a path"),
    ],
)
def test_an_url_that_cannot_be_is_refused_with_what_is_wrong(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(url)
