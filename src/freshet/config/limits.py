"""What one client may cost, and how often something may happen: the options of `[limits]` and `[rates]`."""

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from freshet.config.units import COUNT, FREQUENCY, KIB, MIB, SIZE
from freshet.runtime.rates import Rate


class Bound(NamedTuple):
    """A limit in bytes, and the option that sets it."""

    size: int
    option: str


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one client may cost."""

    message_size: Annotated[
        int, Meta(ge=128, description="A message from a client: a command, or what it publishes.", extra=SIZE)
    ] = 64 * KIB
    frame_size: Annotated[
        int,
        Meta(
            ge=0,
            description="What a client sends at once: all commands of a frame or a request. "
            "0: room to subscribe again to all channels of a client, with the longest names and tokens.",
            extra=SIZE,
        ),
    ] = 0
    packet_size: Annotated[
        int,
        Meta(ge=128, description="A packet of events with its attachments, and the body of a poll.", extra=SIZE),
    ] = 1_000_000
    bodies: Annotated[
        int,
        Meta(
            ge=1 * MIB,
            description="Bodies of more than 64 KiB that are being read, of all clients together; beyond: 503.",
            extra=SIZE,
        ),
    ] = 64 * MIB
    token_size: Annotated[int, Meta(ge=128, description="A token.", extra=SIZE)] = 16 * KIB
    fragments: Annotated[int, Meta(ge=1, description="The frames of one WebSocket message.", extra=COUNT)] = 1024
    outbox: Annotated[
        int, Meta(ge=1 * KIB, description="The outbox of a client: what it has not read yet.", extra=SIZE)
    ] = 1 * MIB
    history_page: Annotated[
        int,
        Meta(
            ge=1,
            description="Publications in one page of history that a client reads; the next page has the others.",
            extra=COUNT,
        ),
    ] = 1000
    page_size: Annotated[
        int,
        Meta(
            ge=1 * KIB,
            description="The same in bytes, nearly; and a list of presence, which is refused beyond (106).",
            extra=SIZE,
        ),
    ] = 512 * KIB
    replay: Annotated[
        int,
        Meta(
            ge=1 * KIB,
            description="What a returning client gets at once of what it missed; beyond, it is not recovered.",
            extra=SIZE,
        ),
    ] = 4 * MIB
    log_memory: Annotated[
        int,
        Meta(
            ge=0,
            description="What all logs may hold in memory (memory and SQLite engine); beyond, those are forgotten that "
            "were quiet for longest. 0: any number.",
            extra=SIZE,
        ),
    ] = 512 * MIB
    channels_per_client: Annotated[int, Meta(ge=1, description="Channels of one client.", extra=COUNT)] = 128
    channel_length: Annotated[int, Meta(ge=1, le=4096, description="A channel's name.", extra=SIZE)] = 255
    backlog: Annotated[
        int,
        Meta(ge=1, description="Commands of one client that are queued before it is no longer read from.", extra=COUNT),
    ] = 256
    waiting_requests: Annotated[
        int,
        Meta(
            ge=1,
            description="Long polls of channels' URLs that wait at a time, of all clients together; and as many "
            "requests that wait for another node.",
            extra=COUNT,
        ),
    ] = 10_000
    waiting_per_address: Annotated[
        int,
        Meta(
            ge=1,
            description="Requests of one public address, or one /64 of IPv6, that wait at a time; beyond: 429.",
            extra=COUNT,
        ),
    ] = 1000
    sessions_per_user: Annotated[
        int,
        Meta(
            ge=0,
            description="Clients of one user that are connected to one process; the next is disconnected (3504). "
            "0: any number.",
            extra=COUNT,
        ),
    ] = 1000
    sessions_per_address: Annotated[
        int,
        Meta(
            ge=0,
            description="Clients from one public address, or one /64 of IPv6, on one process; beyond: 429. "
            "0: any number.",
            extra=COUNT,
        ),
    ] = 5000
    connects_per_second: Annotated[
        float,
        Meta(ge=0, description="New clients that one process admits in the long run; 0: any number.", extra=FREQUENCY),
    ] = 2000
    connects_burst: Annotated[
        int, Meta(ge=1, description="New clients that it admits at once after a quiet time.", extra=COUNT)
    ] = 1000

    @property
    def message(self) -> Bound:
        """What one command may have, and a message of a protocol that has one in each."""
        return Bound(self.message_size, "limits.message_size")

    @property
    def frame(self) -> Bound:
        """What a client may send at once, where a protocol lets it send many commands.

        Its first frame may be the largest: one that comes back says at once who it is, and subscribes to all channels.
        """
        in_channel = 3 * self.channel_length + 256  # the name, as some libraries escape it, and a position
        each = min(self.message_size, self.token_size + in_channel)
        return Bound(self.frame_size or self.message_size + self.channels_per_client * each, "limits.frame_size")

    @property
    def packet(self) -> Bound:
        return Bound(self.packet_size, "limits.packet_size")


class Rates(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often something may happen: `{ rate, burst }`, so many a second in the long run and so many at once.

    A rate of 0: no limit. What the server itself does is not limited.
    """

    scope: Annotated[
        Literal["process", "cluster"],
        Meta(
            description="Whose the rates `user`, `channel`, `requests` and `address` are: of each process, or of all "
            "together that share an engine. They tell one another ten times a second what was used; one that cannot "
            "reach the others limits by itself."
        ),
    ] = "process"
    client: Annotated[
        Rate,
        Meta(
            description="Commands of one client; at once at least two for each channel. A subscription that recovers, "
            "or gets a state, counts as ten."
        ),
    ] = Rate(250, 10_000)
    client_bytes: Annotated[Rate, Meta(description="Bytes that one client publishes and sends.", extra=SIZE)] = Rate(
        512 * KIB, 8 * MIB
    )
    frames: Annotated[
        Rate,
        Meta(
            description="WebSocket frames of one client, pings and pongs too, each counted once for each KiB that it "
            "has; beyond, it is read no faster, and disconnected (3509) if it goes on for a minute."
        ),
    ] = Rate(1000, 20_000)
    history: Annotated[Rate, Meta(description="Pages of history that one client reads.")] = Rate(20, 200)
    presence: Annotated[Rate, Meta(description="Lists of presence that one client reads.")] = Rate(10, 200)
    refusals: Annotated[
        Rate, Meta(description="Commands that are refused for one of these rates; beyond: it is disconnected (3509).")
    ] = Rate(10, 1000)
    user: Annotated[Rate, Meta(description="Commands of all clients of one user.")] = Rate(1000, 40_000)
    channel: Annotated[Rate, Meta(description="What clients publish in one channel.")] = Rate(500, 5000)
    requests: Annotated[
        Rate,
        Meta(
            description="HTTP requests of clients from one public address, or one /64 of IPv6, each counted once more "
            "for each 4 KiB of its body; beyond: 429."
        ),
    ] = Rate(500, 5000)
    address: Annotated[
        Rate, Meta(description="New clients from one public address, or one /64 of IPv6; beyond: 429.")
    ] = Rate(20, 500)


RATES = tuple(name for name in Rates.__struct_fields__ if name != "scope")
"""The options of `[rates]` that are one."""
