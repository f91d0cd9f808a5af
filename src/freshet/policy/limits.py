"""How much one client, one user, one channel and one address may ask for: see the options of `[rates]`.

A command that exceeds a rate is refused with 111 and the time to wait; a client that goes on and on is disconnected.
All is counted by this process; where `rates.scope` says so, it is charged for what others let through, see
`node/sharing.py`.
"""

import logging
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import NoReturn

import msgspec

from freshet.config import Rates
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command, Connect, Publish, ReadHistory, ReadPresence, ReadPresenceStats, Subscribe
from freshet.observe.counts import Counts
from freshet.observe.logs import BoundedLog
from freshet.policy.base import Context, Policy
from freshet.rules.rules import ChannelRule
from freshet.runtime.rates import Buckets, Meter, Rate
from freshet.session.session import Session

log = logging.getLogger("freshet.limits")

REQUEST_SIZE = 4096  # bytes of a body that count as one more request
UNLIMITED = Rate(0, 0)

MakeBuckets = Callable[[str, Rate], Buckets[str]]


def of_this_process(option: str, rate: Rate) -> Buckets[str]:
    """Buckets that nobody else takes of."""
    return Buckets(rate)


_OF_QUIET = frozenset({Connect, Subscribe})
REPLAY = 10  # commands as which one counts that gets what is kept: of a log, a state or a run


class Spent(msgspec.Struct, gc=False, eq=False):  # one for each client, in which nothing can refer to it
    """What one client took of its rates.

    commands, bytes, publications: taken already, and not used yet; the last of these in `channel`. How much is taken at
    once doubles from 1 on, as a client that stays for one command must not take more. The others are buckets, see
    `Meter`.
    """

    commands: int = 0
    commands_lease: int = 1
    commands_bucket: float = 0.0
    bytes: int = 0
    bytes_bucket: float = 0.0
    publications: int = 0
    publications_lease: int = 1
    channel: str = ""
    history: float = 0.0
    presence: float = 0.0
    refusals: float = 0.0


def _lease(rate: Rate, most: int) -> int:
    """How much is taken of a bucket at once, so that most commands cost a subtraction: little of what it holds."""
    return max(1, min(most, int(rate.burst) // 64))


class RateLimits(Policy):
    """The first policy of all, as what comes behind it may be costly. The server itself is not limited.

    least: commands that a client must be able to send at once, as its library does when it comes back.
    buckets: makes those of an option, by its name.
    """

    name = "rates"

    def __init__(self, rates: Rates, least: int, monotonic: Callable[[], float], buckets: MakeBuckets) -> None:
        client = Rate(rates.client.rate, max(rates.client.burst, least))
        self._client = _meter(client)
        self._replay = max(1, min(REPLAY, int(client.burst) // least))  # a client can come back to all its channels
        self._commands = min(_lease(client, 16), _lease(rates.user, 16) if rates.user.rate else 16)
        self._bytes, self._chunk = _meter(rates.client_bytes), _lease(rates.client_bytes, 16 * 1024)
        self._history, self._presence = _meter(rates.history), _meter(rates.presence)
        self._refusals = _meter(rates.refusals)
        self._users = buckets("user", rates.user) if rates.user.rate else None
        self._channels = buckets("channel", rates.channel) if rates.channel.rate else None
        self._publications = _lease(rates.channel, 16)
        self._now = monotonic
        self._log = BoundedLog(log)

    def check(self, context: Context, command: Command) -> None:
        session = context.session
        if session is None:
            return
        rule, spent = context.rule, session.spent
        if type(spent) is not Spent:
            if self._is_of_few(session, command, rule, spent or 0.0):
                return
            spent = session.spent = Spent(commands_bucket=spent or 0.0)
        kind = type(command)
        cost = self._replay if kind is Subscribe and _replays(command, rule) else 1
        if spent.commands >= cost:
            spent.commands -= cost
        else:
            self._take_commands(session, spent, cost)
        if kind is Publish:
            if spent.channel == command.channel and spent.publications:  # type: ignore[attr-defined]
                spent.publications -= 1
            else:
                self._take_publications(session, spent, command.channel)  # type: ignore[attr-defined]
        elif kind is ReadHistory or kind is ReadPresence or kind is ReadPresenceStats:
            self._take_read(session, spent, history=kind is ReadHistory)
            return
        if size := len(getattr(command, "data", b"")):
            if spent.bytes >= size:
                spent.bytes -= size
            else:
                self._take_bytes(session, spent, size)

    def _is_of_few(self, session: Session, command: Command, rule: ChannelRule | None, bucket: float) -> bool:
        """Whether it is taken already: a client that connects, subscribes and is quiet has its bucket and nothing else.

        bucket: as `Spent.commands_bucket`, which is all that `session.spent` is until then.
        """
        if type(command) not in _OF_QUIET or command.data:  # type: ignore[attr-defined]
            return False
        now, cost = self._now(), self._replay if _replays(command, rule) else 1
        after = self._client.take(bucket, now, cost) if self._client is not None else 0.0
        if after < 0 or (self._users is not None and session.user and self._users.take(session.user, now)):
            return False
        session.spent = after
        return True

    def _take_commands(self, session: Session, spent: Spent, cost: int) -> None:
        """cost: commands as which the one counts that is to be done; of its user's it is one."""
        now, count = self._now(), max(cost, spent.commands_lease)
        if self._client is not None:
            after = self._client.take(spent.commands_bucket, now, count)
            if after < 0 and count > cost:  # fewer may be left
                count = cost
                after = self._client.take(spent.commands_bucket, now, count)
            if after < 0:
                self._refuse(session, spent, -after, "client")
            spent.commands_bucket = after
        of_user = count - cost + 1
        if self._users is not None and session.user and (wait := self._users.take(session.user, now, of_user)):
            self._refuse(session, spent, wait, "user")
        spent.commands += count - cost
        spent.commands_lease = min(2 * spent.commands_lease, self._commands)

    def _take_publications(self, session: Session, spent: Spent, channel: str) -> None:
        if self._channels is None:
            return
        count = spent.publications_lease if channel == spent.channel else 1
        wait = self._channels.take(channel, self._now(), count)
        if wait and count > 1:  # fewer may be left
            count = 1
            wait = self._channels.take(channel, self._now())
        if wait:
            self._refuse(session, spent, wait, "channel")
        spent.channel, spent.publications = channel, count - 1
        spent.publications_lease = min(2 * count, self._publications)

    def _take_bytes(self, session: Session, spent: Spent, size: int) -> None:
        if self._bytes is None:
            return
        count = max(size - spent.bytes, self._chunk)
        after = self._bytes.take(spent.bytes_bucket, self._now(), count)
        if after < 0:
            self._refuse(session, spent, -after, "client_bytes")
        spent.bytes_bucket = after
        spent.bytes += count - size

    def _take_read(self, session: Session, spent: Spent, *, history: bool) -> None:
        meter, name = (self._history, "history") if history else (self._presence, "presence")
        if meter is None:
            return
        after = meter.take(getattr(spent, name), self._now())
        if after < 0:
            self._refuse(session, spent, -after, name)
        setattr(spent, name, after)

    def _refuse(self, session: Session, spent: Spent, wait: float, option: str) -> NoReturn:
        """Raises `Refusal` 111; `Disconnect` for a client that does not stop."""
        self._log.warning(
            option, "%r asks for too much, it is refused for %.1f s: see the option rates.%s", session, wait, option
        )
        if self._refusals is not None:
            after = self._refusals.take(spent.refusals, self._now())
            if after < 0:
                raise Disconnect.too_many_errors()
            spent.refusals = after
        raise Refusal.too_many_requests(f"too many requests: try again in {max(wait, 0.1):.1f} s")


def _replays(command: Command, rule: ChannelRule | None) -> bool:
    """Whether a client gets with its subscription what is kept of the channel."""
    if rule is None or type(command) is not Subscribe:
        return False
    if rule.history is not None and command.recover is not None:
        return True
    return rule.state is not None or rule.owner == "run"


def _meter(rate: Rate) -> Meter | None:
    return Meter(rate) if rate.rate else None


class Waiting:
    """Requests that wait. most: of all clients together. each: of one address, as `network_of` has it.

    counts: what refusals are added to.

    Those of nobody in particular count among all alone.
    """

    def __init__(self, most: int, each: int, counts: Counts) -> None:
        self._counts = counts
        self._most = most
        self._each = each
        self._count = 0
        self._by_address: Counter[str] = Counter()
        self._log = BoundedLog(log)

    def __len__(self) -> int:
        return self._count

    def refusal(self, client: str) -> int:
        """The status with which a request from there is refused; 0: it may wait. client: as in a handshake."""
        if self._count >= self._most:
            self._counts.refuse("waiting")
            self._log.warning("all", "%d requests wait, more are refused: see limits.waiting_requests", self._most)
            return 503
        if self._by_address[network_of(client)] >= self._each:
            self._counts.refuse("waiting")
            self._log.warning(
                "address",
                "%d requests from %s wait, more are refused: see limits.waiting_per_address",
                self._each,
                client,
            )
            return 429
        return 0

    def one(self, client: str) -> "_Waits":
        """A request waits from the beginning of this block to its end."""
        return _Waits(self, network_of(client))

    def begin(self, address: str) -> None:
        self._count += 1
        if address:
            self._by_address[address] += 1

    def end(self, address: str) -> None:
        self._count -= 1
        if address:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


class _Waits:
    """One of them: a block of its own, as there is one for each poll and `contextmanager` costs more than all of it."""

    __slots__ = ("_address", "_waiting")

    def __init__(self, waiting: Waiting, address: str) -> None:
        self._waiting = waiting
        self._address = address

    def __enter__(self) -> None:
        self._waiting.begin(self._address)

    def __exit__(self, *error: object) -> None:
        self._waiting.end(self._address)


class AddressLimits:
    """New clients by their address: an IPv4 address, or the /64 of an IPv6 address.

    rate: how often. most: how many may be there, of whom `here` says how many are; 0: any number. requests: how many of
    them HTTP requests may bring, see `rates.requests`.

    Addresses of this machine and of private networks are not limited: they are those of proxies that do not say for
    whom they ask.
    """

    def __init__(
        self,
        rate: Rate,
        monotonic: Callable[[], float],
        most: int = 0,
        here: Callable[[str], int] = lambda address: 0,
        buckets: MakeBuckets = of_this_process,
        requests: Rate = UNLIMITED,
    ) -> None:
        self._buckets = buckets("address", rate) if rate.rate else None
        self._requests = buckets("requests", requests) if requests.rate else None
        self._now = monotonic
        self._most = most
        self._here = here
        self._log = BoundedLog(log)

    def is_full(self, client: str) -> bool:
        """Whether as many as may be are there from the address of a new client, as in a handshake."""
        if not self._most or not (address := network_of(client)) or self._here(address) < self._most:
            return False
        self._log.warning(
            "sessions",
            "%d clients from %s are here, more are refused: see limits.sessions_per_address",
            self._most,
            client,
        )
        return True

    def wait(self, client: str) -> float:
        """Seconds after which a client from there may try again; 0: it may come in. client: as in a handshake."""
        if self._buckets is None:
            return 0.0
        address = network_of(client)
        return self._buckets.take(address, self._now()) if address else 0.0

    def wait_to_ask(self, client: str, size: int) -> float:
        """The same of an HTTP request, whose body has so many bytes, new client or not."""
        if self._requests is None or not (address := network_of(client)):
            return 0.0
        wait = self._requests.take(address, self._now(), 1 + size // REQUEST_SIZE)
        if wait:
            self._log.warning(
                "requests", "requests from %s come too fast and are refused with 429: see rates.requests", client
            )
        return wait


def network_of(client: str) -> str:
    """What stands for one household, of `address:port`; empty: it may be anybody."""
    return _network(client.rpartition(":")[0])


@lru_cache(4096)  # each client is looked at several times, and many come from behind one proxy
def _network(host: str) -> str:
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address.is_loopback or address.is_private or address.is_link_local:
        return ""
    return str(address) if isinstance(address, IPv4Address) else address.exploded[:19]
