"""The link to NATS: a line to one of its servers, opened again, perhaps to another, when it is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from freshet.engines.nats.access import Address, Where
from freshet.engines.nats.connection import Line, Message
from freshet.engines.reconnect import Staying
from freshet.errors import EngineUnavailable

KNOWN = 64  # servers that are remembered beside those of the URL


class Link(Staying):
    """heard: called with what comes on the subjects that are listened to. back: see `Staying`.

    lines: how many there have been, so that one can see whether what a server was told was told to this one.
    """

    broker = "NATS"

    def __init__(self, where: Where, heard: Callable[[Message], None], back: Callable[[], None]) -> None:
        super().__init__(back)
        self.lines = 0
        self._where = where
        self._heard = heard
        self._subjects: set[str] = set()
        self._line: Line | None = None
        self._known: list[Address] = []  # what servers told of others
        self._next = 0

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """What takes several requests has as much time as one. Raises EngineUnavailable when that is over."""
        try:
            async with asyncio.timeout(self._where.access.timeout):
                yield
        except TimeoutError:
            raise EngineUnavailable(f"NATS did not do it within {self._where.access.timeout:g} s") from None

    async def request(self, subject: str, data: bytes, headers: bytes = b"") -> Message:
        """What somebody answers. Raises EngineUnavailable, also when nobody listens to `subject`."""
        try:
            answer = await self._there.request(subject, data, headers)
        except EOFError:
            raise self._away("NATS went away before it answered") from None
        if answer.status == 503:
            raise NobodyAnswers("in NATS nobody answers: is JetStream enabled there?")
        return answer

    async def tell(self, subject: str, data: bytes) -> None:
        """Publish, and return when the server has it. Raises EngineUnavailable."""
        try:
            line = self._there
            line.publish(subject, data)
            await asyncio.shield(line.confirm())
        except EOFError:
            raise self._away("NATS went away before it confirmed") from None

    def mention(self, subject: str, data: bytes) -> None:
        """Publish what may be lost."""
        with suppress(EOFError, EngineUnavailable):
            self._there.publish(subject, data)

    async def gather(self, ask: Callable[[str], tuple[str, bytes]], each: Callable[[Message], bool]) -> Message:
        """All that is sent to a subject of our own: `ask(subject)` says what to request of whom, so that it is sent.

        The answer is the request's. each: says of a message whether it is the last; of the answer too, with no reply.
        Raises as `request`; also when the last does not come in time.
        """
        whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(message: Message) -> None:
            if each(message) and not whole.done():
                whole.set_result(None)

        line = self._there
        inbox = line.gather(hear, whole)
        try:
            answer = await self.request(*ask(inbox))
            hear(answer)
            async with asyncio.timeout(self._where.access.timeout):
                await whole
        except EOFError:
            raise self._away("NATS went away before all had come") from None
        except TimeoutError:
            raise EngineUnavailable("NATS did not send all in time") from None
        finally:
            line.let_go(inbox)
            if whole.done() and not whole.cancelled():
                whole.exception()
        return answer

    async def listen(self, subjects: Iterable[str]) -> None:
        """Hear what is published on `subjects`; returns when the server knows. Raises EngineUnavailable."""
        subjects = set(subjects)
        new = subjects - self._subjects
        self._subjects |= new
        try:
            line = self._there
            for subject in new:
                line.hear(subject)
            await asyncio.shield(line.confirm())
        except EOFError:
            self.ignore(new)
            raise self._away("NATS went away") from None
        except BaseException:
            self.ignore(new)
            raise

    def ignore(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            self._subjects.discard(subject)
            if self._line is not None:
                self._line.ignore(subject)

    # ---------------------------------------------------------------------------------------------------- staying there

    @property
    def _there(self) -> Line:
        if self._line is None:
            raise self._away("NATS is away")
        return self._line

    def _away(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(f"{what}: {self._why}")

    def _look_at_the_time(self) -> None:
        if self._line is None:
            return
        if self._line.fail_late(self._where.access.timeout):
            self._hang_up(f"no answer within {self._where.access.timeout:g} s")
        else:
            with suppress(EOFError, EngineUnavailable):
                self._line.confirm()

    async def _connect(self) -> bool:
        """Open a line to the next server and listen to all again; if that fails, `_why` says why."""
        self._lost.clear()
        addresses = [*self._where.addresses, *self._known]
        address = addresses[self._next % len(addresses)]
        self._next += 1
        line: Line | None = None
        whole = False
        try:
            async with asyncio.timeout(self._where.access.timeout):
                line = await Line.dial(address, self._where.access, self._heard, self._hang_up)
                for subject in self._subjects:
                    line.hear(subject)
                await line.confirm()
                whole = not line.closed
        except TimeoutError:
            self._why = f"{address} did not answer within {self._where.access.timeout:g} s"
        except (OSError, EOFError, EngineUnavailable) as error:
            self._why = str(error)
        if whole and line is not None:
            self._line = line
            self.lines += 1
            self._known = [it for it in map(Address.of, line.info.get("connect_urls", [])[:KNOWN]) if it != address]
            self._next -= 1  # if it is lost, it is tried first: it may only have blinked
            return True
        if line is not None:
            line.close(self._why)
        return False

    def _hang_up(self, why: str) -> None:
        line, self._line = self._line, None
        self._why = why
        self._lost.set()
        if line is not None:
            line.close(why)


class NobodyAnswers(EngineUnavailable):
    """NATS knows nobody who listens to what was asked."""
