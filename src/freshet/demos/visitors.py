"""Who visits a demo: nobody signs in, everybody has a name."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Visitor(msgspec.Struct):
    """What a page says about its visitor when it connects, and what the others see of them."""

    name: Annotated[str, Meta(min_length=1, max_length=24)]

    def __post_init__(self) -> None:
        self.name = " ".join(self.name.split())
        if not self.name or not self.name.isprintable():  # nothing invisible, and nothing that turns text around
            raise ValueError("a name needs letters, and no control characters")
