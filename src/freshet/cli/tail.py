"""`freshet tail`: what is published, as it comes. A client like any other, that recovers what it missed."""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Annotated, Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import typer
from rich.text import Text
from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException
from websockets.sync.client import ClientConnection, connect

from freshet.cli.caller import HERE, Url
from freshet.cli.configuration import DEFAULT, configuration
from freshet.cli.console import err, fail, out, printable
from freshet.config import secret_of
from freshet.errors import ConfigError
from freshet.policy.tokens import TokenVerifier

TIMEOUT = 10.0  # seconds, for the server's answers
LONGEST_PAUSE = 10.0  # seconds between two attempts
MESSAGE = 16 * 1024 * 1024  # bytes
OLDEST = "oldest"


class Place(NamedTuple):
    epoch: str
    offset: int


def tail(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL...", help="What to subscribe to.")],
    since: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CHANNEL=]EPOCH:OFFSET|oldest", help="Begin with what came after, as long as the log reaches back."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    user: Annotated[str, typer.Option(help="As whom, when the secret of FRESHET_SECRET signs the token.")] = "tail",
    token: Annotated[str, typer.Option(envvar="FRESHET_TOKEN", help="A token to connect with.")] = "",
    url: Url = HERE,
) -> None:
    """Subscribe to channels, and print what is published there.

    After a lost connection it reconnects and prints what it missed; whatever is not a publication goes to stderr.

    [bold]Examples[/bold]

      freshet tail news
      freshet tail chat:1 chat:2 --since oldest
      freshet tail prices --json | jq .data.price
    """
    subscriber = _Subscriber(_endpoint(url), channels, _since(since or [], channels), token, user)
    printed = 0
    try:
        for item in subscriber.publications():
            _show(item, as_json)
            printed += 1
            if printed == limit:
                return
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more; no second complaint
        raise typer.Exit(0) from None


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        raise typer.BadParameter(f"{url!r}: expected http://HOST[:PORT][/PREFIX]", param_hint="--url")
    return f"{schemes[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}/connection/websocket"


def _since(texts: list[str], channels: list[str]) -> dict[str, Place | None]:
    """Where to begin in each channel; None: at the oldest that is kept."""
    places: dict[str, Place | None] = {}
    for text in texts:
        channel, separator, place = text.rpartition("=")
        epoch, _, offset = place.rpartition(":")
        if place != OLDEST and not (epoch and offset.isdecimal()):
            raise typer.BadParameter(f"{text!r}: expected EPOCH:OFFSET or oldest", param_hint="--since")
        if separator and channel not in channels:
            raise typer.BadParameter(f"{channel!r} is not subscribed to", param_hint="--since")
        for name in [channel] if separator else channels:
            places[name] = None if place == OLDEST else Place(epoch, int(offset))
    return places


def _show(item: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(printable(json.dumps(item, ensure_ascii=False)), flush=True)
        return
    line = Text(time.strftime("%H:%M:%S "), "dim")
    line.append(printable(item["channel"]), "cyan").append(f" {item['offset'] or '-'} ", "dim")
    if "tags" in item:
        line.append(printable(" ".join(f"{name}={value}" for name, value in item["tags"].items())) + " ", "magenta")
    line.append(printable(json.dumps(item["data"], ensure_ascii=False)))
    out.print(line, soft_wrap=True, highlight=False)
    out.file.flush()


class _Subscriber:
    """places: where it stands in each channel that has a log."""

    def __init__(
        self, endpoint: str, channels: list[str], since: dict[str, Place | None], token: str, user: str
    ) -> None:
        self._endpoint = endpoint
        self._channels = list(dict.fromkeys(channels))
        self._oldest = {channel for channel, place in since.items() if place is None}
        self._places = {channel: place for channel, place in since.items() if place is not None}
        self._token = token
        self._user = user
        self._pushes: deque[dict[str, Any]] = deque()
        self._replies: dict[int, dict[str, Any]] = {}
        self._ids = count(1)
        self._been_there = False

    def publications(self) -> Iterator[dict[str, Any]]:
        """For ever. Ends the command when there is no sense in reconnecting."""
        pause = 0.0
        while True:
            try:
                with connect(
                    self._endpoint, open_timeout=TIMEOUT, max_size=MESSAGE, proxy=None, ping_interval=None
                ) as socket:
                    pause = 0.0
                    yield from self._session(socket)
            except ConnectionClosed as why:
                self._closed(why)
            except (OSError, InvalidHandshake, WebSocketException) as error:
                if not self._been_there:
                    fail(f"{self._endpoint}: {error}", "Is `freshet serve` running there? Another place: --url.", 1)
            pause = min(LONGEST_PAUSE, max(0.2, pause * 2))
            err.print(f"[yellow]connection lost[/yellow], reconnecting in {pause:g} s", highlight=False)
            time.sleep(pause)

    @staticmethod
    def _closed(why: ConnectionClosed) -> None:
        code = why.rcvd.code if why.rcvd else 1006
        if 3500 <= code < 4000 or 4500 <= code < 5000:
            reason = why.rcvd.reason if why.rcvd else ""
            fail(f"the server disconnected us: {code} {reason}", "Give --token, or set FRESHET_SECRET to sign one.", 1)

    # ------------------------------------------------------------------------------------------------- one connection

    def _session(self, socket: ClientConnection) -> Iterator[dict[str, Any]]:
        self._pushes.clear()
        self._ask(socket, "connect", {"token": self._token or self._sign(), "name": "freshet tail"})
        for channel in self._channels:
            place = self._places.get(channel)
            recover = {"recover": True, **place._asdict()} if place else {}
            result = self._ask(socket, "subscribe", {"channel": channel, **recover})
            yield from self._entered(socket, channel, result)
        self._been_there = True
        while True:
            while self._pushes:
                yield from self._pushed(self._pushes.popleft())
            self._read(socket, None)

    def _entered(self, socket: ClientConnection, channel: str, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the log holds that was not seen yet."""
        here = Place(result.get("epoch", ""), result.get("offset", 0))
        missed = result.get("publications", [])
        if channel in self._oldest:
            self._oldest.discard(channel)
            page = self._ask(socket, "history", {"channel": channel, "limit": -1})
            missed = [each for each in page.get("publications", []) if each.get("offset", 0) <= here.offset]
        elif result.get("was_recovering") and not result.get("recovered"):
            err.print(
                f"[red]{channel}: what was missed cannot be recovered[/red]; continues after offset {here.offset}"
            )
        elif self._been_there:
            err.print(f"[green]{channel}: back[/green], {len(missed)} recovered", highlight=False)
        for publication in missed:
            yield self._item(channel, publication, here.epoch)
        if here.epoch:
            self._places[channel] = here

    def _pushed(self, push: dict[str, Any]) -> Iterator[dict[str, Any]]:
        channel = push.get("channel", "")
        if "pub" in push:
            place = self._places.get(channel)
            item = self._item(channel, push["pub"], place.epoch if place else "")
            if place and item["offset"]:
                self._places[channel] = Place(place.epoch, item["offset"])
            yield item
        elif "unsubscribe" in push:
            fail(f"{channel}: the server ended the subscription: {push['unsubscribe'].get('reason')}", code=1)

    @staticmethod
    def _item(channel: str, publication: dict[str, Any], epoch: str) -> dict[str, Any]:
        item = {"channel": channel, "offset": publication.get("offset", 0), "epoch": epoch}
        return item | {name: publication[name] for name in ("data", "tags", "info") if name in publication}

    # ------------------------------------------------------------------------------------------------------ the wire

    def _ask(self, socket: ClientConnection, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Send a command and wait for its reply; what comes before it is kept."""
        id = next(self._ids)
        socket.send(json.dumps({"id": id, method: request}))
        until = time.monotonic() + TIMEOUT
        while id not in self._replies:
            self._read(socket, max(0.0, until - time.monotonic()))
        reply = self._replies.pop(id)
        if "error" in reply:
            self._refused(request.get("channel", method), reply["error"])
        result: dict[str, Any] = reply[method]
        return result

    @staticmethod
    def _refused(what: str, error: dict[str, Any]) -> NoReturn:
        fail(
            f"{what}: {error['message']} ({error['code']})",
            "A token that may: --token. What is allowed: freshet.toml.",
            1,
        )

    def _read(self, socket: ClientConnection, timeout: float | None) -> None:
        for line in str(socket.recv(timeout)).split("\n"):
            reply = json.loads(line)
            if not reply:
                socket.send("{}")  # a ping, and its pong
            elif "push" in reply:
                self._pushes.append(reply["push"])
            else:
                self._replies[reply["id"]] = reply

    def _sign(self) -> str:
        """A token of our own, where the secret is known; none for a server that asks for none."""
        try:
            config = configuration()
            secret = secret_of(config)
            return TokenVerifier.from_config(config.tokens, secret).issue(self._user, expires_in=3600) if secret else ""
        except ConfigError as error:
            fail(str(error), f"Give --token, or repair {DEFAULT}.")
