"""The server side of the admin page: a Freshet beside the one that it shows, with its own clients, channels and calls.

What is measured is published in `overview` and `lists` once a second, as long as somebody is subscribed there; a tail
is the channel `tail:channel:NAME` or `tail:user:NAME`. Its clients are counted nowhere, and no rule and no hook of the
application concerns them.
"""

import asyncio
import hmac
import logging
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any

import msgspec

from freshet.commands.dispatch import Dispatcher
from freshet.commands.server import ServerOperations
from freshet.config import Admin, ChannelConfig, Config, Limits, Tokens
from freshet.errors import Disconnect, EngineUnavailable, Refusal
from freshet.model.events import Published
from freshet.model.frame import Handshake
from freshet.model.json_text import one_line
from freshet.model.log import History, Kind
from freshet.node.holding import statistics_of
from freshet.observe.distinct import counted, merged
from freshet.observe.histograms import SECONDS
from freshet.observe.logs import BoundedLog
from freshet.ops.admin.survey import CLIENTS, DISCONNECT, SURVEY, ClientQuery, ClientView, NodeSurvey, Surveyor, now
from freshet.ops.admin.tracing import FLUSH, Item, Sample, Tracer, delivery
from freshet.rules.hooks import Hook, Welcome, to_json
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session

log = logging.getLogger("freshet.admin")
bounded_log = BoundedLog(log)

INTERVAL = 1.0  # seconds between two looks at all nodes
TIMEOUT = 2.0  # seconds for their replies
SAMPLES = 300  # that a page finds when it opens
CHANNEL, USER = "tail:channel:", "tail:user:"
HISTORY, PRESENT = 50, 200  # of one channel that are shown
"""Publications, and clients."""

REFUSED, ELSEWHERE = 4501, 4502


class DisconnectOne(msgspec.Struct):
    client: str
    node: str


class TestMessage(msgspec.Struct):
    channel: str
    data: msgspec.Raw


class ChannelQuery(msgspec.Struct):
    channel: str


class ChannelsQuery(msgspec.Struct):
    text: str = ""


def console_config() -> Config:
    """Of the Freshet behind the page."""
    past = History(size=SAMPLES, ttl=2 * SAMPLES * INTERVAL)
    return Config(
        tokens=Tokens(anonymous=True),  # the key is asked for in the hook
        limits=Limits(channel_length=4096),
        channels=[
            ChannelConfig(match="overview", history=past),
            ChannelConfig(match="lists", history=History(size=1, ttl=60)),
            ChannelConfig(match="tail:*"),
        ],
    )


class Console:
    """own: where the page's clients are; its node runs with the one that is shown, as a part of it.

    server, shown: the Freshet that is shown. environment: where the key may be.
    """

    def __init__(self, own: Dispatcher, shown: Dispatcher, server: ServerOperations, key: str | None) -> None:
        self._own = own
        self._node = shown.node
        self._server = server
        self._config: Admin = shown.node.config.admin
        self._key = key.encode() if key else b""
        self._publish = ServerOperations(own.node, own.policies).publish
        self._surveyor = Surveyor(shown)
        self._tracer = Tracer(shown)
        self._tracer.traced = self._traced
        self._samples: dict[str, Sample] = {}  # of users, by the tail's channel
        self._work: dict[str, asyncio.Task[None]] = {}  # by the channel that it is for
        self._tasks = Tasks()
        hooks = own.node.hooks
        hooks.connect = Hook(self.connect, ("session",), ("data", "request"))
        for method in (self.channels, self.channel, self.clients, self.client, self.disconnect, self.publish):
            hooks.rpc[method.__name__] = Hook(method, ("session", "data"))
        own.node.rules.extend_from(own.node.config)

    async def start(self) -> None:
        self._surveyor.start()
        await self._own.node.start()
        self._own.node.hub.occupancy = self._occupancy

    async def stop(self) -> None:
        self._surveyor.stop()
        await self._tasks.stop()
        await self._tracer.stop()
        await self._own.node.stop()

    # -------------------------------------------------------------------------------------------------- who may look on

    def connect(self, session: Session, data: Any, request: Handshake) -> Welcome:
        """Raises `Disconnect` for whoever has no key."""
        given = data.get("key") if isinstance(data, dict) else None
        if not (self._config.anonymous and _from_here(request)):
            self._check(given, request)
        about = {
            "allow": self._config.allow,
            "node": self._node.id,
            "version": version("freshet"),
            "open": not given,
            "bounds": SECONDS,
        }
        return Welcome(user="operator", data=about)

    def _check(self, given: Any, request: Handshake) -> None:
        if not self._key and self._config.anonymous:
            bounded_log.warning("elsewhere", "the admin page was refused to %s: without a key, it is for this machine "
                                "alone: set FRESHET_ADMIN_KEY or [admin] key", request.client)  # fmt: skip
            raise Disconnect(ELSEWHERE, "without a key, only from this machine: set FRESHET_ADMIN_KEY")
        if not self._key:
            raise Disconnect(ELSEWHERE, f"there is no admin key: set {self._config.key_env} or [admin] key")
        if not given:
            raise Disconnect(REFUSED, "a key is required")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(errors="replace"), self._key):
            bounded_log.warning(
                "key", "the admin page was refused to %s: its key is not the one of [admin]", request.client
            )
            raise Disconnect(REFUSED, "this is not the key")

    def _allowed(self, deed: str) -> None:
        if deed not in self._config.allow:
            raise Refusal.permission_denied(f"the page may not {deed}: see the option admin.allow")

    # ------------------------------------------------------------------------------------------------ what it publishes

    def _occupancy(self, channel: str, occupied: bool) -> None:
        if not occupied:
            if (work := self._work.pop(channel, None)) is not None:
                work.cancel()
            return
        for prefix, begin in (("overview", self._survey), (CHANNEL, self._tail_channel), (USER, self._tail_user)):
            if channel.startswith(prefix):
                self._work[channel] = self._tasks.start(begin(channel), f"admin: {channel!r}")

    async def _say(self, channel: str, data: Any) -> None:
        await self._publish(channel, (to_json(data), Kind.JSON))

    async def _survey(self, channel: str) -> None:
        while True:
            began = now()
            surveys = await self._surveys()
            await self._say(channel, {"at": began, **_users(surveys), "nodes": [_numbers(it) for it in surveys]})
            await self._say("lists", _lists(surveys))
            await asyncio.sleep(max(0.1, INTERVAL - (now() - began)))

    async def _surveys(self) -> list[NodeSurvey]:
        replies = await self._node.bus.request_all(SURVEY, b"", TIMEOUT)
        return [msgspec.msgpack.decode(reply, type=NodeSurvey) for reply in replies]

    async def _tail_channel(self, channel: str) -> None:
        sample = Sample()
        try:
            end = await self._tracer.channel(channel.removeprefix(CHANNEL), sample.add)
        except (Refusal, EngineUnavailable) as why:
            await self._say(channel, {"items": [{"kind": "notice", "at": now(), "data": str(why)}], "left_out": 0})
            return
        try:
            await self._flow(channel, sample)
        finally:
            end()

    async def _flow(self, channel: str, sample: Sample) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            items, left_out = sample.take()
            if items:
                await self._say(channel, {"items": items, "left_out": left_out})

    async def _tail_user(self, channel: str) -> None:
        sample = self._samples[channel] = Sample()
        asking = self._tasks.start(self._tracer.user(channel.removeprefix(USER)), f"admin: {channel!r} asks")
        try:
            await self._flow(channel, sample)
        finally:
            asking.cancel()
            del self._samples[channel]

    def _traced(self, user: str, items: list[Item], left_out: int) -> None:
        if (sample := self._samples.get(f"{USER}{user}")) is not None:
            sample.extend(items, left_out)

    # ------------------------------------------------------------------------------------------------- what it is asked

    async def channels(self, session: Session, data: ChannelsQuery) -> Any:
        """The channels whose name has a text in it, with their subscribers, the most first."""
        found = await self._server.channels()
        text = data.text.casefold()
        matching = [(name, count) for name, count in found.items() if text in name.casefold()]
        return {"total": len(matching), "channels": sorted(matching, key=lambda it: (-it[1], it[0]))[:HISTORY]}

    async def channel(self, session: Session, data: ChannelQuery) -> Any:
        """Its rule, what its log holds last, and who is present. What the rule lacks is null."""
        name = data.channel
        rule, _ = self._node.rules.find(name)
        past: dict[str, Any] | None = None
        present: dict[str, Any] | None = None
        if rule.history is not None:
            stream = await self._server.history(name, None, HISTORY, True)
            shown = [delivery(Published(name, it)) for it in stream.publications]
            past = {"offset": stream.position.offset, "epoch": stream.position.epoch, "publications": shown}
        if rule.presence:
            who = await self._server.presence(name)
            clients = [{"client": id, "user": info.user} for id, info in list(who.items())[:PRESENT]]
            present = {"total": len(who), "users": len({it.user for it in who.values()}), "clients": clients}
        return {"rule": _options(rule), "history": past, "presence": present}

    async def clients(self, session: Session, data: ClientQuery) -> Any:
        """Those whose user or id has a text in it, on all nodes."""
        found = await self._find(data)
        return {"clients": msgspec.to_builtins(sorted(found, key=lambda it: (it.user, it.id)))}

    async def client(self, session: Session, data: ClientQuery) -> Any:
        """One client, with its channels."""
        found = await self._find(ClientQuery(data.text, exact=True, whole=True))
        if not found:
            raise Refusal.not_available(f"there is no client {data.text!r} any more")
        return msgspec.to_builtins(found[0])

    async def _find(self, query: ClientQuery) -> list[ClientView]:
        replies = await self._node.bus.request_all(CLIENTS, msgspec.msgpack.encode(query), TIMEOUT)
        return [it for reply in replies for it in msgspec.msgpack.decode(reply, type=list[ClientView])]

    async def disconnect(self, session: Session, data: DisconnectOne) -> Any:
        self._allowed("disconnect")
        bus, body = self._node.bus, data.client.encode()
        if data.node == self._node.id:
            done = await bus.handlers[DISCONNECT](body)
        elif data.node in bus.peers:
            done = await bus.request(data.node, DISCONNECT, body, TIMEOUT)
        else:
            raise Refusal.not_available(f"there is no node {data.node!r}")
        log.warning("an operator disconnected the client %r on node %r from the admin page", data.client, data.node)
        return {"found": bool(done)}

    async def publish(self, session: Session, data: TestMessage) -> Any:
        self._allowed("publish")
        position = await self._server.publish(data.channel, (one_line(bytes(data.data)), Kind.JSON))
        log.info("an operator published in %r from the admin page", data.channel)
        return {"offset": position.offset, "epoch": position.epoch}


def _from_here(request: Handshake) -> bool:
    """Whether it comes from this machine, and no proxy says that it comes from elsewhere."""
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ip_address(request.client.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError:
        return False


def _users(surveys: list[NodeSurvey]) -> dict[str, Any]:
    """How many there are on all nodes together, where one who is on two counts once."""
    if len(surveys) == 1:
        return {"users": surveys[0].snapshot.users, "estimated": False}
    number, exact = counted(merged(it.users for it in surveys))
    most = max((it.snapshot.users for it in surveys), default=0)  # one that has just met the others gave no sample
    return {"users": max(number, most), "estimated": not exact}


def _numbers(it: NodeSurvey) -> dict[str, Any]:
    """Of histograms, the counts of their buckets; see `SECONDS`."""
    snapshot, statistics = it.snapshot, statistics_of(it.snapshot)
    numbers = {name: getattr(statistics, name) for name in statistics.__struct_fields__}
    numbers |= {name: numbers[name].counts for name in ("latency", "round_trip", "lag")}
    numbers |= {name: getattr(snapshot, name) for name in ("state", "uptime", "cpu", "memory")}
    ways = {f"{dialect} {transport}": number for (dialect, transport), number in snapshot.clients.items()}
    delivered = sum(snapshot.counts.delivered.values())
    own = {"id": it.node, "host": it.host, "process": it.process, "problems": it.problems_total}
    return {**numbers, **own, "ways": ways, "delivered": delivered}


def _lists(surveys: list[NodeSurvey]) -> dict[str, Any]:
    """channels: name, subscribers of all nodes, events as the node with most has fanned them out."""
    channels: dict[str, list[int]] = {}
    for survey in surveys:
        for name, subscribers, events in survey.channels:
            it = channels.setdefault(name, [0, 0])
            it[0] += subscribers
            it[1] = max(it[1], events)
    slow = sorted((it for survey in surveys for it in survey.slow), key=lambda it: -it.waiting)[:20]
    problems = sorted(
        ({"node": survey.node, **msgspec.to_builtins(it)} for survey in surveys for it in survey.problems),
        key=lambda it: -it["at"],
    )
    return {
        "channels": [[name, *it] for name, it in channels.items()],
        "slow": msgspec.to_builtins(slow),
        "problems": problems[:50],
    }


def _options(rule: ChannelRule) -> dict[str, Any]:
    history = rule.history
    kept = f"{history.size} for {history.ttl:g} s" if history else None
    names = ("match", "presence", "publish", "subscribe", "read", "slow", "owner")
    return {"history": kept, **{name: getattr(rule, name) for name in names}}
