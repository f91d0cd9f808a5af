"""The definition of the messages is that of the official clients, and each of its messages is known."""

from typing import Any

import pytest
from centrifuge.protocol import client_pb2 as official_pb2
from google.protobuf.descriptor import Descriptor

from freshet.dialects.centrifuge import client_pb2
from freshet.dialects.centrifuge.replies import PUSHES, REPLIES
from freshet.dialects.centrifuge.requests import READ

OF_MAPS = {"type", "phase", "cursor", "limit", "key", "removed", "state", "publish_debounce"}
"""Fields that only the JavaScript client knows: see test_js.py and test_maps.py."""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (client_pb2.Command, official_pb2.Command),
        (client_pb2.Reply, official_pb2.Reply),
        (client_pb2.Emulation, official_pb2.EmulationRequest),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_each_field_has_the_number_and_the_type_that_an_official_client_knows(ours: Any, theirs: Any) -> None:
    compared: set[str] = set()

    def compare(one: Descriptor, other: Descriptor) -> None:
        if one.full_name in compared:
            return
        compared.add(one.full_name)
        for field in one.fields:
            if field.name in OF_MAPS:
                continue
            known = other.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (known.number, known.type, known.is_repeated), field
            if field.message_type is not None:
                compare(field.message_type, known.message_type)

    compare(ours.DESCRIPTOR, theirs.DESCRIPTOR)


def test_every_request_and_every_result_of_the_definition_has_an_entry_in_the_tables() -> None:
    def names(message: Any, oneof: str) -> set[str]:
        return {field.name for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields}

    assert names(client_pb2.Command, "request") == {*READ, "send"}
    assert names(client_pb2.Reply, "result") == {"push", *(name for name, _ in REPLIES.values())}
    assert names(client_pb2.Push, "event") == {"message", "disconnect", *(name for name, _ in PUSHES.values())}


def test_an_official_client_and_the_server_share_a_process() -> None:
    """Two definitions of one name would not: protobuf keeps them in one pool."""
    assert client_pb2.DESCRIPTOR.name != official_pb2.DESCRIPTOR.name
    assert client_pb2.DESCRIPTOR.package != official_pb2.DESCRIPTOR.package
