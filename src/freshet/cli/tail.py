"""`freshet tail`: what is published, as it comes. A client like any other, that recovers what it missed."""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text

from freshet.cli.caller import HERE, RULES, UNKNOWN, ApiKey, Caller, Url
from freshet.cli.configuration import DEFAULT, configuration
from freshet.cli.console import fail, printable
from freshet.cli.terminal import err, out
from freshet.cli.trace import AdminKey, show_traced, traced
from freshet.cli.wire import CLIENTS, Rejected, Wire, endpoint, sessions
from freshet.config import secret_of
from freshet.errors import ConfigError
from freshet.policy.tokens import TokenVerifier

OLDEST = "oldest"
LOOK = 5.0  # seconds between two looks at which channels match a pattern
WILD = "*?"
HINT = "Give --token, or set FRESHET_SECRET to sign one. If it is set here, it is not the server's."
MAY = "A token that may: --token. What is allowed: freshet.toml."


class Place(NamedTuple):
    epoch: str
    offset: int


def tail(
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="CHANNEL", help="What to subscribe to, or patterns, `chat:*`.")
    ] = None,
    since: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CHANNEL=]EPOCH:OFFSET|oldest", help="Begin with what came after, as long as the log reaches back."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    user: Annotated[str, typer.Option(help="Trace this user: what all its clients do and get, on all nodes.")] = "",
    channel: Annotated[str, typer.Option(help="Look into this channel as an operator, without a subscription.")] = "",
    as_user: Annotated[
        str, typer.Option("--as", help="As whom, when the secret of FRESHET_SECRET signs the token.")
    ] = "tail",
    token: Annotated[str, typer.Option(envvar="FRESHET_TOKEN", help="A token to connect with.")] = "",
    url: Url = HERE,
    api_key: ApiKey = None,
    admin_key: AdminKey = None,
) -> None:
    """Subscribe to channels, and print what is published there; or trace what one user does.

    After a lost connection it reconnects and prints what it missed; whatever is not a publication goes to stderr.
    A pattern needs the key of the server API, by which it finds channels; --user and --channel need the admin key.

    [bold]Examples[/bold]

      freshet tail news
      freshet tail chat:1 chat:2 --since oldest
      freshet tail 'chat:*'
      freshet tail prices --json | jq .data.price
      freshet tail --user alice
    """
    if bool(channels) + bool(user) + bool(channel) != 1:
        raise typer.BadParameter("expected channels, or --user, or --channel.", param_hint="CHANNEL")
    if channels:
        shown = _Subscriber(url, channels, _since(since or [], channels), token, as_user, api_key).publications()
    else:
        shown = traced(url, f"user:{user}" if user else f"channel:{channel}", admin_key)
    printed = 0
    try:
        for item in shown:
            if as_json:
                print(printable(json.dumps(item, ensure_ascii=False)), flush=True)
            elif channels:
                _show(item)
            else:
                show_traced(item)
            printed += 1
            if printed == limit:
                return
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more; no second complaint
        raise typer.Exit(0) from None


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


def _show(item: dict[str, Any]) -> None:
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
        self,
        url: str,
        channels: list[str],
        since: dict[str, Place | None],
        token: str,
        user: str,
        api_key: str | None,
    ) -> None:
        self._url = url
        self._endpoint = endpoint(url, CLIENTS)
        self._channels = [it for it in dict.fromkeys(channels) if not _is_pattern(it)]
        self._patterns = [it for it in dict.fromkeys(channels) if _is_pattern(it)]
        self._oldest = {channel for channel, place in since.items() if place is None}
        self._places = {channel: place for channel, place in since.items() if place is not None}
        self._token = token
        self._user = user
        self._api_key = api_key
        self._been_there = False
        self._entered_once: set[str] = set()

    def publications(self) -> Iterator[dict[str, Any]]:
        """For ever. Ends the command when there is no sense in reconnecting."""
        names = printable(", ".join([*self._channels, *self._patterns]))
        err.print(f"listening to {names} at {self._url} (Ctrl-C ends)", markup=False, highlight=False, soft_wrap=True)
        return sessions(self._endpoint, self._session, HINT)

    # ------------------------------------------------------------------------------------------------- one connection

    def _session(self, wire: Wire) -> Iterator[dict[str, Any]]:
        wire.ask("connect", {"token": self._token or self._sign(), "name": "freshet tail"})
        inside: set[str] = set()
        looked = 0.0
        wire.established = not self._channels
        while True:
            if not inside or (self._patterns and time.monotonic() - looked > LOOK):
                looked = time.monotonic()
                for channel in self._wanted():
                    if channel not in inside:
                        inside.add(channel)
                        yield from self._enter(wire, channel)
            wire.established = self._been_there = True
            if (push := wire.next(LOOK if self._patterns else None)) is not None:
                yield from self._pushed(push)

    def _wanted(self) -> list[str]:
        """The channels by name, and those that match a pattern now."""
        found: dict[str, None] = dict.fromkeys(self._channels)
        for pattern in self._patterns:
            matching = sorted(Caller(self._url, self._api_key).call("channels", {"pattern": pattern})["channels"])
            new = [it for it in matching if it not in self._entered_once]
            if new or not self._been_there:
                more = f", and {len(new) - 5} more" if len(new) > 5 else ""
                shown = printable(", ".join(new[:5])) + more or "no channel with a subscriber yet"
                says = f"{printable(pattern)}: {shown}; new ones are looked for every {LOOK:g} s"
                err.print(says, markup=False, highlight=False, soft_wrap=True)
            found.update(dict.fromkeys(matching))
        return list(found)

    def _enter(self, wire: Wire, channel: str) -> Iterator[dict[str, Any]]:
        place = self._places.get(channel)
        recover = {"recover": True, **place._asdict()} if place else {}
        try:
            result = wire.ask("subscribe", {"channel": channel, **recover})
            yield from self._entered(wire, channel, result)
        except Rejected as why:
            fail(f"{channel}: {why}", RULES if why.code == UNKNOWN else MAY, 1)

    def _entered(self, wire: Wire, channel: str, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the log holds that was not seen yet."""
        here = Place(result.get("epoch", ""), result.get("offset", 0))
        missed = result.get("publications", [])
        if channel in self._oldest:
            self._oldest.discard(channel)
            page = wire.ask("history", {"channel": channel, "limit": -1})
            missed = [each for each in page.get("publications", []) if each.get("offset", 0) <= here.offset]
        elif result.get("was_recovering") and not result.get("recovered"):
            lost = f"{printable(channel)}: what was missed cannot be recovered"
            err.print(f"{lost}; continues after offset {here.offset}", style="red", markup=False, highlight=False)
        elif channel in self._entered_once:
            back = f"{printable(channel)}: back, {len(missed)} recovered"
            err.print(back, style="green", markup=False, highlight=False)
        self._entered_once.add(channel)
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

    def _sign(self) -> str:
        """A token of our own, where the secret is known; none for a server that asks for none."""
        try:
            config = configuration()
            secret = secret_of(config)
            return TokenVerifier.from_config(config.tokens, secret).issue(self._user, expires_in=3600) if secret else ""
        except ConfigError as error:
            fail(str(error), f"Give --token, or repair {DEFAULT}.")


def _is_pattern(name: str) -> bool:
    return any(it in name for it in WILD)
