"""Reading a stream: what there is, and for live readers what comes."""

from msgspec import structs

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.channel_url import fitting
from freshet.dialects.durable import StreamAnswered, StreamPage, payload
from freshet.endpoints.durable.logs import Loaded, StreamLogs
from freshet.endpoints.durable.record import BadRequest, StreamRecord
from freshet.endpoints.durable.streams import GONE, MISSING, Outcome, Streams
from freshet.endpoints.durable.wire import Reading
from freshet.model.commands import Subscribe
from freshet.model.log import History, Position, Publication, Stream
from freshet.session.session import Session

LOST = Outcome(410, text="The log does not keep what came behind this offset any more.\n")


class StreamReader:
    """Reads the streams of one node for its sessions."""

    def __init__(self, dispatcher: Dispatcher, logs: StreamLogs) -> None:
        self._dispatcher = dispatcher
        self._logs = logs
        self._limits = dispatcher.limits
        self._engine = dispatcher.node.engine

    async def head(self, session: Session, channel: str, keep: History) -> Outcome:
        await self._dispatcher.perform(session, Subscribe(channel, id=2))
        loaded = await self._logs.load(channel, keep)
        if (why := _why_not(loaded)) is not None:
            return why
        record = loaded.record
        assert record is not None
        headers = {**Streams.headers(record, loaded.end), "Cache-Control": "no-store"}
        if record.ttl is not None:
            headers["Stream-TTL"] = str(record.ttl)
        if record.expires_at:
            headers["Stream-Expires-At"] = record.expires_at
        return Outcome(200, headers)

    async def open(self, session: Session, channel: str, keep: History, ask: Reading) -> StreamPage | StreamAnswered:
        """Subscribe, and answer with what there is. Raises `Refusal`.

        A live reader gets all that is published behind the page. If there is more than goes out at once, its page is
        the first of several, which is not up to date: it has to come again.
        """
        loaded = await self._logs.load(channel, keep)
        start = _start(loaded, ask.offset)
        since = None
        if ask.live == "sse" and isinstance(start, int) and loaded.record is not None:
            since = Position(loaded.record.epoch, loaded.record.base + start)
        subscribed = await self._dispatcher.perform(session, Subscribe(channel, id=2, recover=since))
        assert subscribed is not None
        if not isinstance(start, int):
            return StreamAnswered(start)
        record = loaded.record
        assert record is not None
        if since is not None and getattr(subscribed, "recovered", False) is True:
            missed = subscribed.publications  # type: ignore[attr-defined]
            return self.page(record, start, missed, subscribed.position.offset)  # type: ignore[attr-defined]
        page = await self.read(channel, keep, loaded, start, tail=ask.offset == "now")
        if isinstance(page, Outcome):
            return StreamAnswered(page)
        # What came between the two is in neither, or in both: the reader comes again for all that is behind the page.
        return page if since is None else structs.replace(page, up_to_date=page.closed)

    async def read(
        self, channel: str, keep: History, loaded: Loaded, start: int, *, tail: bool = False
    ) -> StreamPage | Outcome:
        """A page from `start` on. tail: nothing but where it ends."""
        record = loaded.record
        assert record is not None
        since = Position(record.epoch, record.base + start)
        if tail:
            return self.page(record, start, [], loaded.tail.offset)
        stream = await self._engine.history(channel, keep, since, self._limits.history_page)
        if not _whole(stream, since):
            if start or not stream.publications:
                return LOST
            start = stream.publications[0].offset - record.base - 1  # the log does not keep the beginning
        return self.page(record, start, stream.publications, stream.position.offset)

    def page(self, record: StreamRecord, start: int, found: list[Publication], tail: int) -> StreamPage:
        """tail: where the channel's log stands."""
        end = record.length(tail)
        chosen = fitting((each for each in found if each.offset - record.base <= end), self._limits.page_size)
        stop = chosen[-1].offset - record.base if chosen else min(start, end)
        closed = record.closed and stop >= end
        return StreamPage(
            record.type,
            record.is_json,
            record.is_text,
            [payload(each, record.is_json) for each in chosen],
            start,
            stop,
            record.token(stop),
            record.base,
            record.id,
            up_to_date=stop >= end,
            closed=closed,
            etag=f'"{record.id}:{start}:{stop}{":c" if closed else ""}"',
        )


def _whole(stream: Stream, since: Position) -> bool:
    if stream.position.epoch != since.epoch:
        return False
    if not stream.publications:
        return stream.position.offset <= since.offset
    return stream.publications[0].offset == since.offset + 1


def _why_not(loaded: Loaded) -> Outcome | None:
    if loaded.record is None or loaded.record.filling:
        return MISSING
    return GONE if loaded.record.deleted else None


def _start(loaded: Loaded, offset: str) -> int | Outcome:
    """Where a reader begins, or what it gets instead if it may read: to others, all streams look alike."""
    if (why := _why_not(loaded)) is not None:
        return why
    record = loaded.record
    assert record is not None
    if offset == "-1":
        return 0
    if offset == "now":
        return loaded.end
    try:
        position = record.position(offset)
    except BadRequest as why:
        return Outcome(400, text=f"{why}.\n")
    if position is None:
        return LOST
    return position if position <= loaded.end else Outcome(400, text="offset: beyond the end of the stream.\n")
