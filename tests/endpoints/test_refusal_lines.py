"""Every refusal leaves a line for the operator: whichever the way in, with the reason, and the option to change."""

import json
import logging
from typing import Any
from urllib.parse import quote

import pytest

from freshet import Disconnect, Freshet, Handshake, Refusal
from freshet.config import Config, Limits
from freshet.dialects.centrifuge.json import Centrifuge
from freshet.endpoints.in_process import settle
from freshet.testing import ManualClock
from tests.endpoints.matrix import (
    HOST,
    KEY,
    LATER,
    NOW,
    OPERATORS,
    SECRET,
    SIGNS,
    TOKENS,
    WAYS,
    Sent,
    Way,
    _bearer,
    _end,
    _text,
    outcome,
    visit,
)

Records = pytest.LogCaptureFixture
FOREIGN = [sign for sign in SIGNS if sign.startswith(("a foreign", "a look-alike", "`null`", "a link"))]


def lines(caplog: Records) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.levelno >= logging.INFO]


@pytest.mark.parametrize("sign", FOREIGN)
@pytest.mark.parametrize("name", [name for name in WAYS if name not in OPERATORS])
async def test_a_page_that_may_not_connect(name: str, sign: str, caplog: Records) -> None:
    if await outcome(name, SIGNS[sign], TOKENS["valid"]) == "403":
        assert any("was refused: see the option `origins`" in line for line in lines(caplog)), lines(caplog)
    else:
        assert sign == "a link or a frame"  # which no WebSocket is


@pytest.mark.parametrize("kind", [kind for kind in TOKENS if kind not in ("valid", "none")])
@pytest.mark.parametrize("name", [name for name in WAYS if name not in (*LATER, *OPERATORS)])
async def test_a_token_that_is_not_right(name: str, kind: str, caplog: Records) -> None:
    assert "yes" not in await outcome(name, SIGNS["its own page"], TOKENS[kind])
    assert any("token" in line or "(109)" in line for line in lines(caplog)), lines(caplog)
    assert TOKENS[kind] not in caplog.text


@pytest.mark.parametrize("name", [name for name in WAYS if name not in (*LATER, *OPERATORS)])
async def test_no_token_at_all(name: str, caplog: Records) -> None:
    assert "yes" not in await outcome(name, SIGNS["its own page"], "")
    assert any("a token is required" in line for line in lines(caplog)), lines(caplog)


@pytest.mark.parametrize("key", ["", "a guess"])
@pytest.mark.parametrize("name", OPERATORS)
async def test_an_operator_without_the_key(name: str, key: str, caplog: Records) -> None:
    assert await outcome(name, SIGNS["no sign (no browser)"], key) == "401"
    assert any("was refused" in line for line in lines(caplog)), lines(caplog)
    assert KEY not in caplog.text


# ----------------------------------------------------------------------------------------- within a session, by dialect


def _refused(sent: Sent) -> str:
    """By an error in a reply, a status, a close or the acknowledgement of an event."""
    text = _text(sent)
    return _end(sent) or ("refused" if '"error":{' in text or "event: error" in text else "")


def _centrifuge(command: dict[str, Any]) -> list[str]:
    return [json.dumps({"id": 1, "connect": {"token": TOKENS["valid"]}}), json.dumps({"id": 2, **command})]


def _socketio(*event: object) -> list[str]:
    return ["40" + json.dumps({"token": TOKENS["valid"]}), "421" + json.dumps(event)]


def _url(channel: str) -> str:
    return f"/channels/{quote(channel)}"


def ways(channel: str) -> dict[str, Way]:
    """How one asks to be in a channel, in each dialect."""
    token = TOKENS["valid"]
    get = WAYS["channel, page"]
    return {
        "centrifuge": WAYS["WebSocket"]._replace(
            outcome=_refused, messages=lambda it: _centrifuge({"subscribe": {"channel": channel}})
        ),
        "socketio": WAYS["Socket.IO, WebSocket"]._replace(
            outcome=_refused, messages=lambda it: _socketio("subscribe", channel)
        ),
        "channel, WebSocket": WAYS["channel, WebSocket"]._replace(
            url=lambda it: f"{_url(channel)}?token={token}", outcome=_refused
        ),
        "channel, events": get._replace(
            url=lambda it: _url(channel),
            outcome=_refused,
            headers=lambda it: {"accept": "text/event-stream", **_bearer(token)},
        ),
        "channel, page": get._replace(
            url=lambda it: _url(channel), outcome=_refused, headers=lambda it: _bearer(token)
        ),
        "channel, `POST`": WAYS["channel, `POST`"]._replace(
            url=lambda it: _url(channel), outcome=_refused, headers=lambda it: _bearer(token)
        ),
    }


CASES = {
    "closed": '" in its rule',
    "nobody's": "see [[channels]] match",
    "hooked": "not a member",
    "x" * 300: "at most 255 bytes",
}


@pytest.mark.parametrize("channel", CASES, ids=lambda it: it[:20])
@pytest.mark.parametrize("dialect", ways(""))
async def test_a_command_that_is_refused(dialect: str, channel: str, caplog: Records) -> None:
    caplog.set_level(logging.INFO, "freshet")
    live = Freshet(secret=SECRET, config=Config(limits=Limits(connects_per_second=0)), clock=ManualClock(NOW))
    live.channel("closed", subscribe="nobody")
    hooked = live.channel("hooked", publish="client", read="client")

    @hooked.on_subscribe
    def no_subscriber(session: Any) -> None:
        raise Refusal.permission_denied("not a member")

    @hooked.on_publish
    def no_publisher(session: Any, data: Any) -> None:
        raise Refusal.permission_denied("not a member")

    if channel == "hooked" and dialect == "channel, page":
        return  # a page is read without a subscription
    async with live.lifespan():
        way = ways(channel)[dialect]
        headers = {"host": HOST, "origin": f"https://{HOST}", **way.headers("")}
        assert await visit(live, way, "", headers)
    assert any(CASES[channel] in line for line in lines(caplog)), lines(caplog)


async def test_the_same_refusal_again_and_again_leaves_one_line(caplog: Records) -> None:
    live = Freshet(secret=SECRET, clock=ManualClock(NOW))
    async with live.test_client("alice") as alice:
        for _ in range(100):
            with pytest.raises(Refusal):
                await alice.subscribe("nobody's")
    assert len([line for line in lines(caplog) if "nobody's" in line]) == 1


# ------------------------------------------------------------------------- ends by which an official client stays away


async def test_a_client_that_sends_what_nothing_takes(caplog: Records) -> None:
    live = Freshet(secret=SECRET, clock=ManualClock(NOW))
    async with live.test_client("alice") as alice:
        await alice.send("hello")
        assert (await alice.closed()).code == 3508
    assert any("Freshet.on_message" in line for line in lines(caplog)), lines(caplog)


async def test_a_client_that_does_not_connect_in_time(caplog: Records) -> None:
    clock = ManualClock(NOW)
    live = Freshet(secret=SECRET, clock=clock)
    async with live.lifespan():
        session = live._dispatcher.open(Centrifuge(), Handshake("/"))
        session.outbox.attach(lambda: session.end(session.outbox.closed or Disconnect.normal()))
        await clock.advance(live.config.timing.connect_timeout + 2)
        assert session.ended is not None
        assert session.ended.code == 3502
    assert any("see timing.connect_timeout" in line for line in lines(caplog)), lines(caplog)


async def test_a_client_that_does_not_read(caplog: Records) -> None:
    live = Freshet(secret=SECRET, config=Config(limits=Limits(outbox=10_000)), clock=ManualClock(NOW))
    live.channel("log:{name}")
    async with live.test_client("alice") as alice:
        await alice.subscribe("log:a")
        session, *_ = live._node.registry
        session.outbox.attach(lambda: None)  # its socket takes nothing any more
        for _ in range(20):
            await live.publish("log:a", "x" * 1000)
            await settle()
        assert session.closing is not None
        assert session.closing.code == 3008
        session.end(session.closing)
    assert any("see limits.outbox, and slow of the channel's rule" in line for line in lines(caplog)), lines(caplog)
