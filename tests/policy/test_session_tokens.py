"""Tokens that the application checks: how often it is asked, how long its answer counts, and what it may answer."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from freshet.errors import Disconnect, Refusal
from freshet.policy import session_tokens
from freshet.policy.claims import ClaimChecks, ConnectionClaims, TokenRefusals
from freshet.policy.revocations import Revocation, Revocations
from freshet.policy.session_tokens import SessionTokens
from freshet.testing import ManualClock
from tests.tools.patience import eventually

KEEP = 60.0


class Application:
    """answers: by token, the claims, an error to raise, or None. held: while it is not set, questions wait."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"a": {"sub": "alice"}}
        self.asked: list[str] = []
        self.held = asyncio.Event()
        self.held.set()

    async def lookup(self, token: str) -> Mapping[str, Any] | None:
        self.asked.append(token)
        await self.held.wait()
        answer: Any = self.answers.get(token)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def revocations(freshet_clock: ManualClock) -> Revocations:
    return Revocations(freshet_clock.wall)


@pytest.fixture
async def tokens(
    application: Application, revocations: Revocations, freshet_clock: ManualClock
) -> AsyncIterator[SessionTokens]:
    checks = ClaimChecks(revocations=revocations, clock=freshet_clock)
    tokens = SessionTokens(application.lookup, KEEP, 5, checks, TokenRefusals(explain=True), freshet_clock)
    yield tokens
    await tokens.stop()


async def connect(tokens: SessionTokens, token: str) -> int | str:
    try:
        claims = tokens.connection(token)
        return (claims if isinstance(claims, ConnectionClaims) else await claims).user
    except (Refusal, Disconnect) as why:
        return why.code


async def test_what_the_application_says_is_kept_for_a_while(
    application: Application, tokens: SessionTokens, freshet_clock: ManualClock
) -> None:
    for _ in range(3):
        assert await connect(tokens, "a") == "alice"
    assert application.asked == ["a"]
    await freshet_clock.advance(KEEP)
    assert await connect(tokens, "a") == "alice"
    assert application.asked == ["a", "a"]


async def test_a_token_that_it_does_not_know_is_refused_and_remembered_for_a_short_time(
    application: Application, tokens: SessionTokens, freshet_clock: ManualClock
) -> None:
    for _ in range(3):
        assert await connect(tokens, "x") == 3500
    assert application.asked == ["x"]
    await freshet_clock.advance(session_tokens.REFUSED_TIME)
    application.answers["x"] = {"sub": "xavier"}  # who logged in meanwhile
    assert await connect(tokens, "x") == "xavier"


async def test_clients_with_one_token_share_one_question(application: Application, tokens: SessionTokens) -> None:
    application.held.clear()
    clients = [asyncio.create_task(connect(tokens, "a")) for _ in range(100)]
    await eventually(lambda: bool(application.asked))
    clients[0].cancel()
    application.held.set()
    assert set(await asyncio.gather(*clients[1:])) == {"alice"}
    assert application.asked == ["a"]


async def test_a_flood_of_made_up_tokens_is_bounded(
    application: Application, tokens: SessionTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_tokens, "KEPT", 50)
    application.held.clear()
    flood = [asyncio.create_task(connect(tokens, str(number))) for number in range(session_tokens.WAITING + 100)]
    await eventually(lambda: sum(client.done() for client in flood) == 100)
    assert len(application.asked) == session_tokens.AT_ONCE
    application.held.set()
    results = await asyncio.gather(*flood)
    assert results.count(111) == 100
    assert results.count(3500) == session_tokens.WAITING
    assert len(tokens) == 50


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (RuntimeError("no database"), 100),
        (Refusal.too_many_requests(), 111),
        ({"sub": 7}, 3500),
        ({"sub": object()}, 100),
        ({}, 3500),
        ({"sub": "alice", "channel": "news"}, 3500),
        ([], 100),
    ],
)
async def test_a_bad_answer_refuses(application: Application, tokens: SessionTokens, answer: Any, code: int) -> None:
    application.answers["bad"] = answer
    assert await connect(tokens, "bad") == code


async def test_an_error_of_the_application_is_in_the_log_once_and_without_the_token(
    application: Application, tokens: SessionTokens, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(50):
        application.answers[f"t0ken{number}"] = KeyError(f"t0ken{number}")
        assert await connect(tokens, f"t0ken{number}") == 100
    [line] = caplog.messages
    assert "on_authenticate raised KeyError (" in line
    assert __file__ in line
    assert "t0ken" not in line


async def test_an_application_that_does_not_answer_is_given_up(
    application: Application, tokens: SessionTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.held.clear()
    with monkeypatch.context() as short:
        short.setattr(tokens, "_timeout", 0.05)
        assert await connect(tokens, "a") == 100
    application.held.set()
    assert await connect(tokens, "a") == "alice"


async def test_an_error_is_not_kept(application: Application, tokens: SessionTokens) -> None:
    application.answers["b"] = RuntimeError("no database")
    assert await connect(tokens, "b") == 100
    application.answers["b"] = {"sub": "bob"}
    assert await connect(tokens, "b") == "bob"


async def test_the_claims_of_a_session_end_it(
    application: Application, tokens: SessionTokens, freshet_clock: ManualClock
) -> None:
    application.answers["a"] = {"sub": "alice", "exp": freshet_clock.now + 10}
    assert await connect(tokens, "a") == "alice"
    await freshet_clock.advance(11)
    assert await connect(tokens, "a") == 109
    application.answers["a"] = {"sub": "alice", "exp": freshet_clock.now + 10}
    assert await connect(tokens, "a") == "alice"


async def test_what_was_said_before_a_revocation_is_asked_again(
    application: Application, tokens: SessionTokens, revocations: Revocations, freshet_clock: ManualClock
) -> None:
    assert await connect(tokens, "a") == "alice"
    revocations.add(Revocation("1", user="alice", before=freshet_clock.now))
    await freshet_clock.advance(1)
    application.answers["a"] = None
    assert await connect(tokens, "a") == 3500
    application.answers["c"] = {"sub": "alice"}  # who logged in again
    assert await connect(tokens, "c") == "alice"


async def test_no_token_is_kept_only_its_hash(application: Application, tokens: SessionTokens) -> None:
    application.answers["a-session-key"] = {"sub": "alice"}
    await connect(tokens, "a-session-key")
    assert "a-session-key" not in repr(vars(tokens))
