"""What the runs of a channel have come to, on the node that owns it: those that are not over, and those that are.

Nothing is changed here that the log does not have.
"""

import logging
from collections.abc import Callable, Iterator

import msgspec

from freshet.errors import EngineUnavailable
from freshet.model.run_aggregate import Part
from freshet.model.run_messages import ENDED, ChatState, RunEvent, RunRecord
from freshet.runs.log import RunLog

log = logging.getLogger("freshet.runs")


class Records:
    """journal: the channel's. size: how many runs that are over it keeps."""

    def __init__(self, channel: str, journal: RunLog, size: int) -> None:
        self._channel = channel
        self._log = journal
        self._size = size
        self._state = ChatState()
        self._filed: dict[str, RunRecord] = {}
        self._has_read = False

    async def read(self) -> None:
        """What there is, once. Raises EngineUnavailable."""
        if not self._has_read:
            self._state = await self._log.read()
            self._filed = {record.id: record for record in await self._log.filed()}
            self._has_read = True

    def __iter__(self) -> Iterator[RunRecord]:
        """Those that are not filed, in their order; what happens meanwhile is not seen."""
        return iter(list(self._state.runs.values()))

    def get(self, id: str) -> RunRecord | None:
        """One that is not filed."""
        return self._state.runs.get(id)

    def find(self, id: str) -> RunRecord | None:
        """One of those, or of those that are over."""
        return self._state.runs.get(id) or self._filed.get(id)

    @property
    def filed(self) -> dict[str, RunRecord]:
        """Those that are over, by their ids, the oldest first."""
        return self._filed

    def last(self) -> str:
        """The run whose message is the last; empty if there is none."""
        return next(reversed({**self._filed, **self._state.runs}), "")

    def branch(self, id: str) -> list[Part]:
        """The messages before the run's own, from the first to its parent's."""
        records = {**self._filed, **{record.id: record for record in self if record.state in ENDED}}
        parent = self._state.runs[id].parent
        branch: list[RunRecord] = []
        while (record := records.get(parent)) is not None and record not in branch:
            branch.append(record)
            parent = record.parent
        return [message for record in reversed(branch) for message in record.messages()]

    # ----------------------------------------------------------------------------------------------------- what changes

    async def append(self, event: RunEvent, fence: Callable[[], int]) -> RunRecord:
        """The run that the event is of, as it is then. See `RunLog.append`, which says what is raised."""
        await self._log.append(self._state, event, fence)
        return self._state.runs[event.run]

    async def file(self, record: RunRecord) -> None:
        """It is over: it goes among the messages; if that cannot be now, it stays where it is until it can."""
        try:
            await self._log.file(record)
        except EngineUnavailable as why:
            log.warning("runs: %r of %r is kept among those that run for now: %s", record.id, self._channel, why)
            return
        self._filed[record.id] = record
        while len(self._filed) > self._size:
            del self._filed[next(iter(self._filed))]
        del self._state.runs[record.id]
        await self.keep()

    async def keep(self) -> None:
        """Write a snapshot; if that cannot be now, the next one has what this would have had."""
        try:
            await self._log.keep(self._state)
        except EngineUnavailable as why:
            log.warning("runs: no snapshot of %r was written, the next one will be: %s", self._channel, why)

    async def keep_if_due(self) -> None:
        if self._log.is_due:
            await self.keep()

    async def hand_over(self, id: str, kept: msgspec.Raw) -> None:
        """What a run keeps is in the snapshot that the next owner begins with. Raises EngineUnavailable."""
        if id in self._state.runs:  # it was not stopped meanwhile
            self._state.runs[id].kept = kept
            await self._log.keep(self._state)

    async def trim(self) -> None:
        """Nothing runs: the logs as small as they can be. Raises EngineUnavailable."""
        await self._log.trim(self._state)
