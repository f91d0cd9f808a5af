"""How the NATS engine uses its client library: what fails, what is refused, and what nothing may cost."""

import asyncio
import sys
from pathlib import Path

import pytest

from freshet.engines.base import Present, Receiver
from freshet.engines.nats.engine import NatsEngine
from freshet.engines.nats.presence import PORTION
from freshet.errors import ConfigError, EngineUnavailable
from freshet.model.events import Delivery, Joined, Published
from freshet.model.log import ClientInfo, History, PublishOptions
from tests.contracts.engine import KEEP, LOGGED, Delivered
from tests.tools.nats import Nats, nats
from tests.tools.patience import eventually, seconds
from tests.tools.relay import relaying
from tests.tools.serving import HOST

UNLOGGED = PublishOptions()


def test_without_the_client_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "freshet.engines.nats.client", None)
    with pytest.raises(ConfigError, match=r"pip install nats-py"):
        NatsEngine("nats://localhost")


async def test_what_was_refused_while_the_server_was_away_is_not_published_later(
    server: Nats, engine: NatsEngine, delivered: Delivered
) -> None:
    await engine.subscribe("a", None)
    server.kill()
    for _ in range(20):
        with pytest.raises(EngineUnavailable):
            await engine.publish("a", b"lost", UNLOGGED)
    server.start()
    await eventually(lambda: delivered.suspicions == [""], 10, "the suspicion")
    await engine.publish("a", b"1", UNLOGGED)
    [event] = await delivered.count(1)
    assert isinstance(event, Published)
    assert event.publication.data == b"1"


async def test_what_waits_fails_at_once_when_the_connection_is_lost_and_the_engine_can_be_stopped(
    server: Nats, delivered: Delivered
) -> None:
    with relaying(server.port) as relay:
        engine = NatsEngine(f"nats://{HOST}:{relay.port}?timeout=60")
        await engine.start("node", delivered.receiver)
        relay.silence()
        calls = [engine.publish("a", b"1", UNLOGGED), engine.publish("a", b"1", LOGGED), engine.history("a", KEEP)]
        waiting = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.to_thread(relay.cut)
        async with asyncio.timeout(seconds(10)):  # long before the time of a call is over
            answers = await waiting
            assert all(isinstance(answer, EngineUnavailable) for answer in answers), answers
            await engine.stop()


async def test_a_subscription_costs_no_task(engine: NatsEngine, delivered: Delivered) -> None:
    before = len(asyncio.all_tasks())
    for index in range(100):
        await engine.subscribe(f"c{index}", None)
    for index in range(100):
        await engine.publish(f"c{index}", b"1", UNLOGGED)
    await delivered.count(100)
    assert len(asyncio.all_tasks()) <= before


async def test_presence_of_more_clients_than_a_portion_is_renewed_without_a_task_for_each(
    engine: NatsEngine, delivered: Delivered
) -> None:
    clients = [ClientInfo(f"user{index}", f"c{index}") for index in range(2 * PORTION + 10)]
    present = [Present("a", info.client, info) for info in clients]
    await engine.subscribe("a", None)
    await engine.renew_presence(present)
    renewing = asyncio.ensure_future(engine.renew_presence(present))
    tasks = 0
    while not renewing.done():
        tasks = max(tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
    assert tasks < 20
    await renewing
    assert await engine.presence("a") == {info.client: info for info in clients}
    joined = [event.info for event in await delivered.count(len(clients)) if isinstance(event, Joined)]
    assert joined == clients


async def test_a_client_that_another_node_has_set_is_renewed_and_does_not_join_again(
    server: Nats, engine: NatsEngine, delivered: Delivered
) -> None:
    other = NatsEngine(server.url)
    await other.start("other", Delivered().receiver)
    present = [Present("a", f"c{index}", ClientInfo("u", f"c{index}")) for index in range(5)]
    await engine.subscribe("a", None)
    await engine.renew_presence(present[:3])
    await other.renew_presence(present)
    await engine.renew_presence(present)
    await delivered.count(5)
    assert set(await engine.presence("a")) == {it.client for it in present}
    await other.stop()


async def test_an_error_in_whoever_is_delivered_to_does_not_end_the_connection(server: Nats) -> None:
    engine, delivered = NatsEngine(server.url), Delivered()

    def deliver(event: Delivery) -> None:
        delivered.append(event)
        if len(delivered) == 1:
            raise RuntimeError("a defect")

    await engine.start("node", Receiver(deliver, delivered.suspicions.append, delivered.control.append))
    await engine.subscribe("a", KEEP)
    for _ in range(3):
        await engine.publish("a", b"1", LOGGED)
    await delivered.count(3)
    assert not delivered.suspicions
    await engine.stop()


async def test_what_the_server_does_not_permit_is_refused_and_the_connection_stays(
    tmp_path: Path, delivered: Delivered
) -> None:
    denied = "permissions: { publish: { deny: [ 'freshet.node.>' ] } }"
    (tmp_path / "conf").write_text(f"authorization: {{ users: [ {{ user: a, password: b, {denied} }} ] }}\n")
    with nats("-c", str(tmp_path / "conf")) as server:
        engine = NatsEngine(server.url.replace("//", "//a:b@"))
        await engine.start("node", delivered.receiver)
        await engine.subscribe("a", None)
        with pytest.raises(EngineUnavailable, match="NATS refused: permissions violation for publish"):
            await engine.tell("other", b"x")
        await engine.publish("a", b"1", UNLOGGED)
        await delivered.count(1)
        assert not delivered.suspicions
        await engine.stop()


async def test_an_url_that_asks_for_tls_is_not_served_in_plain_text(server: Nats) -> None:
    with pytest.raises(EngineUnavailable, match="no TLS"):
        await NatsEngine(server.url.replace("nats:", "tls:")).start("node", Delivered().receiver)


async def test_who_reads_a_log_while_others_append_to_it_sees_no_loss(
    engine: NatsEngine, caplog: pytest.LogCaptureFixture
) -> None:
    keep = History(size=1000, ttl=60)
    first = await engine.publish("a", b"1", PublishOptions(history=keep))
    for _ in range(50):
        _, _, stream, last = await asyncio.gather(
            engine.publish("a", b"1", PublishOptions(history=keep)),
            engine.history("a", keep, limit=0),
            engine.history("a", keep, limit=0),
            engine.publish("a", b"1", PublishOptions(history=keep)),
        )
        assert stream.position.epoch == last.epoch == first.epoch
    assert "lost the end" not in caplog.text


async def test_a_token_lets_us_in(delivered: Delivered) -> None:
    with nats("--auth", "s3cret") as server:
        engine = NatsEngine(server.url.replace("//", "//s3cret@"))
        await engine.start("node", delivered.receiver)
        assert (await engine.publish("a", b"1", LOGGED)).offset == 1
        await engine.stop()
