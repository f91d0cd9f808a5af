"""The session of a client of the gateway: what `@connections` may do with it, and AWS's limits on its time."""

from http import HTTPStatus

from freshet.commands.connections import ConnectionInfo
from freshet.config import Bound
from freshet.config.gateway import AWS_FRAME, AWS_IDLE, AWS_LIFETIME, GatewayOptions
from freshet.dialects.gateway import Posted
from freshet.endpoints.gateway.connection import Connection
from freshet.endpoints.gateway.events import Facts
from freshet.errors import Disconnect
from freshet.node.invoking import Invocable
from freshet.rules.hooks import Hook
from freshet.session.session import Session

GOING_AWAY = 1001
PERSONAL = range(3000, 4000)  # codes that only clients of the Centrifugal protocol understand
STANDARD = {3008: 1013, 3012: 1011, 3004: 1011, 3500: 1008, 3501: 1008, 3503: 1000, 3507: 1008}


class GatewayRecord:
    """options: of the gateway. disconnect: what runs when it is over. now: monotonic seconds, as are `began` and
    `last_active`: the wall clock may be set while it is there."""

    __slots__ = ("began", "connection", "disconnect", "facts", "last_active", "message_size", "options", "told")

    def __init__(
        self, facts: Facts, options: GatewayOptions, message_size: int, disconnect: Invocable, now: float
    ) -> None:
        self.facts = facts
        self.options = options
        self.message_size = message_size
        self.disconnect = disconnect
        self.began = self.last_active = now
        self.connection: Connection | None = None
        self.told = False


class GatewaySession(Session):
    """One client. Its id is that of the connection."""

    __slots__ = ()

    record: GatewayRecord

    @property
    def on_disconnect(self) -> Hook | None:
        return self.record.disconnect  # type: ignore[return-value]  # which is called as a hook is

    @property
    def largest(self) -> Bound:
        return Bound(self.record.message_size, "gateway.message_size")

    @property
    def largest_frame(self) -> int:
        return AWS_FRAME if self.record.options.limits == "aws" else self.record.message_size

    def open(self) -> None:
        """It was let in before its handshake was answered."""

    def close(self, why: Disconnect) -> None:
        """With a code that clients of any kind know: those from 3000 on say something else to each application."""
        if why.code in PERSONAL:
            code = STANDARD.get(why.code, GOING_AWAY)
            why = Disconnect(code, "Going away" if code == GOING_AWAY else why.reason)
        super().close(why)

    # ----------------------------------------------------------------------------------------------- `@connections`

    def deliver(self, data: bytes) -> HTTPStatus:
        """Bytes that are no UTF-8 go as a binary message."""
        if self.closing:
            return HTTPStatus.GONE
        if self.outbox.waiting + len(data) > self.outbox.limit and not self.outbox.make_room():
            return HTTPStatus.TOO_MANY_REQUESTS
        self.push(Posted(data, binary=not _is_text(data)))
        self.active()
        return HTTPStatus.OK

    def describe(self) -> ConnectionInfo:
        it, connected_at = self.record, self.record.facts.connected_at / 1000
        last_active_at = connected_at + it.last_active - it.began
        return ConnectionInfo(connected_at, last_active_at, it.facts.source_ip, it.facts.user_agent)

    def active(self) -> None:
        self.record.last_active = self.host.wheel.clock.monotonic()

    # ---------------------------------------------------------------------------------------------------------- time

    def visit(self, now: float) -> float:
        if not self.connected:
            return 0  # what it waits for has its own time, and the endpoint ends it
        due = super().visit(now)
        if self.record.options.limits != "aws" or self.closing:
            return due
        idle = self.record.last_active + AWS_IDLE - now
        left = self.record.began + AWS_LIFETIME - now
        if min(idle, left) <= 0:
            self.close(Disconnect(GOING_AWAY, "Going away"))
            return 0
        return min(due or idle, idle, left)


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
