"""A key set that is fetched, from a real server: when it is asked, how often, and what it may not do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from freshet.config import Tokens
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.policy import http_client, jwks
from freshet.policy.jwks import PublishedKeys
from freshet.policy.tokens import TokenVerifier
from freshet.testing import ManualClock
from tests.tools.issuer import KEYS, Issuer, issuing, jwk, token
from tests.tools.patience import eventually

REFRESH = 300.0
OLD, NEW = KEYS["RSA"], KEYS["P-256"]

Ask = Callable[[str], Any]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing(jwk(OLD, "old")) as issuer:
        yield issuer


@pytest.fixture
async def published(issuer: Issuer, freshet_clock: ManualClock) -> AsyncIterator[PublishedKeys]:
    keys = PublishedKeys(issuer.url, REFRESH, clock=freshet_clock)
    yield keys
    await keys.stop()


@pytest.fixture
def verifier(published: PublishedKeys, freshet_clock: ManualClock) -> TokenVerifier:
    return TokenVerifier.from_config(Tokens(), None, freshet_clock, remote=published)


async def connect(verifier: TokenVerifier, token: str) -> int | str:
    """The user, or the code of the refusal."""
    try:
        claims = verifier.connection(token)
        return (await claims if asyncio.iscoroutine(claims) else claims).user  # type: ignore[union-attr]
    except (Refusal, Disconnect) as why:
        return why.code


async def test_keys_are_fetched_when_the_first_token_comes_and_kept(issuer: Issuer, verifier: TokenVerifier) -> None:
    assert issuer.fetches == 0
    assert await connect(verifier, token("RS256", "old")) == "alice"
    assert await connect(verifier, token("RS256")) == "alice"
    assert await connect(verifier, token("PS256", "old")) == "alice"
    assert issuer.fetches == 1


async def test_a_thousand_clients_that_come_at_once_share_one_fetch(issuer: Issuer, verifier: TokenVerifier) -> None:
    issuer.held.clear()
    right = token("RS256", "old")
    clients = [asyncio.create_task(connect(verifier, right)) for _ in range(1000)]
    await eventually(lambda: issuer.fetches > 0)
    clients[0].cancel()  # one that no longer waits takes nothing from the others
    issuer.held.set()
    assert set(await asyncio.gather(*clients[1:])) == {"alice"}
    assert issuer.fetches == 1


async def test_ten_thousand_tokens_with_made_up_key_ids_cause_one_fetch(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock
) -> None:
    assert await connect(verifier, token("RS256", "old")) == "alice"
    await freshet_clock.advance(jwks.WINDOW)
    head, _, rest = token("RS256", "old").partition(".")
    assert head
    header = '{{"alg":"RS256","kid":"{}"}}'
    for number in range(10_000):
        import base64

        made_up = base64.urlsafe_b64encode(header.format(number).encode()).rstrip(b"=").decode()
        assert await connect(verifier, f"{made_up}.{rest}") == 3500
    assert issuer.fetches == 2


async def test_a_key_that_was_looked_for_in_vain_is_not_looked_for_again_at_once(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock
) -> None:
    await connect(verifier, token("RS256", "old"))
    await freshet_clock.advance(jwks.WINDOW)
    for _ in range(3):
        assert await connect(verifier, token("ES256", "new")) == 3500
        assert issuer.fetches == 2
        await freshet_clock.advance(jwks.WINDOW / 2)
    await freshet_clock.advance(jwks.UNKNOWN_TIME)
    issuer.keys.append(jwk(NEW, "new"))
    assert await connect(verifier, token("ES256", "new")) == "alice"
    assert issuer.fetches == 3


async def test_a_new_key_is_found_by_the_first_token_that_names_it(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock
) -> None:
    await connect(verifier, token("RS256", "old"))
    issuer.keys = [jwk(NEW, "new")]
    await freshet_clock.advance(jwks.WINDOW)
    assert await connect(verifier, token("ES256", "new")) == "alice"
    assert await connect(verifier, token("RS256", "old")) == 3500  # it was taken out


async def test_the_set_is_fetched_again_in_the_background_before_it_is_stale(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock
) -> None:
    await connect(verifier, token("RS256", "old"))
    await freshet_clock.advance(REFRESH * jwks.EARLY)
    issuer.held.clear()
    assert await connect(verifier, token("RS256", "old")) == "alice"  # without waiting for the issuer
    await eventually(lambda: issuer.fetches == 2)
    issuer.held.set()


async def test_a_stale_set_is_not_believed_before_the_issuer_was_asked(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock
) -> None:
    await connect(verifier, token("RS256", "old"))
    issuer.keys = [jwk(NEW, "new")]
    await freshet_clock.advance(REFRESH)
    assert await connect(verifier, token("RS256", "old")) == 3500


async def test_while_the_issuer_is_away_its_keys_stay_and_it_is_not_asked_for_each_token(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await connect(verifier, token("RS256", "old"))
    issuer.status = 503
    await freshet_clock.advance(REFRESH * 10)
    for _ in range(100):
        assert await connect(verifier, token("RS256", "old")) == "alice"
        assert await connect(verifier, token("ES256", "new")) == 100  # nobody knows: the client is to try again
    assert issuer.fetches == 2
    assert "it answered 503" in caplog.text
    assert "the 1 keys of before stay" in caplog.text
    await freshet_clock.advance(jwks.WINDOW)
    issuer.status = 200
    assert await connect(verifier, token("RS256", "old")) == "alice"
    assert issuer.fetches == 3


async def test_an_issuer_that_was_never_there_lets_nobody_in_and_is_asked_once_a_window(
    issuer: Issuer, verifier: TokenVerifier, freshet_clock: ManualClock
) -> None:
    issuer.status = 500
    for _ in range(100):
        assert await connect(verifier, token("RS256", "old")) == 100
    assert issuer.fetches == 1
    issuer.status = 200
    await freshet_clock.advance(jwks.WINDOW)
    assert await connect(verifier, token("RS256", "old")) == "alice"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "it is no JSON Web Key Set"),
        (b"[]", "it is no JSON Web Key Set"),
        (b'{"keys": 5}', "it is no JSON Web Key Set"),
        (b'{"keys": [1]}', "it is no JSON Web Key Set"),
        (b'{"keys": []}', "none of its 0 keys"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "none of its 1 keys"),
        (b"[" * 100_000, "it is no JSON Web Key Set"),
        (b" " * (jwks.LARGEST + 1), "more than 262144 bytes"),
    ],
    ids=range(8),
)
async def test_what_is_no_key_set_lets_nobody_in(
    issuer: Issuer, verifier: TokenVerifier, caplog: pytest.LogCaptureFixture, body: bytes, says: str
) -> None:
    issuer.body = body
    assert await connect(verifier, token("RS256", "old")) == 100
    assert says in caplog.text


async def test_a_compressed_set_is_bounded_by_what_comes_out_of_it(
    issuer: Issuer, verifier: TokenVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    import gzip

    issuer.headers, issuer.body = {"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000)
    assert await connect(verifier, token("RS256", "old")) == 100
    assert "more than 262144 bytes" in caplog.text


async def test_a_redirect_is_not_followed(
    issuer: Issuer, verifier: TokenVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status, issuer.headers = 302, {"Location": issuer.url.replace("jwks.json", "other.json")}
    assert await connect(verifier, token("RS256", "old")) == 100
    assert issuer.elsewhere == 0
    assert "it answered 302" in caplog.text


async def test_an_issuer_that_does_not_answer_is_given_up(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT", 0.2)
    issuer.held.clear()
    assert await connect(verifier, token("RS256", "old")) == 100


async def test_a_token_that_needs_no_published_key_asks_for_none(issuer: Issuer, published: PublishedKeys) -> None:
    both = TokenVerifier.from_config(Tokens(), "s" * 32, remote=published)
    assert await connect(both, both.issue("bob")) == "bob"
    assert issuer.fetches == 0
    assert await connect(both, token("RS256", "old")) == "alice"
    for wrong in ("", "a.b.c", token("RS256", "old", key=None)[:-5] + "AAAAA"):
        assert await connect(both, wrong) == 3500
    assert issuer.fetches == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/jwks",
        "ftp://127.0.0.1/",
        "//x",
        "",
        "jwks.json",
        "http://127.0.0.1.example.org/",
        "http://[",
    ],
)
def test_a_url_that_somebody_on_the_way_could_answer_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected https://") as mistake:
        PublishedKeys(url, REFRESH)
    assert mistake.value.path == "tokens.jwks"


@pytest.mark.parametrize(
    "url", ["https://id.example.org/jwks", "http://127.0.0.2:1/", "http://localhost/", "http://[::1]/"]
)
def test_a_url_that_nobody_else_answers_is_accepted(url: str) -> None:
    PublishedKeys(url, REFRESH)


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install httpx"):
        PublishedKeys("https://id.example.org/jwks", REFRESH)


def test_a_set_from_which_nothing_would_be_accepted_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"tokens\.algorithms"):
        PublishedKeys("https://id.example.org/jwks", REFRESH, ["HS256"])
