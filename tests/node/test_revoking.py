"""Revocations: what happens to sessions, how long they are kept in the log, and while the engine is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freshet.commands.dispatch import Dispatcher
from freshet.engines.base import REVOCATIONS
from freshet.engines.memory import MemoryEngine
from freshet.engines.sqlite import SqliteEngine
from freshet.errors import EngineUnavailable, Refusal
from freshet.model.log import History
from freshet.node import revoking
from freshet.node.revoking import Revoking
from freshet.policy import revocations
from freshet.policy.revocations import Revocation
from freshet.rules.rules import ChannelRule
from freshet.session.session import Session
from tests.tools.patience import eventually
from tests.tools.sessions import came, code, running


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    async with running(ChannelRule("*")) as dispatcher:
        yield dispatcher


@pytest.fixture
def node(dispatcher: Dispatcher) -> Revoking:
    return dispatcher.node.revoking


async def holding(dispatcher: Dispatcher, user: str, **claims: Any) -> Session:
    """A session of a client that has shown a token with these claims."""
    session = await came(dispatcher, user)
    session.token_claims = msgspec.json.encode({"sub": user, **claims})
    return session


async def logged(dispatcher: Dispatcher) -> list[str]:
    """The ids in the log."""
    stream = await dispatcher.node.engine.history(REVOCATIONS, History(revoking.SIZE, 60))
    return [msgspec.json.decode(it.data, type=Revocation).id for it in stream.publications]


async def test_the_session_of_a_token_that_is_revoked_ends_for_good_and_no_other(dispatcher: Dispatcher) -> None:
    one, two = await holding(dispatcher, "alice", jti="1"), await holding(dispatcher, "alice", jti="2")
    stranger = await came(dispatcher, "bob")
    await dispatcher.node.revoking.revoke(Revocation("r", token="1"))
    await eventually(lambda: code(one) == 3500)
    assert code(two) is code(stranger) is None


async def test_the_sessions_of_a_user_end_that_rest_on_older_tokens(dispatcher: Dispatcher) -> None:
    old, new = await holding(dispatcher, "alice", iat=50), await holding(dispatcher, "alice", iat=150)
    undated, by_hook = await holding(dispatcher, "alice"), await came(dispatcher, "alice")
    renamed = await holding(dispatcher, "the hook's name", sub="alice", iat=50)
    bob = await holding(dispatcher, "bob", iat=50)
    await dispatcher.node.revoking.revoke(Revocation("r", user="alice", before=100.0))
    await eventually(lambda: all(code(each) == 3500 for each in (old, undated, by_hook, renamed)))
    assert code(new) is code(bob) is None


async def test_all_sessions_end_that_rest_on_older_tokens_however_many_there_are(dispatcher: Dispatcher) -> None:
    sessions = [await holding(dispatcher, f"user{number}", iat=50) for number in range(revoking.CHUNK + 10)]
    await dispatcher.node.revoking.revoke(Revocation("r", before=100.0))
    await eventually(lambda: all(code(session) == 3500 for session in sessions))


async def test_a_user_who_is_blocked_is_disconnected_for_good(dispatcher: Dispatcher) -> None:
    alice, bob = await came(dispatcher, "alice"), await came(dispatcher, "bob")
    await dispatcher.node.revoking.block("alice", 60)
    await eventually(lambda: code(alice) == 3503)
    assert code(bob) is None


async def test_too_many_at_a_time_are_refused_rather_than_the_oldest_forgotten(
    node: Revoking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "ENTRIES", 2)
    await node.revoke(Revocation("1", token="1"))
    await node.revoke(Revocation("2", token="2"))
    with pytest.raises(Refusal, match="issued before a time") as refusal:
        await node.revoke(Revocation("3", token="3"))
    assert refusal.value.code == 106
    assert node.known.revoked("", "1", None)


async def test_what_holds_is_written_again_before_the_log_forgets_it(
    dispatcher: Dispatcher, node: Revoking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoking, "SIZE", 8)
    await node.revoke(Revocation("stays", token="stays"))
    for number in range(40):
        await node.revoke(Revocation(str(number), token=str(number), until=time.time() + 0.001))
        await asyncio.sleep(0.002)  # until it is over
        await node._look()
        assert "stays" in await logged(dispatcher)
    assert len(await logged(dispatcher)) <= 8
    assert len(node._offsets) == len(node.known) == 1


async def test_what_holds_is_written_again_when_the_log_was_lost(dispatcher: Dispatcher, node: Revoking) -> None:
    await node.revoke(Revocation("1", token="1"))
    engine = dispatcher.node.engine
    assert isinstance(engine, MemoryEngine)
    engine._logs.clear()
    await node._look()
    await node._look()
    assert await logged(dispatcher) == ["1"]


async def test_a_log_that_nothing_was_written_to_for_long_is_renewed_while_something_holds(
    dispatcher: Dispatcher, node: Revoking
) -> None:
    await node.revoke(Revocation("1", token="1"))
    node._written -= revoking.LONGEST / 2 + 1
    await node._look()
    assert await logged(dispatcher) == ["1", "1"]
    await node._look()
    assert await logged(dispatcher) == ["1", "1"]
    node._written = 0.0  # as that of a node that has just started
    await node._look()
    assert await logged(dispatcher) == ["1", "1", "1"]
    assert len(node.known) == 1


async def test_the_log_is_kept_as_long_as_something_holds_within_bounds(node: Revoking) -> None:
    assert node._keep().ttl == revoking.SHORTEST
    await node.revoke(Revocation("1", token="1", until=time.time() + 60))
    assert node._keep().ttl == revoking.SHORTEST
    await node.revoke(Revocation("2", token="2", until=time.time() + 5 * revoking.DAYS))
    assert 4.9 * revoking.DAYS < node._keep().ttl <= 5 * revoking.DAYS
    await node.revoke(Revocation("3", token="3"))
    assert node._keep().ttl == revoking.LONGEST


async def test_more_than_a_page_is_read(
    dispatcher: Dispatcher, node: Revoking, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        await node.revoke(Revocation(str(number), token=str(number)))
    monkeypatch.setattr(revoking, "PAGE", 10)
    other = Revoking(
        dispatcher.node.engine,
        dispatcher.node.bus,
        dispatcher.node.registry,
        revocations.Revocations(time.time),
        time.time,
        3600,
    )
    await other.start()
    assert len(other.known) == 25
    await other.stop()


async def test_while_the_engine_is_away_it_holds_here_and_whoever_asked_is_told(
    dispatcher: Dispatcher, node: Revoking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*arguments: Any, **named: Any) -> Any:
        raise EngineUnavailable("no")

    alice = await holding(dispatcher, "alice", jti="1")
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher.node.engine, "publish", away)
        patch.setattr(dispatcher.node.engine, "history", away)
        with pytest.raises(EngineUnavailable):
            await node.revoke(Revocation("1", token="1"))
        await eventually(lambda: code(alice) == 3500)
        await node._look()
        assert "cannot be read" in caplog.text
    await node._look()
    assert await logged(dispatcher) == ["1"]  # what could not be written is written now


async def test_a_restart_forgets_nothing_where_the_logs_outlast_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'freshet.db'}"
    async with running(ChannelRule("*"), engine=SqliteEngine(url)) as dispatcher:
        await dispatcher.node.revoking.revoke(Revocation("1", user="alice", before=100.0))
        await dispatcher.node.revoking.block("bob", 600)
    async with running(ChannelRule("*"), engine=SqliteEngine(url)) as dispatcher:
        known = dispatcher.node.revoking.known
        assert known.revoked("alice", None, 50.0)
        assert known.blocked("bob")
