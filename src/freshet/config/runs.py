"""Options of runs."""

from typing import Annotated

from msgspec import Meta, Struct

from freshet.config.units import COUNT, KIB, MIB, SECONDS, SIZE, TIME


class Runs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Runs: what they may write, and how their end is noticed."""

    interval: Annotated[
        float, Meta(ge=0, le=1, description="In which what a run writes goes out together.", extra=TIME)
    ] = 0.025
    lease: Annotated[
        float,
        Meta(
            ge=0.5,
            le=300,
            description="After which the runs of a node that died are resumed elsewhere, or have failed.",
            extra=TIME,
        ),
    ] = 3 * SECONDS
    drain: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="For runs to end, or come to a checkpoint, when the server stops.",
            extra=TIME,
        ),
    ] = 10 * SECONDS
    idle: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="After which the events of a channel in which nothing runs give way to the messages that they"
            " add up to; who returns later gets those.",
            extra=TIME,
        ),
    ] = 30 * SECONDS
    size: Annotated[
        int, Meta(ge=1 * KIB, le=4 * MIB, description="That a run writes; it ends when it is longer.", extra=SIZE)
    ] = 256 * KIB
    rate: Annotated[
        float, Meta(ge=0, description="Characters a second that a run writes; 0: as many as it likes.", extra=COUNT)
    ] = 0
    per_user: Annotated[
        int,
        Meta(
            ge=0,
            description="Runs of one user at a time, on all nodes together; beyond: they are refused (106); 0: any.",
            extra=COUNT,
        ),
    ] = 0
