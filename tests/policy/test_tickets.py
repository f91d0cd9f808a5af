"""One-time tickets: one use, a short time, and for what a token stands for."""

import asyncio
from pathlib import Path
from typing import Any

import jwt
import pytest

from freshet.engines.base import Engine, Receiver
from freshet.engines.local.engine import LocalEngine
from freshet.engines.local.messages import EngineSettings
from freshet.engines.memory import MemoryEngine
from freshet.engines.nats.engine import NatsEngine
from freshet.engines.redis.engine import RedisEngine
from freshet.engines.sqlite import SqliteEngine
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.log import History, Position, PublishOptions
from freshet.policy.claims import ClaimChecks, TokenRefusals
from freshet.policy.keys import SIGNATURES
from freshet.policy.revocations import Revocation, Revocations
from freshet.policy.tickets import ALGORITHM, LIFETIME, PREFIX, Tickets
from freshet.policy.tokens import TokenVerifier
from freshet.testing import ManualClock
from tests.tools.nats import nats
from tests.tools.redis import redis

SECRET = "a secret for tests, thirty-two bytes"


@pytest.fixture
def revocations(freshet_clock: ManualClock) -> Revocations:
    return Revocations(freshet_clock.wall)


@pytest.fixture
def engine(freshet_clock: ManualClock) -> MemoryEngine:
    return MemoryEngine(clock=freshet_clock)


def tickets_over(engine: Engine, clock: ManualClock, revocations: Revocations, secret: str = SECRET) -> Tickets:
    checks = ClaimChecks(revocations=revocations, clock=clock)
    return Tickets(secret.encode(), engine, checks, TokenRefusals(explain=True), clock)


@pytest.fixture
def tickets(engine: MemoryEngine, freshet_clock: ManualClock, revocations: Revocations) -> Tickets:
    return tickets_over(engine, freshet_clock, revocations)


async def refused(tickets: Tickets, ticket: str) -> Disconnect | Refusal:
    with pytest.raises((Disconnect, Refusal)) as why:
        await tickets.connection(ticket)
    assert isinstance(why.value, Disconnect | Refusal)
    return why.value


async def test_a_ticket_stands_for_claims_once(tickets: Tickets, freshet_clock: ManualClock) -> None:
    ticket = tickets.issue({"sub": "alice", "exp": freshet_clock.now + 600, "channels": ["news"]})
    claims = await tickets.connection(ticket)
    assert (claims.user, claims.expires_at, claims.channels) == ("alice", freshet_clock.now + 600, ["news"])
    assert "used before" in str(await refused(tickets, ticket))


async def test_of_many_who_come_with_one_ticket_at_once_to_two_nodes_one_gets_in(
    tickets: Tickets, engine: MemoryEngine, freshet_clock: ManualClock, revocations: Revocations
) -> None:
    ticket, other = tickets.issue({"sub": "alice"}), tickets_over(engine, freshet_clock, revocations)
    results = await asyncio.gather(
        *(node.connection(ticket) for _ in range(10) for node in (tickets, other)), return_exceptions=True
    )
    assert sum(not isinstance(result, Exception) for result in results) == 1


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_of_many_who_come_with_one_ticket_at_once_to_two_nodes_of_a_broker_one_gets_in(
    kind: str, freshet_clock: ManualClock, revocations: Revocations
) -> None:
    receiver = Receiver(lambda delivery: None, lambda channel: None, lambda message: None)
    with redis() if kind == "redis" else nats() as broker:
        engines = [(RedisEngine if kind == "redis" else NatsEngine)(broker.url) for _ in range(2)]
        for number, engine in enumerate(engines):
            await engine.start(f"{number}" * 8, receiver)
        nodes = [tickets_over(engine, freshet_clock, revocations) for engine in engines]
        for _ in range(10):
            ticket = nodes[0].issue({"sub": "alice"})
            coming = (node.connection(ticket) for _ in range(5) for node in nodes)
            results = await asyncio.gather(*coming, return_exceptions=True)
            assert sum(not isinstance(result, Exception) for result in results) == 1
            assert all(isinstance(result, Disconnect) for result in results if isinstance(result, Exception))
        for engine in engines:
            await engine.stop()


async def test_who_fills_the_memory_for_logs_cannot_use_a_ticket_again(
    freshet_clock: ManualClock, revocations: Revocations
) -> None:
    engine = MemoryEngine(clock=freshet_clock, log_memory=100_000)
    tickets = tickets_over(engine, freshet_clock, revocations)
    ticket = tickets.issue({"sub": "alice"})
    await tickets.connection(ticket)
    for number in range(200):
        await engine.publish(f"made-{number}", bytes(1000), PublishOptions(history=History(1, 60)))
    assert "used before" in str(await refused(tickets, ticket))


async def test_who_used_a_ticket_before_a_restart_cannot_use_it_again_where_the_server_forgets(
    tickets: Tickets, freshet_clock: ManualClock, revocations: Revocations
) -> None:
    ticket = tickets.issue({"sub": "alice"})
    await tickets.connection(ticket)
    await freshet_clock.advance(1)
    anew = tickets_over(MemoryEngine(clock=freshet_clock), freshet_clock, revocations)
    assert "before this server began" in str(await refused(anew, ticket))
    assert (await anew.connection(anew.issue({"sub": "alice"}))).user == "alice"


async def test_a_clock_that_is_set_back_keeps_nobody_from_using_a_ticket(
    tickets: Tickets, freshet_clock: ManualClock
) -> None:
    freshet_clock.now -= 3600
    assert (await tickets.connection(tickets.issue({"sub": "alice"}))).user == "alice"


def test_which_engines_forget_what_was_used(tmp_path: Path) -> None:
    assert MemoryEngine().forgets
    assert not SqliteEngine(f"sqlite:///{tmp_path}/log.db").forgets
    assert not RedisEngine("redis://127.0.0.1").forgets
    assert LocalEngine(["/hub"], EngineSettings("memory://")).forgets
    assert not LocalEngine(["/hub"], EngineSettings("sqlite:///a.db")).forgets


async def test_a_ticket_is_good_for_half_a_minute(tickets: Tickets, freshet_clock: ManualClock) -> None:
    late = tickets.issue({"sub": "alice"})
    await freshet_clock.advance(LIFETIME)
    assert "30 s" in str(await refused(tickets, late))


async def test_a_ticket_is_not_good_longer_because_its_use_was_forgotten(
    tickets: Tickets, engine: MemoryEngine, freshet_clock: ManualClock
) -> None:
    ticket = tickets.issue({"sub": "alice"})
    await tickets.connection(ticket)
    for _ in range(10):
        await freshet_clock.advance(LIFETIME * 2)
        engine.sweep()
        assert isinstance(await refused(tickets, ticket), Disconnect)


async def test_a_ticket_is_no_token_and_a_token_no_ticket(tickets: Tickets) -> None:
    verifier, ticket = TokenVerifier(SECRET), tickets.issue({"sub": "alice"})
    for text in (ticket, ticket.removeprefix(PREFIX)):
        with pytest.raises(Disconnect):
            verifier.connection(text)
    assert isinstance(await refused(tickets, PREFIX + verifier.issue("alice")), Disconnect)
    forged = jwt.encode({"jti": "1", "exp": 2e9, "claims": {"sub": "alice"}}, SECRET, "HS256")
    assert isinstance(await refused(tickets, PREFIX + forged), Disconnect)


@pytest.mark.parametrize("text", ["", "a.b.c", "..", "e30.e30.", "ticket.ticket."])
async def test_what_is_no_ticket_is_refused_before_the_engine_is_asked(
    tickets: Tickets, engine: MemoryEngine, text: str
) -> None:
    assert isinstance(await refused(tickets, PREFIX + text), Disconnect)
    assert not engine._logs


@pytest.mark.parametrize(
    "held", [b"", b"7", b"{}", b'{"jti":"1","exp":1e400,"claims":{}}', b'{"jti":"\xff"}', b"[" * 9999]
)
async def test_what_is_signed_as_a_ticket_and_holds_none_lets_nobody_in(tickets: Tickets, held: bytes) -> None:
    signed = SIGNATURES.encode(held, tickets._key.material, ALGORITHM)
    assert "holds no ticket" in str(await refused(tickets, PREFIX + signed))


async def test_while_nobody_can_say_whether_it_was_used_it_lets_nobody_in(
    tickets: Tickets, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*arguments: Any) -> Position:
        raise EngineUnavailable("no")

    ticket = tickets.issue({"sub": "alice"})
    with monkeypatch.context() as patch:
        patch.setattr(engine, "publish", away)
        why = await refused(tickets, ticket)
        assert isinstance(why, Refusal)
        assert why.temporary
    assert (await tickets.connection(ticket)).user == "alice"


async def test_a_ticket_for_a_token_that_was_revoked_is_refused(
    tickets: Tickets, revocations: Revocations, freshet_clock: ManualClock
) -> None:
    ticket = tickets.issue({"sub": "alice", "jti": "t1"})
    revocations.add(Revocation("1", token="t1"))
    assert "revoked" in str(await refused(tickets, ticket))


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"sub": "a", "channel": "b"}, {"sub": "a", "exp": 5}])
def test_no_ticket_is_made_for_claims_that_would_be_refused(tickets: Tickets, claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no ticket for such claims"):
        tickets.issue(claims)
