"""The logs of one channel with runs: what clients get, what it adds up to, and the messages that are done.

    {channel}                the events of runs, as all subscribers get them
    \\0runs:{channel}         now and then what they add up to, so that no reader needs more than the last few hundred
    \\0messages:{channel}     the runs that are over

Who appends names the position that he has read to. So whoever took a channel over has read all that its owner before
wrote, and what that one tries to append afterwards is refused by the log itself: that is the fence.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from freshet.errors import EngineUnavailable, PositionConflict, StaleOwner, TooLargeForEngine
from freshet.model.log import OLDEST, History, Position, PublishOptions
from freshet.model.run_messages import (
    FENCE,
    TAG,
    ChatState,
    RunEvent,
    RunRecord,
    decode_record,
    decode_state,
    encode,
    event_of,
)
from freshet.node.owners import Site

SNAPSHOTS = 3
EVERY = 200  # events between two snapshots
LEAST = 3 * EVERY  # events that the channel's log has to keep
PAUSE = 0.1  # seconds before an engine that is away is tried again
TRIES = 3


class RunLog:
    """The log of one channel. keep: what the channel's rule says. messages: how long runs that are over are kept."""

    def __init__(self, node: Site, channel: str, keep: History, messages: History) -> None:
        self._engine = node.engine
        self._stamp = node.stamp
        self._channel = channel
        self._keep = keep
        self._messages = messages
        self._snapshots = History(SNAPSHOTS, messages.ttl)
        self._since_snapshot = 0

    async def read(self) -> ChatState:
        """What it all adds up to now. Raises EngineUnavailable."""
        state = ChatState()
        for _ in range(TRIES):
            state = await self.snapshot()
            since = state.position if state.position.offset else OLDEST
            if await self.follow(state, since):
                return state
        await self.follow(state, OLDEST)  # some of it is lost: what is there counts
        return state

    async def snapshot(self) -> ChatState:
        """The latest snapshot, nothing if there is none."""
        stream = await self._engine.history(f"\0runs:{self._channel}", self._snapshots)
        states = [decode_state(each.data) for each in stream.publications]
        if not states:
            return ChatState()
        latest = states[-1].position.epoch
        return max((it for it in states if it.position.epoch == latest), key=lambda it: it.position.offset)

    async def follow(self, state: ChatState, since: Position) -> bool:
        """Read what came behind `since` into `state`. Whether nothing is missing between."""
        stream = await self._engine.history(self._channel, self._keep, None if since == OLDEST else since)
        if since == OLDEST:
            state.position = Position(stream.position.epoch, 0)
        elif not stream.follows(since):
            return False
        state.apply_all(stream.publications)
        state.position = stream.position
        return True

    async def append(self, state: ChatState, event: RunEvent, fence: Callable[[], int]) -> Position:
        """Append an event to what `state` is, and to `state`. Tried again while the engine is away.

        fence: of the writer. Raises `NotOwner` as it does, `StaleOwner` when another has taken over, and
        `TooLargeForEngine`.
        """
        data = encode(event)
        while True:
            number = fence()
            tags = {TAG: event.run, FENCE: str(number)}
            try:
                options = PublishOptions(history=self._keep, tags=tags, after=state.position, stamp=self._stamp())
                position = await self._engine.publish(self._channel, data, options)
            except PositionConflict:
                if await self._rebase(state, event, number):
                    return state.position
            except TooLargeForEngine:
                raise
            except EngineUnavailable:
                await asyncio.sleep(PAUSE)
            else:
                state.position = position
                state.take(event, number)
                self._since_snapshot += 1
                return position

    async def _rebase(self, state: ChatState, event: RunEvent, fence: int) -> bool:
        """Somebody else has appended. Whether the event is in the log already: an earlier try was done after all."""
        try:
            stream = await self._engine.history(self._channel, self._keep, state.position)
        except EngineUnavailable:
            return False
        if not stream.follows(state.position):
            if stream.position.epoch == state.position.epoch:
                raise StaleOwner(f"{self._channel!r} was written to by another owner")
            with suppress(EngineUnavailable):  # it is tried again with the event
                await self._begin_anew(state, stream.position)
            return False
        for publication in stream.publications:
            theirs = event_of(publication)
            if theirs is not None and (publication.tags or {}).get(FENCE) != str(fence):
                raise StaleOwner(f"{self._channel!r} was written to by another owner")
            state.apply(publication)
            if theirs is not None and (theirs.run, theirs.seq) == (event.run, event.seq):
                return True
        return False

    async def _begin_anew(self, state: ChatState, position: Position) -> None:
        """The engine has lost the log: what it added up to is kept, for those who join from now on."""
        before, state.position = state.position, position
        try:
            await self.keep(state)
        except EngineUnavailable:
            state.position = before
            raise

    @property
    def is_due(self) -> bool:
        """Whether it is time for a snapshot."""
        return self._since_snapshot >= EVERY

    async def keep(self, state: ChatState) -> None:
        """Write a snapshot. Raises EngineUnavailable."""
        await self._write_snapshot(state, self._snapshots)

    async def _write_snapshot(self, state: ChatState, snapshots: History) -> None:
        self._since_snapshot = 0
        await self._engine.publish(f"\0runs:{self._channel}", _exact(encode(state)), PublishOptions(history=snapshots))

    async def file(self, record: RunRecord) -> None:
        """Put a run that is over among the messages. Raises EngineUnavailable."""
        key = f"{record.id}:{record.seq}:{record.ended}"  # one that was resumed ends once more
        options = PublishOptions(history=self._messages, idempotency_key=key)
        await self._engine.publish(f"\0messages:{self._channel}", _exact(encode(record)), options)

    async def filed(self) -> list[RunRecord]:
        """The runs that are over, each once, the oldest first."""
        stream = await self._engine.history(f"\0messages:{self._channel}", self._messages)
        records = {record.id: record for record in (decode_record(each.data) for each in stream.publications)}
        return list(records.values())

    async def trim(self, state: ChatState) -> None:
        """Nothing runs: forget the events, and the snapshots before this one, which have what is filed by now."""
        await self._write_snapshot(state, History(1, self._snapshots.ttl))
        await self._engine.remove_history(self._channel)


def _exact(data: bytes) -> bytes:
    """The same, without the room that its encoder has left behind it, which is up to half as much."""
    return bytes(memoryview(data))
