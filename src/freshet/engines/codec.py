"""A client as engines write it for other processes: MessagePack has no form for the JSON that a `ClientInfo` holds."""

import msgspec

from freshet.model.log import ClientInfo


class Info(msgspec.Struct, array_like=True, frozen=True):
    """A `ClientInfo`, whose JSON is bytes here."""

    user: str
    client: str
    conn_info: bytes
    chan_info: bytes

    @classmethod
    def of(cls, it: ClientInfo) -> "Info":
        return cls(it.user, it.client, bytes(it.conn_info), bytes(it.chan_info))

    def info(self) -> ClientInfo:
        return ClientInfo(self.user, self.client, msgspec.Raw(self.conn_info), msgspec.Raw(self.chan_info))
