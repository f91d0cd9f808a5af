"""Commands and replies as an official client's own generated messages write and read them."""

import json
from base64 import b64encode
from typing import Any

from centrifuge.protocol.client_pb2 import Command, Reply
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from freshet.dialects.centrifuge.protobuf import read_delimited, varint
from freshet.model.frame import Frame

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # half a surrogate pair has no UTF-8
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def framed(*commands: Command) -> bytes:
    """Each command behind its length."""
    return b"".join([varint(command.ByteSize()) + command.SerializeToString() for command in commands])


def messages(frame: Frame | None) -> list[Reply]:
    """The replies in a frame."""
    assert frame is not None
    assert frame.binary
    replies, at = [], 0
    while at < len(frame.data):
        data, at = read_delimited(frame.data, at)
        replies.append(Reply.FromString(data))
    return replies


def json_of(command: dict[str, Any]) -> Frame:
    """A command as a client of JSON sends it: payloads are part of the line."""
    return Frame(json.dumps(command, ensure_ascii=False).encode())


def protobuf_of(command: dict[str, Any]) -> Frame:
    """The same command as a client of Protobuf sends it: payloads are bytes."""
    message = Command()
    _fill(message, command)
    return Frame(framed(message), binary=True)


def _fill(message: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, name, json.dumps(value, ensure_ascii=False).encode())
        elif _is_map(field):
            for key, each in value.items():
                _fill(getattr(message, name)[key], each)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and field.is_repeated:
            for each in value:
                _fill(getattr(message, name).add(), each)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value)
        elif field.is_repeated:
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fields_of(message: Any) -> dict[str, Any]:
    """A message as the JSON encoding writes it, without what is empty."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _payload(value)
    if _is_map(field):
        return {key: each if isinstance(each, str) else fields_of(each) for key, each in value.items()}
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return [fields_of(each) for each in value] if field.is_repeated else fields_of(value)
    return list(value) if field.is_repeated else value


def _payload(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return b64encode(data).decode()


def without_empty(fields: dict[str, Any], descriptor: Descriptor = Reply.DESCRIPTOR) -> dict[str, Any]:
    """A line of JSON without the fields that Protobuf leaves out. KeyError: the protocol has no such field."""
    left: dict[str, Any] = {}
    for name, value in fields.items():
        field = descriptor.fields_by_name[name]
        if field.type == FieldDescriptor.TYPE_BYTES:
            left[name] = value
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            if value:
                left[name] = value
        elif _is_map(field):
            inner = field.message_type.fields_by_name["value"].message_type
            if value:
                left[name] = {key: without_empty(each, inner) if inner else each for key, each in value.items()}
        elif field.is_repeated:
            if value:
                left[name] = [without_empty(each, field.message_type) for each in value]
        else:
            left[name] = without_empty(value, field.message_type)
    return left
