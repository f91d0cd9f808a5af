"""The clients of one process: they connect, publish when it is time, and come back."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Iterable
from time import monotonic_ns
from urllib.parse import urlsplit

from freshet.load.clients import CentrifugeClient, LoadClient, PlainClient, TurnedAway
from freshet.load.http_clients import ApiPublisher
from freshet.load.plan import LoadError, Plan
from freshet.load.tally import Tally

SECOND = 1_000_000_000  # nanoseconds
PATIENCE = 5 * SECOND  # until a publication in flight is given up
OVERTIME = 10 * SECOND  # for what was due in time, to be sent, and then to arrive
RETURNING = 256  # clients of a process that are on their way back at the same time: more wait for the load itself
TRIES = 60  # of a client that is turned away, or whose way back is closed
SETTLE = 1.0  # seconds, where the protocol does not say when a client is subscribed
ADDRESSES = 20_000  # connections from one address of 127.0.0.0/8


class Crowd:
    """clients: of this process, each of this kind. publisher: where there is one for all of them."""

    def __init__(self, plan: Plan, tally: Tally, kind: type[LoadClient]) -> None:
        self._kind = kind
        self.plan = plan
        self.tally = tally
        self.clients: list[LoadClient] = []
        self.publisher: LoadClient | None = None
        self.is_stopped = asyncio.Event()
        self.connecting = 0.0  # seconds that it took
        parts = urlsplit(plan.url)
        secure = parts.scheme in ("https", "wss")
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        self._ssl = _context(plan.insecure) if secure else None
        self._net = random.randrange(1, 255)  # noqa: S311 - the ports of the last run are taken for a minute

    # ------------------------------------------------------------------------------------------------------ connecting

    def gather(self, channel_of: Callable[[int], str]) -> None:
        """Make the clients, without connecting them. channel_of: by a client's number in this process."""
        self.clients = [self._kind(self.plan, self.tally, it, channel_of(it)) for it in range(self.plan.clients)]

    async def connect(self) -> None:
        """All, so many at once. Raises LoadError if one cannot."""
        came, began = self.tally.series["connect"], monotonic_ns()
        await self._all_open(self.clients, lambda since: came.append(monotonic_ns() - since))
        self.connecting = (monotonic_ns() - began) / SECOND
        if not self._kind.acknowledges:
            await asyncio.sleep(SETTLE)

    async def _all_open(self, clients: Iterable[LoadClient], done: Callable[[int], None]) -> None:
        waiting = iter(clients)

        async def one_after_the_other() -> None:
            for client in waiting:
                if self.is_stopped.is_set():
                    return
                began = monotonic_ns()
                await self._open_patiently(client)
                done(began)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.plan.at_once):
                tasks.create_task(one_after_the_other())

    async def open_publisher(self, channel: str) -> None:
        """For the subscribers of one channel."""
        if self.plan.api_key:
            publisher: LoadClient = ApiPublisher(self.plan, self.tally, 0, channel)
        elif self._kind is PlainClient:
            publisher = PlainClient(self.plan, Tally(), 0, channel)
        else:
            publisher = CentrifugeClient(self.plan, self.tally, 0, channel, joins=False)
        await self._open_patiently(publisher)
        self.publisher = publisher

    async def come_back(self) -> None:
        """All connections are cut, and each client comes back as soon as it can."""
        began = monotonic_ns()
        back = self.tally.series["back"]
        for client in self.clients:
            client.close()

        waiting = iter(self.clients)

        async def one_after_the_other() -> None:
            for client in waiting:
                await self._open_patiently(client, insists=True)
                back.append(monotonic_ns() - began)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(RETURNING):
                tasks.create_task(one_after_the_other())

    async def _open_patiently(self, client: LoadClient, *, insists: bool = False) -> None:
        """Who is turned away waits as long as the server says, and up to a second more."""
        for attempt in range(TRIES):
            try:
                await self._open(client)
                return
            except TurnedAway as why:
                self.tally.turned_away += 1
                pause = why.after
            except OSError as error:
                if not insists:
                    raise LoadError(
                        f"{self.plan.url}: {error.strerror or error}", "Is the server running there? --url"
                    ) from None
                pause = min(5.0, 0.2 * 2**attempt)
            await asyncio.sleep(pause + random.random())  # noqa: S311
        raise LoadError(f"a client was turned away {TRIES} times", "limits.connects_per_second, in freshet.toml")

    async def _open(self, client: LoadClient) -> None:
        client.opening()
        where = (
            (f"127.{self._net}.{client.number // ADDRESSES % 250}.1", 0)
            if self._host in ("127.0.0.1", "localhost")
            else None
        )
        name = self._host if self._ssl else None
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: client, self._host, self._port, ssl=self._ssl, server_hostname=name, local_addr=where
            )
        except ssl.SSLError as error:
            raise LoadError(f"TLS: {error}", "A certificate of your own: --insecure.") from None
        async with asyncio.timeout(30):
            await client.ready

    # ------------------------------------------------------------------------------------------------------ publishing

    async def publish(self, send: Callable[[int], None]) -> None:
        """For so long as is planned: at the rate, or so many in flight. send: gets the time at which it is due."""
        if self.plan.rate:
            await self._open_loop(send)
        else:
            await self._closed_loop(send)

    async def _open_loop(self, send: Callable[[int], None]) -> None:
        """What is late is sent with the time at which it was due."""
        gap, lag = SECOND / self.plan.rate, self.tally.series["lag"]
        began = monotonic_ns()
        end, number = began + int(self.plan.seconds * SECOND), 0
        while not self.is_stopped.is_set():
            due = min(end, began + int(number * gap))
            if (wait := due - monotonic_ns()) > 0:
                # A timer of the event loop has a grain of a millisecond; a thread's sleep has not.
                await asyncio.get_running_loop().run_in_executor(None, time.sleep, min(wait, SECOND // 4) / SECOND)
                continue
            if due == end or monotonic_ns() > end + OVERTIME:
                return
            lag.append(-wait)
            send(due)
            number += 1
            if number % 64 == 0:
                await asyncio.sleep(0)

    async def _closed_loop(self, send: Callable[[int], None]) -> None:
        """The next goes when all subscribers of this process have one, or when one is given up."""
        is_over = False

        def next_() -> None:
            if not is_over and not self.is_stopped.is_set():
                send(monotonic_ns())

        self.tally.landed = next_
        for _ in range(self.plan.in_flight):
            next_()
        end = monotonic_ns() + int(self.plan.seconds * SECOND)
        while not self.is_stopped.is_set() and (left := end - monotonic_ns()) > 0:
            await asyncio.sleep(min(left / SECOND, 0.1))
            for _ in range(self.tally.flights.give_up(PATIENCE)):
                next_()
        is_over = True

    async def hold(self, seconds: float) -> None:
        """Or until it is stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self.is_stopped.wait()
        except TimeoutError:
            pass

    async def rest_arrives(self) -> None:
        """What is under way: until all is there, nothing has come for two seconds, or it has taken too long."""
        before, since = -1, time.monotonic()
        end = since + OVERTIME / SECOND
        while self.tally.deliveries < self.tally.due and since + 2 > time.monotonic() < end:
            if self.tally.deliveries != before:
                before, since = self.tally.deliveries, time.monotonic()
            await asyncio.sleep(0.02)

    def close(self) -> None:
        for client in (*self.clients, *([self.publisher] if self.publisher else [])):
            client.close()


def _context(insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
