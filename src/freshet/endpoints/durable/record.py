"""What is known of a stream beside its content, and what follows from it. No I/O.

The content is the channel's own log. Everything else is a `StreamRecord`, the last item of a log beside it. What each
producer wrote stands with the publications themselves, in their tags, so that both are there or neither.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from freshet.model.log import Publication

JSON, BINARY = "application/json", "application/octet-stream"
PRODUCERS = 256  # that a stream remembers: those that were quiet for longest are new to it when they return
PRODUCER, SEQUENCE = "stream_producer", "stream_seq"
"""Tags of a publication: `epoch.seq.left.id`, and the writer's `Stream-Seq`."""
_TAG = re.compile(r"(\d{1,16})\.(\d{1,16})\.(\d{1,16})\.(.+)", re.ASCII | re.DOTALL)


class BadRequest(Exception):
    """What a client asked for cannot be: 400, with these words."""


class StreamProducer(NamedTuple):
    """An idempotent producer's place. left: messages of its last request that were not written yet."""

    id: str
    epoch: int
    seq: int
    left: int = 0

    @property
    def tag(self) -> str:
        return f"{self.epoch}.{self.seq}.{self.left}.{self.id}"

    @classmethod
    def of(cls, tag: str) -> "StreamProducer | None":
        """None: whoever publishes by the server API may have written the tag, and wrote something else into it."""
        found = _TAG.fullmatch(tag)
        return None if found is None else cls(found[4], int(found[1]), int(found[2]), int(found[3]))


class Fork(msgspec.Struct, array_like=True, frozen=True):
    """Where a stream was forked from, as it was asked for. source: a channel."""

    source: str
    offset: str = ""
    sub: int = 0


class Writers(msgspec.Struct):
    """What is known of those who write, up to the position `at` (absolute, in the channel's log)."""

    at: int = 0
    producers: dict[str, tuple[int, int, int]] = {}
    seq: str | None = None

    def copy(self) -> "Writers":
        return Writers(self.at, dict(self.producers), self.seq)

    def read(self, publications: Iterable[Publication]) -> None:
        """Go on over publications that came after `at`."""
        for publication in publications:
            self.at = publication.offset
            tags = publication.tags or {}
            if (producer := StreamProducer.of(tags.get(PRODUCER, ""))) is not None:
                self.note(producer)
            if (seq := tags.get(SEQUENCE)) is not None:
                self.seq = seq

    def note(self, it: StreamProducer) -> None:
        self.producers.pop(it.id, None)
        self.producers[it.id] = it.epoch, it.seq, it.left
        while len(self.producers) > PRODUCERS:
            del self.producers[next(iter(self.producers))]


class StreamRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """epoch, base: of the channel's log, and its offset when the stream began. lineage: ids of the stream and of those
    that it is a fork of, each with the last position that is its own; the last is this stream's, without an end.

    final: the position at which it was closed; -1: it is open. closer: what closed it. touched, written: epoch seconds
    of its last use, and of this record. forks: channels that hold a copy of its beginning. deleted: it was deleted,
    but has forks. gone: there is no such stream any more. filling: its first content is being written.
    """

    epoch: str
    base: int
    lineage: list[tuple[str, int]]
    type: str = JSON
    final: int = -1
    closer: tuple[str, int, int] | None = None
    ttl: int | None = None
    expires_at: str = ""
    touched: float = 0.0
    written: float = 0.0
    fork: Fork | None = None
    forks: list[str] = []
    deleted: bool = False
    gone: bool = False
    filling: bool = False
    writers: Writers = msgspec.field(default_factory=Writers)

    @property
    def id(self) -> str:
        return self.lineage[-1][0]

    @property
    def media_type(self) -> str:
        return self.type.partition(";")[0].strip()

    @property
    def is_json(self) -> bool:
        return self.media_type == JSON

    @property
    def is_text(self) -> bool:
        return self.is_json or self.media_type.startswith("text/")

    @property
    def closed(self) -> bool:
        return self.final >= 0

    def expired(self, now: float) -> bool:
        if self.ttl is not None and now >= self.touched + self.ttl:
            return True
        return bool(self.expires_at) and now >= timestamp(self.expires_at)

    def length(self, tail: int) -> int:
        """The stream's end as a position, where its channel's log stands at `tail`."""
        return self.final if self.closed else max(0, tail - self.base)

    def token(self, position: int) -> str:
        """A position as clients have it. A fork has the tokens of its source as far as they are the same."""
        id = next(id for id, end in self.lineage if end < 0 or position <= end)
        return f"{position:016d}_{id}"

    def position(self, token: str) -> int | None:
        """The position of a token; None: it is of another stream, such as one before it of the same name.

        Raises BadRequest for what is no token.
        """
        digits, _, id = token.partition("_")
        if len(digits) != 16 or not (digits.isascii() and digits.isdecimal()) or not id:
            raise BadRequest("offset: expected one that this server gave")
        position = int(digits)
        if not position and not id.strip("0"):
            return 0  # as the project's own servers write the beginning of any stream
        return position if any(id == each and (end < 0 or position <= end) for each, end in self.lineage) else None


def timestamp(text: str) -> float:
    """Epoch seconds of a time as RFC 3339 writes it. Raises BadRequest."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or "T" not in text.upper():
        raise BadRequest("Stream-Expires-At: expected a time such as 2030-01-01T00:00:00Z")
    return at.timestamp()


class Verdict(NamedTuple):
    """What becomes of a producer's request. status: 0: its messages behind the first `skip` are to be appended."""

    status: int
    headers: Mapping[str, str] = {}
    skip: int = 0


def judge(known: tuple[int, int, int] | None, asked: StreamProducer, count: int) -> Verdict:
    """Whether a producer's request is new, was carried out before, or comes too early or too late.

    known: its epoch, its last number, and the messages of that which are missing, after a crash. count: of messages.
    """
    if known is None:
        known = asked.epoch, -1, 0
    epoch, seq, left = known
    if asked.epoch < epoch:
        return Verdict(403, {"Producer-Epoch": str(epoch)})
    if asked.epoch > epoch:
        if asked.seq != 0:
            raise BadRequest("Producer-Seq: a new epoch begins at 0")
        return Verdict(0)
    if left and asked.seq == seq:
        return Verdict(0, skip=max(0, count - left))
    if asked.seq <= seq:
        return Verdict(204, {"Producer-Epoch": str(epoch), "Producer-Seq": str(seq)})
    expected = seq if left else seq + 1
    if asked.seq > expected:
        return Verdict(409, {"Producer-Expected-Seq": str(expected), "Producer-Received-Seq": str(asked.seq)})
    return Verdict(0)
