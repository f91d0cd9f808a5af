"""The format of event streams: section 9.2 of the HTML standard, server-sent events."""

import re

from freshet.model.json_text import CR, LF

LINE_ENDS = re.compile(rb"\r\n|\n|\r")  # "Lines must be separated by": these three, and none of Unicode's
COMMENT = b":\n"
"""A line that says nothing. With an empty line behind it, it would be an event without data to many clients."""


def stream_event(data: bytes, id: str = "", name: str = "") -> bytes:
    """One event of an event stream. An id or a name that does not fit on one line is left out.

    A client puts the lines of `data` together with a line feed, whatever ended them: in JSON that is the same.
    """
    head = b"id: %b\n" % id.encode() if id and _fits(id) else b""
    if name and _fits(name):
        head += b"event: %b\n" % name.encode()
    if LF in data or CR in data:
        data = LINE_ENDS.sub(b"\ndata: ", data)
    return b"%bdata: %b\n\n" % (head, data)


def _fits(text: str) -> bool:
    return not any(character in text for character in "\r\n\0")
