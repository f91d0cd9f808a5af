"""The NATS engine on one server with JetStream: the contracts."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from freshet.engines.base import Receiver
from freshet.engines.nats.connection import NatsConnection
from freshet.engines.nats.engine import NatsEngine
from freshet.engines.nats.messages import BrokerMessage
from tests.contracts.engine import *  # noqa: F403 - the contract's tests are this module's
from tests.contracts.engine import ALICE
from tests.contracts.nodes import *  # noqa: F403
from tests.contracts.own_events import *  # noqa: F403
from tests.contracts.owning import *  # noqa: F403
from tests.tools.nats import Nats, nats

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Nats]:
    with nats() as it:
        yield it


@pytest.fixture
def another(server: Nats) -> Callable[[], NatsEngine]:
    prefix = f"test{next(_numbers)}"  # so that no test sees what another left
    return lambda: NatsEngine(f"{server.url}?prefix={prefix}&storage=memory")


@pytest.fixture
def engine(another: Callable[[], NatsEngine]) -> NatsEngine:
    return another()


async def test_what_is_removed_while_it_is_read_holds_nobody_up(
    engine: NatsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = NatsConnection.collect

    def counted_one_more(message: BrokerMessage) -> BrokerMessage:
        if message.reply or message.headers:
            return message
        reply = json.loads(message.data)
        return message._replace(data=json.dumps(reply | {"num_pending": reply["num_pending"] + 1}).encode())

    async def collect_fewer(it: NatsConnection, request: Any, is_last: Any) -> BrokerMessage:
        return await collect(it, request, lambda message: is_last(counted_one_more(message)))

    await engine.start("node", Receiver(lambda event: None, lambda channel: None, lambda message: None))
    for client in ("a1", "a2"):
        await engine.set_presence("a", client, ALICE)
    monkeypatch.setattr(NatsConnection, "collect", collect_fewer)
    assert set(await engine.presence("a")) == {"a1", "a2"}
    await engine.stop()
