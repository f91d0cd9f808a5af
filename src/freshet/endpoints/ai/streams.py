"""The dialects of the doors for AI clients: a session in a run's channel asks one thing, and gets one run's parts.

Such a session is one like any other: its token is checked, hooks and rules say whether it may subscribe and publish.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import NamedTuple

from freshet.dialects.base import Dialect, refuse
from freshet.dialects.event_stream import COMMENT
from freshet.errors import Disconnect
from freshet.model.commands import Command, Connect, Publish, Subscribe
from freshet.model.events import Accepted, Disconnected, Event, Heartbeat, Published, Refused, Subscribed
from freshet.model.frame import Frame, Handshake
from freshet.model.run_aggregate import Aggregate, Part
from freshet.model.run_messages import ENDED, Summary, branch, encode, event_of, summary_of

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
        if type(event) is Refused:
            refuse(event)
        if type(event) is Subscribed and not event.publications and not self._waits:
            raise NOTHING_RUNS
        if type(event) is Disconnected and self._begun and not self._over:
            return self.cut(event.reason)
        return None

    def _progress(self, event: Published) -> Progress | None:
        if self._over:
            return None
        summary = summary_of(event.publication)
        if summary is not None:
            return self._of_summary(summary)
        it = event_of(event.publication)
        if it is None or it.run != self.run:
            return None
        state = it.state or "running"
        return self._next(Progress(it.parts, state, it.reason, whole=it.seq == 0))

    def _of_summary(self, summary: Summary) -> Progress | None:
        self.run = self.run or self.find(summary)
        message = next((it for it in summary.answers if it["id"] == self.run), None)
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
            return Progress([*parts, *_end_of(state, reason)], state, reason, whole=True)
        answers = [at for at, part in enumerate(parts) if part.get("approvalId") in self.approvals and _is_answer(part)]
        had = answers[-1] + 1 if answers else len(parts)
        self.pass_over(parts[:had])
        if state == "waiting" and not answers:
            return Progress([{"type": "start"}], "running", whole=True)  # the answer is on its way
        return Progress([{"type": "start"}, *parts[had:], *_end_of(state, reason)], state, reason, whole=True)

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
            summary = summary_of(event.publication)  # None: a run writes on, while this answer is on its way
            return Frame(encode(Summary(branch(summary.messages), summary.runs))) if summary is not None else None
        return super().encode(event)

    def write(self, progress: Progress) -> bytes:
        return b""
