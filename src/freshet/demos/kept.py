"""What the demos with rooms share: where their rooms are kept, and who plays."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from freshet import Refusal, Session, Welcome
from freshet.demos.visitors import Visitor


def kept(name: str) -> dict[str, str]:
    """The environment of a demo whose rooms are kept in a file of the user's, so that they survive a restart."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "freshet")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # nobody's home: then they live as long as the process
        return {**os.environ, "FRESHET_ROOMS__STORE": "memory://"}
    return {**os.environ, "FRESHET_ROOMS__STORE": f"sqlite:///{folder / name}.db"}


class Player(Visitor):
    """key: a secret of the page, by which its visitor is known again when the connection, or the server, was away."""

    key: Annotated[str, Meta(min_length=16, max_length=64)]


async def welcome(session: Session, data: Player | None) -> Welcome:
    """Everyone may come in; `info` is what the others see of them."""
    if data is None:
        raise Refusal.bad_request("a visitor needs a name and a key")
    return Welcome(user=sha256(data.key.encode()).hexdigest()[:16], info={"name": data.name})


def name_of(info: object) -> str:
    return msgspec.convert(info, Visitor).name
