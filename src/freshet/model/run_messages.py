"""What a run's channel holds, what is kept of runs, and what nodes ask of the one that has them. JSON, all of it."""

import secrets
from collections.abc import Collection, Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from freshet.errors import Refusal
from freshet.model.json_text import decode
from freshet.model.log import NOWHERE, Position, Publication
from freshet.model.run_aggregate import Aggregate, Part

State: TypeAlias = Literal["queued", "running", "waiting", "finished", "stopped", "failed"]
ENDED = frozenset({"finished", "stopped", "failed"})
TAG, FENCE = "run", "fence"
"""By these a publication is known as one of a run: clients cannot set tags."""

NULL = msgspec.Raw(b"null")

_OURS = frozenset({"id", "role", "parent", "parts"})
"""What is looked at of a message that a client gives."""

ROOT = "-"
"""As the parent of a run: it follows no message."""


class RunEvent(msgspec.Struct, omit_defaults=True):
    """One publication in a run's channel. seq: counts those of the run, from 0. state: if it is another from now on.

    input: what the run was asked. parent: the message that it answers. at: epoch seconds. reason: why it ended.
    resumable: a run that failed may go on from what it kept, see `Freshet.resume`.
    """

    run: str
    seq: int
    parts: list[Part]
    state: State | None = None
    input: msgspec.Raw = msgspec.Raw()
    user: str = ""
    parent: str = ""
    at: float | None = None
    reason: str = ""
    resumable: bool = False


class RunState(msgspec.Struct, omit_defaults=True):
    """A run as callers see it. seq: of its last event. reason: why it ended."""

    run: str
    state: State
    seq: int = -1
    reason: str = ""
    resumable: bool = False


class RunRecord(msgspec.Struct, omit_defaults=True):
    """All that is known of a run. parts, metadata: its message. began, ended: epoch seconds.

    kept: what its function gave to a checkpoint. fence: of who wrote to it last.
    """

    id: str
    state: State = "queued"
    seq: int = -1
    input: msgspec.Raw = NULL
    user: str = ""
    parent: str = ""
    parts: list[Part] = []
    metadata: dict[str, Any] = {}
    began: float = 0.0
    ended: float = 0.0
    reason: str = ""
    resumable: bool = False
    kept: msgspec.Raw = NULL
    fence: int = 0
    resumes: int = 0

    def apply(self, event: RunEvent, fence: int) -> None:
        """What a publication changes. Parts that cannot be there are passed over: they were checked where written."""
        aggregate = self.aggregate()
        for part in event.parts:
            try:
                aggregate.apply(part)
            except Refusal:
                continue
        self.parts, self.metadata = aggregate.parts, aggregate.metadata
        self.seq, self.fence = event.seq, fence
        if event.state is not None:
            self.state, self.reason, self.resumable = event.state, event.reason, event.resumable
            self.ended = event.at or 0.0

    def status(self) -> RunState:
        return RunState(self.id, self.state, self.seq, self.reason, self.resumable)

    def aggregate(self) -> Aggregate:
        return Aggregate(self.parts, self.metadata)

    def question(self) -> Part:
        """What was asked, as a message of the user.

        Whoever asked may have given a message: what it is called and holds is his to say, and not whose it is and what
        it follows.
        """
        asked = decode(bytes(self.input))
        message: Part = {"id": f"{self.id}:ask", "role": "user"}
        if isinstance(asked, dict) and isinstance(asked.get("parts"), list):
            more = {name: value for name, value in asked.items() if name not in _OURS}
            if isinstance(asked.get("id"), str) and asked["id"]:
                message["id"] = asked["id"]
            return {**message, **more, "parts": [part for part in asked["parts"] if isinstance(part, dict)]}
        text = asked.get("text") if isinstance(asked, dict) else asked
        part = {"type": "text", "text": text} if isinstance(text, str) else {"type": "data-input", "data": asked}
        return {**message, "parts": [part]}

    def answer(self) -> Part:
        """What was answered so far, as a message."""
        about: Part = {"state": self.state, **({"reason": self.reason} if self.reason else {})}
        about |= {"resumable": True} if self.resumable else {}
        metadata = {**self.metadata, "run": about}
        return {"id": self.id, "role": "assistant", "parts": self.parts, "metadata": metadata}

    def messages(self, runs: Collection[str] = ()) -> list[Part]:
        """runs: ids of answers, of which none is that of a question."""
        question = self.question()
        while question["id"] in runs:
            question["id"] += ":ask"
        parent = {"parent": self.parent} if self.parent else {}
        return [{**question, **parent}, {**self.answer(), "parent": question["id"]}]


class Summary(msgspec.Struct, omit_defaults=True):
    """What whoever comes late gets first: all messages, those that grow too, and the runs that are not over.

    Then each event's parts are to be applied to the message with the run's id.
    """

    messages: list[Part]
    runs: list[RunState]

    @property
    def answers(self) -> Iterable[Part]:
        """The messages that runs have written."""
        return (message for message in self.messages if message["role"] == "assistant")


class ChatState(msgspec.Struct):
    """What a channel's log adds up to. position: up to where. runs: those that are not among the messages yet."""

    position: Position = NOWHERE
    runs: dict[str, RunRecord] = {}

    def apply(self, publication: Publication) -> RunEvent | None:
        """Take the publication that follows; its event. None: it was applied already, or is of no run."""
        if publication.offset <= self.position.offset:
            return None
        self.position = Position(self.position.epoch, publication.offset)
        event = event_of(publication)
        if event is not None:
            fence = int((publication.tags or {}).get(FENCE, "0"))
            self.take(event, fence)
        return event

    def take(self, event: RunEvent, fence: int) -> None:
        record = self.runs.get(event.run)
        if record is None or (record.state in ENDED and event.seq == 0):
            if event.seq != 0:
                return  # of a run that is among the messages already
            asked = event.input or NULL
            record = RunRecord(event.run, "queued", -1, asked, event.user, event.parent, began=event.at or 0.0)
            self.runs[event.run] = record
        record.apply(event, fence)

    def apply_all(self, publications: Iterable[Publication]) -> None:
        for publication in publications:
            self.apply(publication)

    def summary(self, filed: list[RunRecord]) -> bytes:
        """See `Summary`. filed: runs that are among the messages."""
        records = {record.id: record for record in filed} | self.runs  # one that was resumed is where it was
        messages = [message for record in records.values() for message in record.messages(records)]
        runs = [record.status() for record in self.runs.values() if record.state not in ENDED]
        return msgspec.json.encode(Summary(messages, runs))


def branch(messages: list[Part], run: str = "") -> list[Part]:
    """Of all messages of a `Summary`, those that lead to the answer of `run`, or to the last one.

    Each answer stands behind its question, which names the answer before it as its `parent`.
    """
    answers = {message["id"]: at for at, message in enumerate(messages) if message["role"] == "assistant"}
    path: list[Part] = []
    id = run or next(reversed(answers), "")
    while id in answers:
        at = answers.pop(id)
        path[:0] = messages[at - 1 : at + 1]
        id = messages[at - 1].get("parent", "")
    return path


class ApprovalAnswer(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody said to what a run asked: whether it may. approval: the id of what it asked."""

    approval: str
    approved: bool = True
    reason: str = ""


class RunCommand(msgspec.Struct, omit_defaults=True):
    """What is asked of the node that has a channel's runs.

    start: the input of a new run, with the id `run`. stop, steer: the run `run`, or all. answer: to what one run asked;
    `run`: how who answers calls what goes on then. resume: the run `run`, which has failed.
    """

    what: Literal["start", "stop", "answer", "steer", "resume", "look"]
    run: str = ""
    user: str = ""
    parent: str = ""
    input: msgspec.Raw = NULL
    reason: str = ""
    answers: list[ApprovalAnswer] = []


class RunReply(msgspec.Struct, omit_defaults=True):
    """code, message: of a refusal; code 0: it was done. run: the run's state by then; None: there was none."""

    run: RunState | None = None
    code: int = 0
    message: str = ""
    temporary: bool = False

    def check(self) -> "RunReply":
        """Raises the `Refusal` that it is."""
        if self.code:
            raise Refusal(self.code, self.message, temporary=self.temporary)
        return self


def new_id() -> str:
    """For a run that nobody has named."""
    return f"run_{secrets.token_hex(12)}"


def event_of(publication: Publication) -> RunEvent | None:
    """What a publication in a run's channel says of a run; None: it is something else."""
    if not publication.tags or TAG not in publication.tags:
        return None
    try:
        return decode_event(publication.data)
    except msgspec.MsgspecError:
        return None


def summary_of(publication: Publication) -> Summary | None:
    """What was in a run's channel before somebody came; None: it is something else."""
    if not publication.tags or publication.tags.get(TAG) != "":
        return None
    try:
        return decode_summary(publication.data)
    except msgspec.MsgspecError:
        return None


encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(RunEvent).decode
decode_record = msgspec.json.Decoder(RunRecord).decode
decode_state = msgspec.json.Decoder(ChatState).decode
decode_summary = msgspec.json.Decoder(Summary).decode
decode_command = msgspec.json.Decoder(RunCommand).decode
decode_reply = msgspec.json.Decoder(RunReply).decode
