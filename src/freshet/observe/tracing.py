"""What a node asks of whoever traces messages; `otel.py` has it, where the extra `otel` is installed."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class FanOut(NamedTuple):
    """Publications that went out to the subscribers of a channel together. traces: of what published them.

    began: nanoseconds since the epoch.
    """

    channel: str
    traces: Sequence[str]
    messages: int
    subscribers: int
    began: int


class Tracing(Protocol):
    """template: the pattern of a channel's rule. A trace is a W3C `traceparent`; empty: none.

    expose: clients get it, too, as the tag `traceparent`.
    """

    expose: bool

    def taken_from(self, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[None]:
        """What runs within goes on with the trace of a request."""

    def publishing(self, channel: str, template: str, size: int) -> AbstractContextManager[str]:
        """A span around handing a publication to its log; gives its trace. size: bytes of payload."""

    def delivered(self, fan_out: FanOut, template: str) -> None:
        """A span of a fan-out that is over now, however many clients it had, linked with what published."""
