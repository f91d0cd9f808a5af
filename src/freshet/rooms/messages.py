"""What nodes send one another for rooms, in MessagePack: requests to a room's owner, and what goes to clients."""

import msgspec

from freshet.errors import Refusal
from freshet.model.entries import EntryChange, EntryResult
from freshet.model.log import Kind, Publication


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What a room keeps for a client, where the client is connected. state: MessagePack; empty: none."""

    state: bytes = b""
    tags: tuple[str, ...] = ()
    read_only: bool = False


class RoomVisitor(msgspec.Struct, array_like=True, frozen=True):
    """A client of a room, as its node sends it along. info, claims: JSON."""

    node: str
    client: str
    user: str = ""
    info: bytes = b""
    claims: bytes = b""
    kept: Kept = Kept()


class RoomRequest(msgspec.Struct, array_like=True, frozen=True):
    """What happens in a room. what: join, leave, message, request, tick, state, alarm, stop, or wake. data: of `kind`.

    change: what is asked of its state; with a join, what of it the client is to get.
    """

    what: str
    visitor: RoomVisitor = RoomVisitor("", "")
    data: bytes = b""
    kind: Kind = Kind.JSON
    change: EntryChange | None = None


class Direct(msgspec.Struct, array_like=True, frozen=True):
    """What one client alone gets in a room's channel: a publication that is in no log.

    kept: instead, what the room keeps for it from now on. code, reason: instead, it is disconnected.
    """

    channel: str
    client: str
    data: bytes = b""
    kind: Kind = Kind.JSON
    tags: dict[str, str] | None = None
    kept: Kept | None = None
    code: int = 0
    reason: str = ""

    def publication(self) -> Publication:
        return Publication(self.data, 0, self.kind, self.tags)


class RoomReply(msgspec.Struct, array_like=True, frozen=True):
    """code, message, temporary, by_application: of a `Refusal`.

    greeting: what a client gets that joins. kept: for it, if that is new.
    answer: what the hook returned, as JSON, or what a request over HTTP is answered, as MessagePack. result: what
    became of what was asked of the room's state.
    """

    code: int = 0
    message: str = ""
    temporary: bool = False
    greeting: list[Direct] = []
    kept: Kept | None = None
    answer: bytes = b""
    result: EntryResult | None = None
    by_application: bool = False

    @classmethod
    def refused(cls, why: Refusal) -> "RoomReply":
        return cls(why.code, why.message, why.temporary, by_application=why.by_application)

    def check(self) -> None:
        """Raises `Refusal` if it is one."""
        if self.code:
            why = Refusal(self.code, self.message, temporary=self.temporary)
            why.by_application = self.by_application
            raise why


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(RoomRequest).decode
decode_reply = msgspec.msgpack.Decoder(RoomReply).decode
decode_direct = msgspec.msgpack.Decoder(Direct).decode
decode_visitors = msgspec.msgpack.Decoder(list[RoomVisitor]).decode
