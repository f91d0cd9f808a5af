"""What the doors for AI clients share: a session that is in a run's channel, asks one thing, and gets one run's parts.

Such a session is one like any other: its token is checked, hooks and rules say whether it may subscribe and publish.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.dialects.base import Dialect
from freshet.dialects.event_stream import COMMENT
from freshet.endpoints.channels import refusal
from freshet.endpoints.opening import TOO_BIG, Opening, at_most, cors, plain, raw
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import Command, Connect, Publish, Subscribe
from freshet.model.events import Accepted, Disconnected, Event, Heartbeat, Published, Refused, Subscribed
from freshet.model.frame import Frame, Handshake
from freshet.model.json_text import whole
from freshet.model.run_aggregate import Aggregate, Part
from freshet.model.run_messages import ENDED, Summary, branch, decode_summary, encode, event_of
from freshet.session.session import Session
from freshet.transports import stream

ALREADY = Refusal.already_subscribed().code
NOTHING_RUNS = Disconnect(4602, "no such run")
"""Why a stream that follows what runs has not begun."""


class Progress(NamedTuple):
    """What a run has done: parts behind those of before, and its state. whole: they begin with its first."""

    parts: list[Part]
    state: str
    reason: str = ""
    whole: bool = False


class RunStream(Dialect):
    """The parts of one run for one session. run: which; empty: the one that runs. ask: published first; empty: nothing.

    first: a command of the endpoint's own that subscribes and asks instead, as it depends on who the client is.
    waits: a run that is not there yet will begin. ended: called when the run is over, and all has been encoded.
    approvals: what this session answers; it has what the run wrote before that.
    """

    __slots__ = ("_begun", "_over", "_waits", "approvals", "ask", "channel", "ended", "first", "name", "run")
    kind = "runs"
    replays_in_reply = False
    answers_heartbeat = False

    def __init__(
        self,
        channel: str,
        run: str = "",
        ask: bytes = b"",
        approvals: Collection[str] = (),
        first: Command | None = None,
    ) -> None:
        self.approvals = approvals
        self.channel = channel
        self.run = run
        self.name = f"{self.kind}:{id(self)}"
        self.ended: Callable[[], None] = lambda: None
        self.ask = ask
        self.first = first
        self._waits = bool(ask or first)
        self._begun = False
        self._over = False

    @property
    def is_over(self) -> bool:
        """Whether the run is, and so the stream."""
        return self._over

    def opened(self, request: Handshake) -> list[Command]:
        connect = Connect(id=1, token=request.token, only=(self.channel,))
        if self.first is not None:
            return [connect, self.first]
        commands: list[Command] = [connect, Subscribe(self.channel, id=2)]
        return [*commands, Publish(self.channel, self.ask, id=3)] if self.ask else commands

    def choose(self, channel: str, run: str) -> None:
        """What `first` has found."""
        self.channel, self.run = channel, run

    def receive(self, frame: Frame) -> list[Command]:
        raise Disconnect.bad_request("this stream takes no commands")

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Published:
            progress = self._progress(event)
            return self._encoded(progress) if progress is not None else None
        if type(event) is Heartbeat:
            return Frame(COMMENT)
        if type(event) is Refused and event.code != ALREADY:
            raise Disconnect((4000 if event.temporary else 4500) + min(event.code, 499), event.message)
        if type(event) is Subscribed and not event.publications and not self._waits:
            raise NOTHING_RUNS
        if type(event) is Disconnected and self._begun and not self._over:
            return self.cut(event.reason)
        return None

    def _progress(self, event: Published) -> Progress | None:
        publication = event.publication
        if self._over or not publication.tags or "run" not in publication.tags:
            return None
        if not publication.tags["run"]:
            return self._of_summary(decode_summary(publication.data))
        it = event_of(publication)
        if it is None or it.run != self.run:
            return None
        state = it.state or "running"
        return self._next(Progress(it.parts, state, it.reason, it.seq == 0))

    def _of_summary(self, summary: Summary) -> Progress | None:
        self.run = self.run or self.find(summary)
        message = next((it for it in summary.messages if it["id"] == self.run), None)
        if message is None:
            if not self._waits:
                raise NOTHING_RUNS
            return None
        about = message["metadata"]["run"]
        metadata = {name: value for name, value in message["metadata"].items() if name != "run"}
        parts = [{"type": "start", "messageId": self.run}, *Aggregate(message["parts"], metadata).replay()]
        return self._next(self.of_before(parts, about["state"], about.get("reason", "")))

    def find(self, summary: Summary) -> str:
        """The run that is followed, where none was named. Raises `NOTHING_RUNS`."""
        running = [it for it in summary.runs if it.state in ("queued", "running")]
        if not running:
            raise NOTHING_RUNS
        return running[-1].run

    def of_before(self, parts: list[Part], state: str, reason: str) -> Progress:
        """What a run has done that was there when the session came."""
        if not self.approvals:
            return Progress([*parts, *_end_of(state, reason)], state, reason, True)
        answers = [at for at, part in enumerate(parts) if part.get("approvalId") in self.approvals and _is_answer(part)]
        had = answers[-1] + 1 if answers else len(parts)
        self.pass_over(parts[:had])
        if state == "waiting" and not answers:
            return Progress([{"type": "start"}], "running", "", True)  # the answer is on its way
        return Progress([{"type": "start"}, *parts[had:], *_end_of(state, reason)], state, reason, True)

    def pass_over(self, parts: list[Part]) -> None:
        """These are not written, as the client has them."""

    def _next(self, progress: Progress) -> Progress:
        self._begun = True
        if progress.state in ENDED or progress.state == "waiting":
            self._over = True
            self.ended()
        return progress

    def _encoded(self, progress: Progress) -> Frame | None:
        data = self.write(progress)
        return Frame(data) if data else None

    @abstractmethod
    def write(self, progress: Progress) -> bytes:
        """The bytes of a stream for it."""

    def cut(self, reason: str) -> Frame | None:
        """What says that the stream ends though the run does not."""
        return None


def _is_answer(part: Part) -> bool:
    return bool(part["type"] == "tool-approval-response")


def _end_of(state: str, reason: str) -> list[Part]:
    match state:
        case "finished":
            return [{"type": "finish", "finishReason": reason or "stop"}]
        case "waiting":
            return [{"type": "finish", "finishReason": "tool-calls"}]
        case "stopped":
            return [{"type": "abort", "reason": reason}]
        case "failed":
            return [{"type": "error", "errorText": reason}]
        case _:
            return []


class Once(RunStream):
    """One thing that is asked of a channel's runs, and nothing else. begun: the run that `first` has found."""

    __slots__ = ("begun",)
    kind = "runs_once"
    has_presence = False

    def __init__(self, channel: str, ask: bytes = b"", first: Command | None = None) -> None:
        super().__init__(channel, "-", ask, first=first)
        self.begun = ""

    def choose(self, channel: str, run: str) -> None:
        self.channel, self.begun = channel, run

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Accepted:
            return Frame(b"{}")
        return None if type(event) is Published else super().encode(event)

    def write(self, progress: Progress) -> bytes:
        return b""


class Messages(RunStream):
    """The messages of a channel, down to the last, for one answer."""

    __slots__ = ()
    kind = "runs_messages"
    has_presence = False

    def encode(self, event: Event) -> Frame | None:
        if type(event) is Subscribed:
            return None if event.publications else Frame(b'{"messages":[],"runs":[]}')
        if type(event) is Published:
            summary = decode_summary(event.publication.data)
            return Frame(encode(Summary(branch(summary.messages), summary.runs)))
        return super().encode(event)

    def write(self, progress: Progress) -> bytes:
        return b""


class RunsDoor:
    """Opens sessions for requests, and answers them. limits: what a body may have."""

    def __init__(self, opening: Opening, dispatcher: Dispatcher) -> None:
        self.opening = opening
        self.dispatcher = dispatcher
        self._bound = dispatcher.limits.frame

    async def request(self, scope: Scope, receive: Receive, send: Send) -> Handshake | None:
        """None: it has been answered."""
        return await self.opening.open(scope, receive, send)

    async def body(self, request: Handshake, scope: Scope, receive: Receive, send: Send) -> dict[str, Any] | None:
        """The JSON object that a request holds. None: it holds something else, and has been answered."""
        data = await self.dispatcher.read_body(receive, self._bound.size)
        answer: Response
        if data is None:
            self.dispatcher.too_big(scope["path"], self._bound)
            answer = plain(TOO_BIG, at_most(self._bound), cors(request))
        else:
            try:
                return msgspec.json.decode(whole(data), type=dict[str, Any])
            except (msgspec.MsgspecError, RecursionError) as why:
                answer = plain(400, f"Expected a JSON object: {why}.\n", cors(request))
        await answer(scope, receive, send)
        return None

    def open(self, dialect: Dialect, request: Handshake) -> Session:
        session = self.dispatcher.open(dialect, request)
        session.open()
        return session

    async def stream(
        self,
        dialect: RunStream,
        request: Handshake,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[str, str] | None = None,
        none: int = 404,
    ) -> None:
        """Answer with the run's parts. none: the status when there is no such run."""
        opened: list[Session] = []
        dialect.ended = lambda: end_soon(opened)
        session = self.dispatcher.open(dialect, request)
        opened.append(session)
        session.open()
        allow = {**cors(request), **(headers or {})}
        why = await stream.converse(session, stream.EVENTS, raw(allow), receive, send)
        if why is not None:
            await self._unwritten(dialect, why, none, allow)(scope, receive, send)

    @staticmethod
    def _unwritten(dialect: RunStream, why: Disconnect, none: int, headers: dict[str, str]) -> Response:
        """The answer where no stream has begun."""
        if dialect.is_over:  # the client has all of it
            return Response(b"", 200, headers, "text/event-stream")
        return Response(None, none, headers) if why.reason == NOTHING_RUNS.reason else refusal(why, headers)

    async def collect(
        self, dialect: RunStream, request: Handshake, receive: Receive, wait: float
    ) -> Frame | Disconnect:
        """The one frame that a stream amounts to. wait: seconds."""
        session = self.open(dialect, request)
        frames = await stream.collect(session, receive, wait, bool)
        return frames if isinstance(frames, Disconnect) else frames[0]

    async def messages(self, channel: str, request: Handshake, receive: Receive) -> Response:
        """What was said in a channel, and what runs: a `Summary`."""
        session = self.open(Messages(channel), request)
        frames = await stream.collect(session, receive, self.dispatcher.timing.connect_timeout, bool)
        if isinstance(frames, Disconnect):
            return refusal(frames, cors(request))
        return Response(frames[0].data, 200, cors(request), "application/json")

    async def ask(self, once: "Once", request: Handshake, receive: Receive) -> Disconnect | None:
        """Have something done to a channel's runs. None: it is done; otherwise why not."""
        session = self.open(once, request)
        frames = await stream.collect(session, receive, self.dispatcher.timing.connect_timeout, bool)
        return frames if isinstance(frames, Disconnect) else None


def end_soon(opened: list[Session]) -> None:
    """End the session once what is being encoded is in its outbox."""
    for session in opened:
        asyncio.get_running_loop().call_soon(session.close, Disconnect.normal())


def command(**fields: Any) -> bytes:
    """What a client publishes to have something done: see `runs.client_command`."""
    return msgspec.json.encode({f"${name}" if name in COMMANDS else name: value for name, value in fields.items()})


COMMANDS = ("start", "stop", "answers", "steer")
