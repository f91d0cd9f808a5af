"""Stamps in what is published; and what came of it: latencies, and by their sequence what was lost.

The clock is the machine's monotonic one, which all its processes share. A stamp has the time at which its publication
was due, not when it was sent: a server that keeps the publisher waiting does not make the figures look better
(coordinated omission, as wrk2 says it).
"""

import re
from array import array
from collections.abc import Callable
from time import monotonic_ns

STAMP = re.compile(rb"~(\d+):(\d+):(\d+)~")
LONGEST = 64  # bytes of a stamp, and more
REMEMBERED = 10_000  # numbers that a client waits for; what comes out of order after that counts as repeated


def stamped(due: int, publisher: int, number: int, payload: int) -> bytes:
    """Data of a publication: JSON of so many bytes, or a few more when they are too few for the stamp."""
    text = b'{"stamp":"~%d:%d:%d~","pad":"' % (due, publisher, number)
    return text + b"x" * (payload - len(text) - 2) + b'"}'


class Sequences:
    """What one client has of each publisher: the next number, and those before it that did not come."""

    __slots__ = ("missing", "next")

    def __init__(self) -> None:
        self.next: dict[int, int] = {}
        self.missing: set[tuple[int, int]] = set()

    def take(self, publisher: int, number: int) -> bool:
        """Whether it is new to this client."""
        expected = self.next.get(publisher, 0)
        if number == expected:
            self.next[publisher] = number + 1
            return True
        if number > expected:
            self.missing.update((publisher, it) for it in range(max(expected, number - REMEMBERED), number))
            self.next[publisher] = number + 1
            return True
        if (publisher, number) in self.missing:
            self.missing.discard((publisher, number))
            return True
        return False


class Flights:
    """Publications that not all subscribers of this process have yet: the closed loop."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], tuple[int, int]] = {}  # how many have to get it; since when

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, publisher: int, number: int, audience: int) -> None:
        self._waiting[publisher, number] = audience, monotonic_ns()

    def arrived(self, publisher: int, number: int) -> bool:
        """Whether this was the last one that waited for it."""
        key = publisher, number
        if key not in self._waiting:
            return False
        left, since = self._waiting[key]
        if left > 1:
            self._waiting[key] = left - 1, since
            return False
        del self._waiting[key]
        return True

    def give_up(self, age: int) -> int:
        """Forget those that are older, in nanoseconds: they are lost, and others may be sent. How many."""
        before = monotonic_ns() - age
        old = [key for key, (_, since) in self._waiting.items() if since < before]
        for key in old:
            del self._waiting[key]
        return len(old)


class Tally:
    """All that a process counts. Series hold nanoseconds.

    delivery: from when a publication was due to its receipt. connect: until a client was connected and subscribed.
    back: from the cut until a client was. lag: how late the load itself was to send.
    """

    def __init__(self) -> None:
        self.landed: Callable[[], None] = lambda: None  # when one has come to all: a closed loop sends the next
        self.series = {name: array("q") for name in ("delivery", "connect", "back", "lag")}
        self.delivery = self.series["delivery"]
        self.published = 0
        self.deliveries = 0
        self.due = 0
        self.repeated = 0
        self.turned_away = 0
        self.closed = 0
        self.refused = 0
        self.unrecovered = 0
        self.reason = ""  # of the last close or refusal
        self.flights = Flights()

    def take(self, client: Sequences, data: bytes) -> int:
        """Count the stamps in it; the place behind the last one."""
        end = 0
        for found in STAMP.finditer(data):
            end = found.end()
            publisher = int(found[2])
            number = int(found[3])
            if not client.take(publisher, number):
                self.repeated += 1
                continue
            self.deliveries += 1
            self.delivery.append(monotonic_ns() - int(found[1]))
            if self.flights and self.flights.arrived(publisher, number):
                self.landed()
        return end

    def counts(self) -> dict[str, int]:
        names = "published deliveries due repeated turned_away closed refused unrecovered"
        return {name: getattr(self, name) for name in names.split()}
