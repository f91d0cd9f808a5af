"""Where a gap in a channel is noticed: what the engine delivers has to continue the log, with no gap and no repeat.

What comes next in the log passes. What came before, already, is dropped. What comes too early is held, until the log
was read for the gap between the two; `hub.py` reads it.
"""

from freshet.model.events import Published
from freshet.model.log import NOWHERE, History, Position, Publication, Stream


class Continuity:
    """keep: of the channel; None: it has no log, and all passes.

    held: what came too early, the last `keep.size` of it; None: nothing is missing. It begins so: until
    `begin` says where, all is held.
    """

    __slots__ = ("epoch", "held", "keep", "offset")

    def __init__(self, keep: History | None) -> None:
        self.keep = keep
        self.epoch, self.offset = NOWHERE
        self.held: list[Published] | None = [] if keep else None

    @property
    def position(self) -> Position:
        """All up to here has passed."""
        return Position(self.epoch, self.offset)

    def passes(self, event: Published) -> bool:
        """Whether this is what comes next; then it counts as passed."""
        offset = event.publication.offset
        if not offset:
            return True  # it is in no log
        if self.held is None and offset == self.offset + 1 and event.epoch == self.epoch:
            self.offset = offset
            return True
        return False

    def hold(self, event: Published) -> bool:
        """Keep what did not pass, if it is not known already. Whether something is missing since now."""
        if self.held is None:
            if event.epoch == self.epoch and event.publication.offset <= self.offset:
                return False
            self.held = [event]
            return True
        self.held.append(event)
        if self.keep is not None:
            del self.held[: max(0, len(self.held) - self.keep.size)]
        return False

    def is_behind(self, position: Position) -> bool:
        """Whether the log is known to have stood at `position`, and what passed here does not reach it."""
        return position.epoch != self.epoch or position.offset > self.offset

    def begin(self, position: Position) -> None:
        """All up to `position` counts as passed; what was held can try again."""
        self.epoch, self.offset = position

    def release(self) -> list[Published]:
        """What was held."""
        held, self.held = self.held or [], None
        return held

    def missing(self, stream: Stream) -> list[Publication] | None:
        """What the log holds and did not pass; None: the log no longer holds all of it, or is another one.

        stream: the log after a position that had passed when it was read.
        """
        epoch, top = stream.position
        if epoch != self.epoch:
            return None
        after = [each for each in stream.publications if each.offset > self.offset]
        if top > self.offset and (not after or after[0].offset != self.offset + 1):
            return None
        return after
