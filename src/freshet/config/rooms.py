"""The options of `[rooms]`: what rooms keep, and how one node takes over from another."""

from typing import Annotated

from msgspec import Meta, Struct

from freshet.config.units import COUNT, SECONDS, TIME


class Rooms(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rooms: what they keep, and how one node takes over from another."""

    store: Annotated[
        str,
        Meta(
            description="Where rooms keep their data: `sqlite:///rooms.db`, for all nodes of one host, "
            "`postgresql://`, `redis://`, or `memory://`, gone with its process."
        ),
    ] = "sqlite:///rooms.db"
    lease: Annotated[
        float,
        Meta(
            ge=0.5,
            le=300,
            description="After which another node takes over the rooms of one that died.",
            extra=TIME,
        ),
    ] = 4 * SECONDS
    idle: Annotated[
        float,
        Meta(gt=0, le=86400, description="Without a message, after which a room leaves memory.", extra=TIME),
    ] = 30 * SECONDS
    mailbox: Annotated[
        int, Meta(ge=1, description="Messages that wait in one room; beyond: they are refused (111).", extra=COUNT)
    ] = 1000
