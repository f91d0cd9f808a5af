"""The rooms of a node: what happens in their channels goes to the one activation in the cluster, and back."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from msgspec.structs import replace

from freshet.config import ChannelConfig
from freshet.errors import ConfigError, Disconnect, EngineUnavailable, FreshetError, Refusal, StoreUnavailable
from freshet.model.entries import EntryChange, EntryPage, EntryResult, snapshot_of
from freshet.model.events import Published
from freshet.model.http import request_of, to_bytes
from freshet.model.log import ClientInfo, PublishOptions
from freshet.node.owners import Greeting, Site
from freshet.observe.logs import BoundedLog
from freshet.ownership.forwarding import Forwarding
from freshet.ownership.leases import Leases
from freshet.ownership.watching import Watching
from freshet.policy.base import PolicyChain
from freshet.rooms.activation import Activation
from freshet.rooms.alarms import Alarms
from freshet.rooms.calls import METHOD, state_call
from freshet.rooms.messages import (
    Direct,
    Kept,
    RoomReply,
    RoomRequest,
    RoomVisitor,
    decode_direct,
    decode_reply,
    decode_request,
    decode_visitors,
    encode,
)
from freshet.rooms.room import Room
from freshet.rooms.rule import RoomRule
from freshet.rooms.state_messages import as_change
from freshet.rooms.step import Outside
from freshet.rules.rules import ChannelRule
from freshet.runtime.tasks import Tasks
from freshet.session.session import Session
from freshet.stores.base import Store

log = logging.getLogger("freshet.rooms")
bounded_log = BoundedLog(log)

REQUEST, DIRECT, OCCUPANTS, ALIVE = "room", "room:direct", "room:occupants", "rooms:alive"
FIND_TIMEOUT = 2.0  # seconds in which nodes say who is in a room


NOBODY = RoomVisitor("", "")


class Occupant:
    """A client of this node in a room, and what the room keeps for it. inside: the room has let it in."""

    __slots__ = ("inside", "kept", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.kept = Kept()
        self.inside = False


class NodeRooms:
    """make_store: by its URL; called when the node starts and there are rooms. Implements `owners.Door` and `.Part`."""

    def __init__(self, node: Site, make_store: Callable[[str], Store]) -> None:
        self._node = node
        self._options = node.config.rooms
        self._make_store = make_store
        self._has_rules = False
        self._policies: PolicyChain | None = None
        self._store: Store | None = None
        self._active: dict[str, Activation] = {}
        self._occupants: dict[str, dict[str, Occupant]] = {}
        self._work, self._errands = Tasks(), Tasks()
        node.owners["room"] = node.engine.publish  # what the server publishes is broadcast
        node.doors["room"] = self
        node.parts.append(self)
        node.rules.make = self._make_rule

    def add(self, rule: RoomRule) -> None:
        """Raises ConfigError once the node runs."""
        if self._node.state == "ready" and self._store is None:
            raise ConfigError("rooms", "the first room must be registered before the application starts")
        self._register(rule)
        self._node.rules.add(rule)

    def offer_calls(self, policies: PolicyChain) -> None:
        """Let clients change a state by rpc, if there is one. policies: that a call has to pass."""
        self._policies = policies

    def _register(self, rule: RoomRule) -> RoomRule:
        self._has_rules = True
        longest = self._node.config.limits.outbox
        if rule.state is not None and rule.state.size > longest:
            what = f"at most {longest} bytes, or no client could take it: see limits.outbox"
            raise ConfigError("state.size", f"the rule {rule.match!r}: {what}")
        if rule.state is not None and self._policies is not None:
            hook = state_call(self._node.rules, self._policies, self.change)
            self._node.hooks.own_rpc[METHOD] = hook
        return rule

    def _make_rule(self, config: ChannelConfig) -> ChannelRule:
        """Of a configuration: a state is a room without a class."""
        if config.state is None:
            return ChannelRule.of(config)
        return self._register(RoomRule.of_room(config, Room))

    def statistics(self) -> tuple[int, int]:
        """How many rooms this node owns, and how many of them are in memory."""
        return len(self._active), sum(1 for it in self._active.values() if it.is_awake)

    async def start(self) -> None:
        """Raises ConfigError when nodes would not share what rooms keep, and `StoreUnavailable`."""
        if not self._has_rules:
            return
        node, options = self._node, self._options
        store = self._make_store(options.store)
        if node.engine.shared and store.reach == "process":
            raise ConfigError("rooms.store", f"several processes cannot share {options.store!r}")
        if node.engine.shared and store.reach == "host":
            log.warning("rooms: all nodes have to be on this host, for they share %s", options.store)
        await store.start()
        self._store = store
        self._leases = Leases(node, store, options.lease, self._on_lost)
        self._forwarding = Forwarding(node, self._leases, REQUEST, self._serve, options.lease)
        self._alarms = Alarms(node, store, self._fire)
        self._watching = Watching(node, ALIVE, options.lease, self._ticking, self._wake, lambda: None)
        node.bus.handlers[DIRECT] = self._on_direct
        node.bus.handlers[OCCUPANTS] = self._on_occupants
        self._leases.start()
        self._alarms.start()
        self._watching.start()

    async def stop(self) -> None:
        """Let what runs come to its end, in bounded time, and other nodes have the rooms."""
        if self._store is None:
            return
        grace = self._node.config.timing.close_timeout
        await self._alarms.stop()
        await self._watching.stop()
        orphans = list(self._ticking())
        await self._errands.stop(grace)
        stopping = [activation.stop() for activation in self._active.values()]
        if stopping:
            await asyncio.wait(stopping, timeout=grace)
        await self._work.stop()
        for activation in list(self._active.values()):
            activation.abandon()  # its hook did not end in time
        self._active.clear()
        await self._leases.stop()
        if orphans:
            await self._watching.abandon(orphans)
        await self._errands.stop()
        await self._store.stop()
        self._store = None

    # ------------------------------------------------------------------------------------------ what clients bring

    async def say(self, channel: str, data: bytes, options: PublishOptions) -> bytes:
        """See `owners.Door`: it is a message to the room."""
        assert options.info is not None  # it is a client's
        occupant = self._occupants.get(channel, {}).get(options.info.client)
        if occupant is not None and occupant.kept.read_only:
            raise Refusal.permission_denied("you may only listen in this room")
        visitor = self._visitor(options.info, occupant)
        rule = _rule(self._node, channel)
        if rule.room is Room:  # it has a state and nothing else: what clients say is a change of that
            (await self._change(channel, rule, visitor, as_change(data, options.kind))).check()
            return b""
        reply = await self._ask(channel, RoomRequest("message", visitor, data, options.kind))
        if reply.kept is not None and occupant is not None:
            occupant.kept = reply.kept
        return reply.answer

    async def request(self, session: Session, channel: str, request: bytes) -> bytes:
        """See `owners.Door`."""
        if "on_request" not in _rule(self._node, channel).hooks:
            raise Refusal.method_not_found(f"{channel!r} answers no requests over HTTP")
        whose = replace(request_of(request), user=session.user, client_claims=session.token_claims)
        return (await self._ask(channel, RoomRequest("request", data=to_bytes(whose)))).answer

    async def enter(
        self, session: Session, channel: str, data: bytes, page: EntryPage | None, *, is_complete: bool
    ) -> Greeting:
        """See `owners.Door`."""
        rule, occupant = _rule(self._node, channel), Occupant(session)
        self._occupants.setdefault(channel, {})[session.id] = occupant
        read = None
        if rule.state is not None and (page is not None or not is_complete):
            after, limit, since = page or EntryPage()
            limit = limit if rule.takes_pages or limit == 0 else -1
            read = EntryChange("read", after=after, limit=limit, since=since)
        try:
            visitor = self._visitor(session.client_info(), occupant)
            reply = await self._ask(channel, RoomRequest("join", visitor, data, change=read))
        except Refusal:
            self._forget(session, channel)
            raise
        if reply.kept is not None:
            occupant.kept = reply.kept
        occupant.inside = True
        greeting = [it.publication() for it in reply.greeting]
        if page is not None:
            return Greeting(greeting, reply.result)
        return Greeting([snapshot_of(reply.result.entries), *greeting] if reply.result is not None else greeting)

    async def change(self, session: Session | None, channel: str, change: EntryChange, once: str) -> EntryResult:
        """See `owners.Door`."""
        rule, visitor = _rule(self._node, channel), NOBODY
        if session is not None:
            occupant = self._occupants.get(channel, {}).get(session.id)
            if occupant is not None and occupant.kept.read_only and change.what != "read":
                raise Refusal.permission_denied("you may only listen in this room")
            visitor = self._visitor(session.client_info(), occupant)
        return await self._change(channel, rule, visitor, change, once)

    async def _change(
        self, channel: str, rule: RoomRule, visitor: RoomVisitor, change: EntryChange, once: str = ""
    ) -> EntryResult:
        """visitor: who asks; `NOBODY`: the server."""
        if visitor.client:
            if not rule.takes_changes:
                raise Refusal.permission_denied(f"only the room itself changes the state of {channel!r}: see on_change")
            if rule.state is not None and rule.state.key != "any":
                key = visitor.client if rule.state.key == "client" else visitor.user
                if not key:
                    raise Refusal.permission_denied(f"only users may set their key in {channel!r}")
                change = replace(change, key=key)
        reply = await self._ask(channel, RoomRequest("state", visitor, change=change), once and f"once:{once}")
        assert reply.result is not None  # of such a request
        return reply.result

    def leave(self, session: Session, channel: str) -> None:
        """See `owners.Door`."""
        occupant = self._forget(session, channel)
        if occupant is None:
            return
        # A room that sleeps and has no such hook need not wake up for it: it asks who is there when it wakes.
        rule = _rule(self._node, channel)
        if "on_leave" in rule.hooks or channel in self._active or self._forwarding.knows(channel):
            visitor = self._visitor(session.client_info(), occupant)
            self._errands.start(self._ask(channel, RoomRequest("leave", visitor)), "rooms: a client left")
        if rule.state is not None and rule.state.key == "client":
            own = RoomRequest("state", change=EntryChange("remove", session.id))
            self._errands.start(self._ask(channel, own), "rooms: a client's entry")

    def _forget(self, session: Session, channel: str) -> Occupant | None:
        here = self._occupants.get(channel, {})
        occupant = here.get(session.id)
        if occupant is None or occupant.session is not session:
            return None
        del here[session.id]
        if not here:
            del self._occupants[channel]
        return occupant

    def _visitor(self, info: ClientInfo, occupant: Occupant | None) -> RoomVisitor:
        claims = occupant.session.token_claims if occupant is not None else b""
        kept = occupant.kept if occupant is not None else Kept()
        return RoomVisitor(self._node.id, info.client, info.user, bytes(info.conn_info), claims, kept)

    async def _ask(self, channel: str, request: RoomRequest, once: str = "") -> RoomReply:
        """once: an id under which it is done once. Raises `Refusal`, and `EngineUnavailable` when nobody knows."""
        if self._store is None:
            raise EngineUnavailable("rooms do not run")
        timeout = self._node.config.timing.hook_timeout + 2 * self._options.lease
        try:
            reply = decode_reply(await self._forwarding.call(channel, encode(request), timeout, once))
        except StoreUnavailable as why:
            bounded_log.warning("store", "rooms: the store is away, messages get an error: %s", why)
            raise Refusal.internal() from None
        reply.check()
        return reply

    # ---------------------------------------------------------------------------------------------- rooms of this node

    async def _serve(self, channel: str, id: str, body: bytes, again: bool) -> bytes:
        """See `forwarding.Serve`."""
        self._leases.fence(channel)
        activation = self._active.get(channel) or self._activate(channel)
        again = again or id.startswith("once:")
        return encode(await activation.ask(id, decode_request(body), again))

    def _activate(self, channel: str) -> Activation:
        assert self._store is not None  # who serves runs
        rule, parameters = self._node.rules.find(channel)
        assert isinstance(rule, RoomRule)  # by its owner
        fence, note = self._leases.fence, self._alarms.note
        outside = Outside(self._node, self._store, rule, fence, self._deliver, note, self._find)
        activation = self._active[channel] = Activation(
            channel,
            rule,
            dict(parameters),
            outside,
            self._work,
            limit=self._options.mailbox,
            idle=self._options.idle,
            closed=self._on_closed,
            lost=self._leases.lose,
            ticks=self._watching.begin,
        )
        return activation

    def _on_closed(self, activation: Activation) -> None:
        """It has left memory: another node may have it."""
        if self._active.get(activation.channel) is activation:
            del self._active[activation.channel]
            self._leases.release_soon(activation.channel)

    def _on_lost(self, channel: str) -> None:
        if (activation := self._active.pop(channel, None)) is not None:
            if activation.ticks:
                self._watching.lose(channel)
            activation.abandon()

    # ---------------------------------------------------------------------------------------- what goes on by itself

    def _ticking(self) -> Iterable[str]:
        return [channel for channel, it in self._active.items() if it.ticks]

    async def _wake(self, channel: str) -> None:
        """One that ticked, on a node that is gone: it begins anew from what it kept, and ticks on if it wants to."""
        self._forwarding.doubt(channel)
        with suppress(Refusal):  # it has been logged where it failed
            await self._ask(channel, RoomRequest("wake"))

    def _fire(self, channel: str) -> asyncio.Task[None]:
        return self._errands.start(self._ring(channel), "rooms: an alarm")

    async def _ring(self, channel: str) -> None:
        try:
            await self._ask(channel, RoomRequest("alarm"))
        except Refusal:
            pass  # it has been logged where it failed
        except FreshetError as why:
            bounded_log.warning("alarm", "rooms: an alarm could not be fired, it will be: %s", why)

    # ------------------------------------------------------------------------------------------------ who is in a room

    async def _find(self, channel: str) -> list[RoomVisitor]:
        """The clients of all nodes in a room."""
        replies = await self._node.bus.request_all(OCCUPANTS, channel.encode(), FIND_TIMEOUT)
        return [visitor for reply in replies for visitor in decode_visitors(reply)]

    async def _on_occupants(self, body: bytes) -> bytes:
        here = self._occupants.get(body.decode(), {}).values()
        return encode([self._visitor(it.session.client_info(), it) for it in here if it.inside])

    # ------------------------------------------------------------------------------------------------- to one client

    async def _deliver(self, node: str, it: Direct) -> None:
        if node == self._node.id:
            self._to_client(it)
        else:
            await self._node.bus.send(node, DIRECT, encode(it))

    async def _on_direct(self, body: bytes) -> bytes:
        self._to_client(decode_direct(body))
        return b""

    def _to_client(self, it: Direct) -> None:
        occupant = self._occupants.get(it.channel, {}).get(it.client)
        if occupant is None:
            return  # it has left
        session = occupant.session
        if it.kept is not None:
            occupant.kept = it.kept
        elif it.code:
            session.close(Disconnect(it.code, it.reason))
        elif (subscription := session.subscriptions.get(it.channel)) is not None:
            if subscription.mapped:
                return  # it knows entries alone
            self._node.turn.flush()  # behind what was broadcast before
            session.push(Published(it.channel, it.publication()))
        elif (reservation := session.reserved(it.channel)) is not None:
            reservation.greeting.append(it.publication())


def _rule(node: Site, channel: str) -> RoomRule:
    rule, _ = node.rules.find(channel)
    assert isinstance(rule, RoomRule)  # by its owner
    return rule
