"""Requests to the application, on a real receiver: how they are signed, and what comes of every way to fail."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from standardwebhooks import Webhook

from freshet.errors import ConfigError
from freshet.policy.webhook_client import BREAKS_AFTER, WAITING, Breaker, WebhookClient, WebhookFailed, key_of
from freshet.runtime.clock import SYSTEM
from freshet.testing import ManualClock
from tests.policy.receiver import Receiver, receiving
from tests.tools.patience import eventually, seconds

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    may: bool


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def client(
    receiver: Receiver, *secrets: str, timeout: float = 5, concurrency: int = 8
) -> AsyncIterator[WebhookClient]:
    keys = [key_of(secret) for secret in secrets or (SECRET,)]
    client = WebhookClient(receiver.url, keys, seconds(timeout), concurrency, SYSTEM)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def failure(client: WebhookClient, *, again: bool = False) -> str:
    with pytest.raises(WebhookFailed) as failed:
        await client.ask("client.connect", {}, Answer, again=again)
    return str(failed.value)


# -------------------------------------------------------------------------------------------------------------- signing


async def test_a_receiver_verifies_what_it_gets_with_the_library_of_the_standard(receiver: Receiver) -> None:
    async with client(receiver) as asks:
        assert (await asks.ask("client.connect", {"name": "grüß", "n": 1}, Answer, again=False)).may
    headers, body = receiver.requests[0]
    verified = Webhook(SECRET).verify(body, headers)
    assert (verified["type"], verified["data"]) == ("client.connect", {"name": "grüß", "n": 1})
    assert verified["timestamp"].endswith("Z")
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(OTHER).verify(body, headers)


async def test_while_a_key_is_changed_both_verify(receiver: Receiver) -> None:
    async with client(receiver, OTHER, SECRET) as asks:
        await asks.ask("client.connect", {}, Answer, again=False)
    headers, body = receiver.requests[0]
    assert Webhook(SECRET).verify(body, headers) == Webhook(OTHER).verify(body, headers)


@pytest.mark.parametrize(
    "secret", ["", "secret", "whsec_", "whsec_%%%", "whsec_" + base64.b64encode(b"k" * 23).decode()]
)
def test_a_weak_secret_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ConfigError) as refused:
        key_of(secret)
    assert refused.value.path == "webhooks.secret"
    assert len(secret) < 8 or secret not in str(refused.value)


# ------------------------------------------------------------------------------------------------------------- refusing

BAD: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "no content": (204, b"", {}),
    "an empty body": (200, b"", {}),
    "null": (200, b"null", {}),
    "a list": (200, b"[]", {}),
    "a page to log in": (200, b"<html>", {}),
    "a wrong type": (200, b'{"may":1}', {}),
    "an unknown field": (200, b'{"may":true,"allow":false}', {}),
    "too deep": (200, b"[" * 50_000, {}),
    "not UTF-8": (200, b'{"may":true,"\xff":1}', {}),
    "too long": (200, b'{"may":true}' + b" " * 70_000, {}),
    "a redirect": (302, b"", {"Location": "http://127.0.0.1:1/"}),
    "not found": (404, b'{"may":true}', {}),
    "no": (403, b'{"may":true}', {}),
    "broken": (500, b'{"may":true}', {}),
    "closed": (0, b"", {}),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD.keys())
async def test_whatever_is_not_a_valid_answer_refuses(
    receiver: Receiver, answer: tuple[int, bytes, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [answer]
    async with client(receiver) as asks:
        await failure(asks)
        assert asks.failures == 1
    assert f"'client.connect' was refused, {receiver.url} gave no valid answer" in caplog.text


async def test_an_answer_that_does_not_come_in_time_refuses(receiver: Receiver) -> None:
    receiver.hold.clear()
    async with client(receiver, timeout=0.1) as asks:
        assert "no answer within" in await failure(asks)


async def test_a_receiver_that_is_not_there_refuses(receiver: Receiver) -> None:
    async with client(receiver) as asks:
        receiver.server.shutdown()
        receiver.server.server_close()
        assert "ConnectError" in await failure(asks)


async def test_before_the_start_and_after_the_end_nobody_is_let_in(receiver: Receiver) -> None:
    asks = WebhookClient(receiver.url, [key_of(SECRET)], 1, 1, SYSTEM)
    assert "not running" in await failure(asks)
    async with client(receiver) as asks:
        pass
    assert "not running" in await failure(asks)


# ------------------------------------------------------------------------------------------------------ asking again


@pytest.mark.parametrize(("again", "asked"), [(True, 2), (False, 1)])
async def test_a_lost_connection_is_tried_again_where_that_does_no_harm(
    receiver: Receiver, again: bool, asked: int
) -> None:
    receiver.answers = [(0, b"", {}), (200, b'{"may":true}', {})]
    async with client(receiver) as asks:
        if again:
            assert (await asks.ask("client.connect", {}, Answer, again=True)).may
        else:
            await failure(asks)
    ids = {headers["webhook-id"] for headers, _ in receiver.requests}
    assert (len(receiver.requests), len(ids)) == (asked, 1)


async def test_an_event_is_delivered_when_the_receiver_is_back(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freshet.policy.webhook_client.RETRIES", (0.01,) * 5)
    receiver.answers = [(500, b"", {}), (0, b"", {}), (429, b"", {"Retry-After": "0"}), (200, b"", {})]
    async with client(receiver) as tells:
        tells.notify("client.disconnect", {"client": "c"})
        await eventually(lambda: len(receiver.requests) == 4 and not len(tells._tasks))
        assert tells.failures == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1


async def test_an_event_that_nobody_takes_is_given_up_with_a_line_in_the_log(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("freshet.policy.webhook_client.RETRIES", (0.01, 0.01))
    receiver.answers = [(400, b"", {})]
    async with client(receiver) as tells:
        tells.notify("channel.occupied", {"channel": "a"})
        await eventually(lambda: tells.failures == 1)
    assert len(receiver.requests) == 3
    assert "'channel.occupied' was not delivered" in caplog.text


async def test_a_receiver_that_is_gone_gets_no_more_events(receiver: Receiver) -> None:
    receiver.answers = [(410, b"", {})]
    async with client(receiver) as tells:
        tells.notify("channel.occupied", {})
        await eventually(lambda: tells._gone)
        tells.notify("channel.vacated", {})
        assert not len(tells._tasks)
    assert len(receiver.requests) == 1


# -------------------------------------------------------------------------------------------------------------- bounds


async def test_only_so_many_requests_are_made_at_a_time_and_all_are_answered(receiver: Receiver) -> None:
    async with client(receiver, concurrency=3) as asks:
        await asyncio.gather(*(asks.ask("client.connect", {}, Answer, again=False) for _ in range(30)))
    assert 1 <= receiver.most_at_once <= 3


async def test_what_waits_is_bounded(receiver: Receiver) -> None:
    receiver.hold.clear()
    async with client(receiver, concurrency=1) as asks:
        waiting = [asyncio.create_task(asks.ask("x", {}, Answer, again=False)) for _ in range(WAITING)]
        await eventually(lambda: asks._waiting == WAITING)
        assert "are waiting already" in await failure(asks)
        for _ in range(WAITING + 10):
            asks.notify("channel.occupied", {})
        assert len(asks._tasks) == WAITING
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        receiver.hold.set()


async def test_a_receiver_that_fails_again_and_again_is_not_asked_for_a_while(receiver: Receiver) -> None:
    receiver.answers = [(503, b"", {})]
    async with client(receiver) as asks:
        for _ in range(BREAKS_AFTER):
            assert "status 503" in await failure(asks)
        asked = len(receiver.requests)
        assert "it is asked again in" in await failure(asks)
        assert len(receiver.requests) == asked


async def test_a_refusal_is_no_outage(receiver: Receiver) -> None:
    receiver.answers = [(403, b"", {})]
    async with client(receiver) as asks:
        for _ in range(3 * BREAKS_AFTER):
            assert "status 403" in await failure(asks)


async def test_one_request_tries_a_receiver_that_failed_and_the_others_wait_for_it() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(BREAKS_AFTER):
        assert breaker.left() == 0
        breaker.failed()
    first = breaker.left()
    assert first > 0
    await clock.advance(first)
    assert breaker.left() == 0  # this one tries
    assert breaker.left() > 0  # and nobody else
    breaker.failed()
    assert breaker.left() > first  # longer than the first time
    await clock.advance(breaker.left())
    assert breaker.left() == 0
    breaker.succeeded()
    assert (breaker.left(), breaker.left()) == (0, 0)


def test_a_receiver_says_itself_how_long_it_wants_to_be_left_alone() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    breaker.failed(retry_after=7)
    assert breaker.left() == 7
    breaker.failed(retry_after=7_000_000)
    assert breaker.left() <= 30
