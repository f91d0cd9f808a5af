"""Bytes on their way to or from a client, and the request that opened it."""

import re
from typing import Any

import msgspec

TOKEN_PREFIX = "freshet.token."  # noqa: S105 - the name of one
"""Before a token among the subprotocols that a WebSocket offers: a page can set no other header."""

SUBPROTOCOL = "freshet"
"""What such a WebSocket offers beside it, for the server to choose: the token is not to be sent back."""


class Frame:
    """Bytes on their way to or from a client, and whether they are binary.

    One frame is shared by every client that it goes to, so it also keeps its wire forms: a transport that serialises
    it once leaves the result here for the others.

    tail: what has to follow with nothing between, such as a packet's binary attachments, which are frames of their own.
    size: bytes of payload, its tail's too. laid: what goes into the streams of HTTP, by their form.
    """

    __slots__ = ("binary", "data", "deflated", "laid", "size", "tail", "wire")

    def __init__(self, data: bytes, binary: bool = False, tail: "Frame | None" = None) -> None:
        self.data = data
        self.binary = binary
        self.tail = tail
        self.size: int = len(data) if tail is None else len(data) + tail.size
        self.wire: bytes | None = None  # as one unmasked WebSocket message
        self.deflated: bytes | None = None  # the same with permessage-deflate
        self.laid: dict[Any, Any] | None = None


class Batch(Frame):
    """Several frames of one turn for the same clients: one write for each of them, of bytes that are put together once.

    A transport that puts nothing together takes the parts one by one: see `unbatched`.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: list[Frame]) -> None:
        super().__init__(b"")
        self.parts = parts
        self.size = sum([part.size for part in parts])


def batched(frames: list[Frame]) -> list[Frame]:
    """The same as one frame, if they are several."""
    return [Batch(frames)] if len(frames) > 1 else frames


def unbatched(frames: list[Frame]) -> list[Frame]:
    """The same, each by itself."""
    if Batch not in map(type, frames):
        return frames
    return [part for frame in frames for part in (frame.parts if type(frame) is Batch else (frame,))]


class Handshake(msgspec.Struct, frozen=True):
    """The request that opened a client: what a dialect and the hook `on_connect` may look at.

    path: below the prefix under which Freshet is mounted, percent-decoded.
    headers: names in lower case; a name that came more than once is joined by `, `.
    query: of a name that came more than once, the last.
    client: the peer's address, `host:port`, or empty.
    shared: a page of any origin may have made it, so that its answers are for all and for no user in particular.
    """

    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    client: str = ""
    subprotocols: tuple[str, ...] = ()
    shared: bool = False

    @property
    def token(self) -> str:
        """The token that came with the request; empty: none.

        The WebSocket subprotocol `freshet.token.` with the token; `?ticket=`; `?token=`; `Authorization: Bearer`.
        """
        offered = (name.removeprefix(TOKEN_PREFIX) for name in self.subprotocols if name.startswith(TOKEN_PREFIX))
        scheme, _, bearer = self.headers.get("authorization", "").partition(" ")
        return (
            next(offered, "")
            or self.query.get("ticket")
            or self.query.get("token")
            or (bearer.strip() if scheme.lower() == "bearer" else "")
        )

    def cookie(self, name: str) -> str:
        """The value of a cookie; empty: there is none. Of several, the one with the longest path, which comes first."""
        # Only the one that is asked for is taken apart, in one pass: a header has room for thousands.
        found = re.search(rf"(?:^|;)\s*+{re.escape(name)}=([^;]*+)", self.headers.get("cookie", ""))
        return found[1].rstrip().strip('"') if found else ""
