"""One session in one channel."""

import msgspec

from freshet.model.log import NOWHERE
from freshet.rules.rules import ChannelRule


class Subscription:
    """One session in one channel.

    expires: epoch seconds, or 0. info: JSON that others in the channel see. position: where it came in.
    present: others in the channel see it.
    """

    __slots__ = ("expires", "info", "position", "present", "rule")

    def __init__(self, rule: ChannelRule, info: msgspec.Raw, expires: float, *, present: bool) -> None:
        self.rule = rule
        self.present = present
        self.info = info
        self.expires = expires
        self.position = NOWHERE
