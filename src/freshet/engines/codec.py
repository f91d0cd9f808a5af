"""A client as engines write it for other processes: MessagePack has no form for the JSON that a `ClientInfo` holds.

What comes from a broker is checked where it is decoded: it goes on to clients as it is.
"""

from typing import Annotated

import msgspec

from freshet.model.log import ClientInfo

Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A publication's place in its log."""


def check_text(text: bytes) -> None:
    """Raises ValueError for what is not UTF-8: in a text frame it would end the connection of everyone who gets it."""
    if not text.isascii():
        text.decode()


class Info(msgspec.Struct, array_like=True, frozen=True):
    """A `ClientInfo`, whose JSON is bytes here."""

    user: str
    client: str
    conn_info: bytes
    chan_info: bytes

    def __post_init__(self) -> None:
        check_text(self.conn_info)
        check_text(self.chan_info)

    @classmethod
    def of(cls, it: ClientInfo) -> "Info":
        return cls(it.user, it.client, bytes(it.conn_info), bytes(it.chan_info))

    def info(self) -> ClientInfo:
        return ClientInfo(self.user, self.client, msgspec.Raw(self.conn_info), msgspec.Raw(self.chan_info))
