"""A strict reader of event streams: section 9.2.6 of the HTML standard, line by line."""

import re
from typing import NamedTuple


class StreamEvent(NamedTuple):
    data: str
    id: str = ""
    name: str = "message"


def events_of(stream: bytes) -> list[StreamEvent]:
    """The events that a browser dispatches for a stream. Raises UnicodeDecodeError for what is not UTF-8."""
    events: list[StreamEvent] = []
    data: list[str] = []
    id = name = ""
    for line in re.split("\r\n|\n|\r", stream.decode().removeprefix("\ufeff"))[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(StreamEvent("\n".join(data), id, name or "message"))
            data, name = [], ""
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            id = value
    return events
