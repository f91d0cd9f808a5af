"""What a client asks of a channel's runs by what it publishes there, both ways."""

from typing import Any

import msgspec

from freshet.errors import Refusal
from freshet.model.log import ClientInfo
from freshet.model.run_messages import NULL, ApprovalAnswer, RunCommand, new_id

LONGEST = 128  # characters of a run's id


class _ClientCommand(msgspec.Struct, forbid_unknown_fields=True):
    """What a client publishes in place of a message: one of these, in an object of its own."""

    start: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="$start")
    stop: str | None = msgspec.field(default=None, name="$stop")
    answer: str | None = msgspec.field(default=None, name="$answer")
    answers: list[ApprovalAnswer] | None = msgspec.field(default=None, name="$answers")
    steer: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="$steer")
    resume: str | None = msgspec.field(default=None, name="$resume")
    run: str = ""
    parent: str = ""
    approved: bool = True
    reason: str = ""


_WIRE_NAMES = dict(zip(_ClientCommand.__struct_fields__, _ClientCommand.__struct_encode_fields__, strict=True))


def command_of(data: bytes, info: ClientInfo) -> RunCommand:
    """What a client's publication asks: a message, or an object with `$start`, `$stop`, `$answer` and so on.

    Raises `Refusal` 107 for what is like the latter, and wrong.
    """
    if not data.lstrip().startswith(b'{"$'):
        return RunCommand("start", new_id(), info.user, input=msgspec.Raw(data))
    try:
        it = msgspec.json.decode(data, type=_ClientCommand)
    except msgspec.MsgspecError as why:
        raise Refusal.bad_request(f"a command of runs: {why}") from None
    if len(it.run) > LONGEST or len(it.parent) > LONGEST:
        raise Refusal.bad_request(f"a run's id has at most {LONGEST} characters")
    if it.stop is not None:
        return RunCommand("stop", it.stop, info.user, reason=it.reason or "user")
    if it.answer is not None:
        return RunCommand("answer", it.run, info.user, answers=[ApprovalAnswer(it.answer, it.approved, it.reason)])
    if it.answers is not None:
        return RunCommand("answer", it.run, info.user, answers=it.answers)
    if it.resume is not None:
        return RunCommand("resume", it.resume, info.user)
    if it.steer:
        return RunCommand("steer", it.run, info.user, input=it.steer)
    return RunCommand("start", it.run or new_id(), info.user, it.parent, it.start or NULL)


def publication_of(**fields: Any) -> bytes:
    """What a client publishes that asks so: the fields of `_ClientCommand`, by its names."""
    return msgspec.json.encode({_WIRE_NAMES[name]: value for name, value in fields.items()})
