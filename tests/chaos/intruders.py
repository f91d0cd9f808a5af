"""Faults that somebody means: positions and tokens that are not theirs, while everybody else goes on."""

import asyncio
import base64
import json
import time
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from freshet.policy.tokens import issue
from tests.chaos.clients import requesting
from tests.chaos.world import AUDIENCE, SECRET, World
from tests.tools.patience import seconds
from tests.tools.serving import HOST

INVALID, EXPIRED = 3500, 3005  # codes of a close
OVER = 109  # the code of an error


async def strangers_forge_positions(it: World) -> None:
    """They recover from where they never were: they are notified, and get nothing."""
    position = await it.call(0, "history", channel="c0", limit=0)
    epoch, offset = position["epoch"], position["offset"]
    for forged in ((epoch, offset + 1_000_000), ("forged", offset), ("\x00" * 200, 0), (epoch[::-1] + "x", 0)):
        for address in it.addresses:
            async with requesting(address) as request:
                subscribe = {"channel": "c0", "recover": True, "epoch": forged[0], "offset": forged[1]}
                reply = (await request({"subscribe": subscribe}))["subscribe"]
                assert not reply.get("recovered"), forged
                assert not reply.get("publications"), forged


async def tokens_are_invalid(it: World) -> None:
    """Forged ones are refused, nobody fetches a key from where they say, and one that is over ends what it began."""
    fetched: list[str] = []
    trap = await asyncio.start_server(lambda reader, writer: fetched.append("a key"), HOST, 0)
    url = f"http://{HOST}:{trap.sockets[0].getsockname()[1]}/keys"
    async with trap:
        for address in it.addresses:
            for name, token in _forged(url).items():
                assert await _refusal(address, token) in (INVALID, OVER), name
            await _is_disconnected_when_it_expires(address)
            await _replays_nothing(it, address)
    assert not fetched


def _token(user: str = "eve", secret: str = SECRET, channel: str | None = None, **claims: Any) -> str:
    return issue(secret, user, channel=channel, claims={"aud": AUDIENCE, "exp": int(time.time()) + 60, **claims})


def _forged(url: str) -> dict[str, str]:
    """By what is wrong."""
    now = int(time.time())
    return {
        "not signed": _unsigned({"alg": "none", "typ": "JWT"}),
        "signed with another secret": _token(secret="x" * 40),
        "a key by its URL": _unsigned({"alg": "RS256", "jku": url, "kid": "1"}),
        "a certificate by its URL": _unsigned({"alg": "RS256", "x5u": url}),
        "a key in itself": _unsigned({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}),
        "for others": _token(aud="another service"),
        "over": _token(exp=now - 60),
        "not begun": _token(nbf=now + 60),
        "no token": "x.y.z",
    }


def _unsigned(head: dict[str, Any]) -> str:
    parts = (json.dumps(head).encode(), json.dumps({"sub": "eve"}).encode(), b"eve")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def _refusal(address: str, token: str) -> int | None:
    """The code with which it was refused; None: it was not."""
    async with connect(f"ws://{address}/connection/websocket", ping_interval=None) as connection:
        await connection.send(json.dumps({"id": 1, "connect": {"token": token}}))
        try:
            code: int | None = json.loads(await connection.recv()).get("error", {}).get("code")
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code
        return code


async def _is_disconnected_when_it_expires(address: str) -> None:
    """A client that does not refresh its token is disconnected when that has expired, and a grace is over."""
    async with connect(f"ws://{address}/connection/websocket", ping_interval=None) as connection:
        await connection.send(json.dumps({"id": 1, "connect": {"token": _token("bob", exp=int(time.time()) + 2)}}))
        with suppress(ConnectionClosed):
            async with asyncio.timeout(seconds(10)):
                while True:
                    if await connection.recv() == "{}":
                        await connection.send("{}")
    assert connection.close_code == EXPIRED


async def _replays_nothing(it: World, address: str) -> None:
    """Who may no longer subscribe to a channel does not get what it missed there."""
    await it.call(0, "publish", channel="private", data="for few")
    position = await it.call(0, "history", channel="private", limit=0)
    since = {"channel": "private", "recover": True, "epoch": position["epoch"], "offset": position["offset"] - 1}
    async with requesting(address) as request:
        theirs = _token("", channel="private", exp=int(time.time()) - 60)
        for token in ("", theirs, _token("mallory", channel="private")):
            reply = await request({"subscribe": {**since, "token": token}})
            assert "subscribe" not in reply, token
            assert "for few" not in json.dumps(reply)
        good = _token("", channel="private")
        reply = await request({"subscribe": {**since, "token": good}})
        assert [each["data"] for each in reply["subscribe"]["publications"]] == ["for few"]
