"""What a node tells those who join a channel with runs: one summary of all that was, exact at a position of the log."""

import asyncio
from collections import OrderedDict

import msgspec

from freshet.errors import Disconnect
from freshet.model.log import OLDEST, Position, Publication
from freshet.model.run_messages import ENDED, ChatState, RunRecord, decode_state, encode
from freshet.node.owners import Site
from freshet.runs.log import RunLog
from freshet.runs.rule import RunRule

VIEWS = 500  # channels whose summary is kept up to date here
TRIES = 4
SUMMARY = 512 * 1024  # bytes of messages that are over, of which the newest are left


class Digest:
    """All up to `position`, in one publication."""

    __slots__ = ("_filed", "_state", "_summary", "position")

    def __init__(self, position: Position, summary: bytes, state: bytes, filed: list[RunRecord]) -> None:
        self.position = position
        self._summary = summary
        self._state = state
        self._filed = filed

    def publication(self, later: list[Publication]) -> Publication:
        """With what came behind it. It has the offset of the last."""
        if not later:
            return Publication(self._summary, self.position.offset, tags={"run": ""})
        state = decode_state(self._state)
        state.apply_all(later)
        return Publication(state.summary(self._filed), later[-1].offset, tags={"run": ""})


class _View:
    __slots__ = ("digest", "filed", "lock", "state", "used")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.state: ChatState | None = None
        self.filed: list[RunRecord] = []
        self.digest: Digest | None = None
        self.used = 0.0  # monotonic seconds


class Viewing:
    """The views of one node."""

    def __init__(self, node: Site) -> None:
        self._node = node
        self._views: OrderedDict[str, _View] = OrderedDict()

    def knows(self, channel: str) -> bool:
        """Whether somebody has asked for its digest lately."""
        return channel in self._views

    async def digest(self, channel: str, rule: RunRule, journal: RunLog) -> tuple[Digest, list[RunRecord]]:
        """Read after this was called; and the runs that are not over. Raises `Disconnect`, `EngineUnavailable`."""
        view = self._views.setdefault(channel, _View())
        self._views.move_to_end(channel)
        view.used = self._node.clock.monotonic()
        if len(self._views) > VIEWS:
            self._views.popitem(last=False)
        async with view.lock:
            await self._follow(view, channel, rule, journal)
            assert view.state is not None
            if view.digest is None or view.digest.position != view.state.position:
                view.digest = Digest(
                    view.state.position, view.state.summary(view.filed), encode(view.state), list(view.filed)
                )
            return view.digest, [record for record in view.state.runs.values() if record.state not in ENDED]

    def forget(self, before: float) -> None:
        """Leave what nobody has asked for since then, monotonic seconds: it is read again by who asks next."""
        while self._views and next(iter(self._views.values())).used < before:
            self._views.popitem(last=False)

    async def _follow(self, view: _View, channel: str, rule: RunRule, journal: RunLog) -> None:
        assert rule.history is not None  # see `RunRule.of_runs`
        for attempt in range(TRIES):
            if view.state is None:
                snapshot, filed = await journal.snapshot(), _newest(await journal.filed())  # both, or nothing is known
                view.state, view.filed = snapshot, filed
            state = view.state
            since = state.position if state.position.offset else OLDEST
            stream = await self._node.catch_up.read(channel, rule.history, since)
            first = stream.publications[0].offset if stream.publications else stream.position.offset + 1
            whole = since != OLDEST or first == 1  # else it was trimmed: a snapshot has what was before
            if (stream.follows(since) and whole) or attempt == TRIES - 1:
                if since == OLDEST or not stream.follows(since):
                    state.position = Position(stream.position.epoch, 0)
                state.apply_all(stream.publications)
                state.position = stream.position
                return
            view.state = None
        raise Disconnect.insufficient_state()


def _newest(records: list[RunRecord]) -> list[RunRecord]:
    size, kept = 0, 0
    for record in reversed(records):
        size += len(msgspec.json.encode(record.parts)) + len(record.input)
        if size > SUMMARY:
            break
        kept += 1
    return records[len(records) - kept :]
