"""The publications of a channel for the application itself, in its own process: see `Freshet.listen`."""

import asyncio
from collections.abc import AsyncGenerator

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.errors import Disconnect
from freshet.model.commands import Command
from freshet.model.events import Event, Published
from freshet.model.frame import Frame, Handshake
from freshet.model.log import Publication


class PublicationFrame(Frame):
    """A publication as it is."""

    __slots__ = ("publication",)

    def __init__(self, publication: Publication) -> None:
        super().__init__(publication.data)
        self.publication = publication


class Listening(Dialect):
    """Nothing is encoded, and there is no client to prove that it is there."""

    name = "listening"
    has_heartbeat = False
    has_presence = False

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("it only listens")

    def encode(self, event: Event) -> Frame | None:
        return PublicationFrame(event.publication) if type(event) is Published else None


async def listen(dispatcher: Dispatcher, channel: str) -> AsyncGenerator[Publication, None]:
    """See `Freshet.listen`."""
    session = dispatcher.open(Listening(), Handshake("/"))
    session.enter()
    news = asyncio.Event()
    session.outbox.attach(news.set)
    try:
        await dispatcher.join(session, channel)
        while True:
            await news.wait()
            news.clear()
            for frame in session.outbox.take():
                assert isinstance(frame, PublicationFrame)
                yield frame.publication
            if session.outbox.closed:
                raise session.outbox.closed
    finally:
        session.end(Disconnect.normal())
