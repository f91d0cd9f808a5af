"""A client as engines write it for other processes, and read it again."""

import msgspec
import pytest

from freshet.engines.codec import Info
from freshet.model.log import ClientInfo

CLIENTS = [
    ClientInfo("alice", "a1"),
    ClientInfo("", "a1", msgspec.Raw(b'{"name": "\xc3\x89l\xc3\xa9onore", "n": [1, 2.5, null]}')),
    ClientInfo("bob", "b1", msgspec.Raw(b" 1 "), msgspec.Raw(b'"in the channel"')),
    ClientInfo("élodie", "x" * 255, chan_info=msgspec.Raw(b"{}")),
]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_is_the_same_behind_message_pack(client: ClientInfo) -> None:
    wire = msgspec.msgpack.encode(Info.of(client))
    read = msgspec.msgpack.decode(wire, type=Info).info()
    assert read == client
    assert [bytes(read.conn_info), bytes(read.chan_info)] == [bytes(client.conn_info), bytes(client.chan_info)]


def test_what_a_client_shows_is_written_as_bytes_and_never_decoded() -> None:
    spaced = ClientInfo("alice", "a1", msgspec.Raw(b'{ "a" :1 }'))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Info.of(spaced))) == ["alice", "a1", b'{ "a" :1 }', b""]


@pytest.mark.parametrize("wire", [["alice", "a1", b""], ["alice", 1, b"", b""], {"user": "alice"}, None])
def test_what_is_no_client_is_not_taken_for_one(wire: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(wire), type=Info)
