"""What a client publishes to have something done to runs is read as that, whoever wrote it."""

import json
from typing import Any

import pytest
from msgspec import Raw

from freshet.errors import Refusal
from freshet.model.log import ClientInfo
from freshet.model.run_commands import LONGEST, command_of, publication_of
from freshet.model.run_messages import ApprovalAnswer, RunCommand

ALICE = ClientInfo("alice", "c1")
ANSWER = ApprovalAnswer("a1", False, "no")


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"start": 5, "run": "r", "parent": "p"}, RunCommand("start", "r", "alice", "p", Raw(b"5"))),
        ({"stop": "r"}, RunCommand("stop", "r", "alice", reason="user")),
        ({"stop": "", "reason": "enough"}, RunCommand("stop", "", "alice", reason="enough")),
        ({"answer": "a1", "approved": False, "reason": "no"}, RunCommand("answer", "", "alice", answers=[ANSWER])),
        ({"answers": [ANSWER], "run": "r"}, RunCommand("answer", "r", "alice", answers=[ANSWER])),
        ({"resume": "r"}, RunCommand("resume", "r", "alice")),
        ({"steer": "left", "run": "r"}, RunCommand("steer", "r", "alice", input=Raw(b'"left"'))),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_written_is_read_as_it_was_meant(fields: dict[str, Any], command: RunCommand) -> None:
    assert command_of(publication_of(**fields), ALICE) == command


@pytest.mark.parametrize("data", [b'"hello"', b'{"text":"hello"}', b"[1]"])
def test_anything_else_is_a_message_that_begins_a_run(data: bytes) -> None:
    command = command_of(data, ALICE)
    assert (command.what, command.user, bytes(command.input)) == ("start", "alice", data)
    assert command.run


@pytest.mark.parametrize("data", [{"$other": 1}, {"$stop": 5}, {"$start": 1, "run": "r" * (LONGEST + 1)}])
def test_what_is_like_a_command_and_wrong_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as why:
        command_of(json.dumps(data).encode().replace(b" ", b""), ALICE)
    assert why.value.code == 107
