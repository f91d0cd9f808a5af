"""The application of the reconnect suite: every event is noted in its order, and options come from the environment.

Rates are another matter: they have tests of their own.
"""

import os
from typing import Any

import msgspec

from freshet import Freshet, History
from freshet.config import parse
from freshet.config.limits import RATES

SECRET = "a secret for tests, thirty-two bytes"

live = Freshet(
    config=parse(
        {
            "tokens": {"secret": SECRET, "anonymous": True},
            "api": {"anonymous": True},
            "rates": {name: {"rate": 0, "burst": 0} for name in RATES},
            **msgspec.json.decode(os.environ.get("TEST_OPTIONS", "{}")),
        }
    ),
    environment={},
)
live.channel("room:{number}", subscribe="token", history=History(size=10, ttl=60))
live.channel("open:{number}", history=History(size=5000, ttl=60))
live.channel("/")
main = live.namespace("/")
noted: dict[str, list[Any]] = {}


@main.on("note")
async def note(session: Any, who: str, what: Any) -> None:
    noted.setdefault(who, []).append(len(what) if isinstance(what, str | bytes) else what)


@main.on("notes")
async def notes(session: Any, who: str) -> list[Any]:
    return noted.get(who, [])


@main.on("values")
async def values(session: Any, given: list[bytes]) -> int:
    return sum(map(len, given))
