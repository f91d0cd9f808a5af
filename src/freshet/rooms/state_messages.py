"""What a client publishes in a channel that is a state and nothing else, in any protocol: a change of an entry."""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from freshet.errors import Refusal
from freshet.model.entries import EntryChange
from freshet.model.json_text import one_line
from freshet.model.log import Kind

FORMS = (
    '{"key": ..., "value": ...}, {"key": ..., "add": 1} or {"key": ..., "removed": true}, each with "expect" if need be'
)


class EntryMessage(Struct, forbid_unknown_fields=True):
    """expect: the entry's value now; null: there is none."""

    key: str = ""
    value: Raw | UnsetType = UNSET
    add: Raw | UnsetType = UNSET
    removed: bool = False
    expect: Raw | UnsetType = UNSET
    ttl: float | None = None

    def change(self) -> EntryChange:
        """Raises `Refusal` when it is not clear what to do."""
        given = [self.value is not UNSET, self.add is not UNSET, self.removed]
        if sum(given) != 1:
            raise Refusal.bad_request(f"expected one of {FORMS}")
        expect = None if isinstance(self.expect, UnsetType) else one_line(bytes(self.expect))
        if expect == b"null":
            expect = b""
        if not isinstance(self.value, UnsetType):
            return EntryChange("set", self.key, one_line(bytes(self.value)), ttl=self.ttl, expect=expect)
        if not isinstance(self.add, UnsetType):
            return EntryChange("add", self.key, bytes(self.add), ttl=self.ttl, expect=expect)
        return EntryChange("remove", self.key, expect=expect)


_decode = msgspec.json.Decoder(EntryMessage).decode


def as_change(data: bytes, kind: Kind) -> EntryChange:
    """Raises `Refusal` 107, which says what is expected."""
    try:
        if kind is not Kind.JSON:
            raise ValueError("no JSON")
        return _decode(data).change()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise Refusal.bad_request(f"expected {FORMS}: {error}") from None
