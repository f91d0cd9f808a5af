"""A client as engines write it for other processes, and read it again; and what a broker brings that is not ours."""

from collections.abc import Callable

import msgspec
import pytest

from freshet.engines.codec import Info
from freshet.engines.local import messages as local
from freshet.engines.nats import messages as nats
from freshet.engines.redis import messages as redis
from freshet.model.events import Published
from freshet.model.log import ClientInfo, Publication
from tests.fuzz.brokers import Nowhere

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


# ------------------------------------------------------------------------------------------- what a broker brings

NO_TEXT, JSON, TEXT, BYTES = b'"\xff"', "json", "text", "bytes"
NOBODY = None


def by_redis(kind: str, data: bytes, offset: int, info: object) -> Publication:
    body = msgspec.msgpack.encode([kind, data, None, info])
    delivery = redis.decode_delivery("a", b"p%d:epoch:" % offset + body)
    assert isinstance(delivery, Published)
    return delivery.publication


def by_nats(kind: str, data: bytes, offset: int, info: object) -> Publication:
    decoded = nats.decode(msgspec.msgpack.encode(["log", "epoch", offset, [[kind, data, None, info]], 10, 60.0, False]))
    assert isinstance(decoded, nats.LogMessage)
    return decoded.items[0].at(decoded.first)


def by_local(kind: str, data: bytes, offset: int, info: object) -> Publication:
    item = [data, offset, kind, None, info]
    [decoded] = local.to_worker.decode(msgspec.msgpack.encode([["delivered", "a", item, "epoch", None, None]]))
    assert isinstance(decoded, local.HubDelivery)
    delivery = decoded.delivery()
    assert isinstance(delivery, Published)
    return delivery.publication


brought = pytest.mark.parametrize("brought", [by_redis, by_nats, by_local])
REFUSED = (redis.ForeignMessage, nats.UnknownMessage, ValueError)


@brought
def test_what_is_sent_as_text_is_text_and_bytes_may_be_any(brought: Callable[..., Publication]) -> None:
    """In a text frame it would end the connections of all who get it."""
    assert brought(BYTES, NO_TEXT, 1, NOBODY).data == NO_TEXT
    assert brought(JSON, '"é"'.encode(), 1, NOBODY).data == '"é"'.encode()
    for kind in (JSON, TEXT):
        with pytest.raises(REFUSED):
            brought(kind, NO_TEXT, 1, NOBODY)


@brought
@pytest.mark.parametrize("info", [["u", "c", NO_TEXT, b""], ["u", "c", b"", NO_TEXT]])
def test_what_is_told_of_a_client_is_text(brought: Callable[..., Publication], info: object) -> None:
    with pytest.raises(REFUSED):
        brought(JSON, b"1", 1, info)


@brought
@pytest.mark.parametrize("offset", [-1, 2**63])
def test_an_offset_that_no_log_has_is_none(brought: Callable[..., Publication], offset: int) -> None:
    assert brought(JSON, b"1", 2**63 - 1, NOBODY).offset == 2**63 - 1
    with pytest.raises(REFUSED):
        brought(JSON, b"1", offset, NOBODY)


@brought
def test_a_kind_that_is_none_is_refused(brought: Callable[..., Publication]) -> None:
    with pytest.raises(REFUSED):
        brought("other", b"1", 1, NOBODY)


@pytest.mark.parametrize("packet", [b"\xff" * 4, b"\x91\x96\xa9delivered\xa1a\xc0\xa0\xc0\xc0", b"\x91\xa2\xf0\x9f"])
async def test_a_worker_leaves_a_hub_that_sends_what_is_none_of_its_messages(packet: bytes) -> None:
    def receive(connection: local.HubConnection, messages: list[object]) -> None:
        for message in messages:
            assert isinstance(message, local.HubDelivery)
            message.delivery()

    connection, transport = local.HubConnection(local.to_worker, receive, lambda connection: None), Nowhere()
    connection.connection_made(transport)
    connection.data_received(len(packet).to_bytes(4, "big") + packet)
    assert transport.closed
