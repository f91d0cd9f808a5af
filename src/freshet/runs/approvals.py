"""What a run asks before it calls a tool, and what it is told: read off its parts, and written as parts."""

from collections.abc import Collection

from freshet.model.run_aggregate import Part
from freshet.model.run_messages import ApprovalAnswer, RunCommand, RunRecord
from freshet.runs.run import Approval

ASKED = "approval-requested"


def asks(record: RunRecord, approvals: Collection[str]) -> bool:
    """Whether one of its tools has asked, by one of these ids, answered or not."""
    return any(_id_of(part) in approvals for part in record.parts)


def decisions(record: RunRecord, it: RunCommand) -> list[Part]:
    """What is written for the answers to what it still asks; empty: it asks none of that."""
    said: list[Part] = []
    for answer in it.answers:
        tool = next((part for part in record.parts if _id_of(part) == answer.approval), None)
        if tool is not None and tool["state"] == ASKED:
            said += _decision(it, answer, tool["toolCallId"])
    return said


def still_asks(record: RunRecord, decided: Collection[Part]) -> bool:
    """Whether it asks something that these do not answer."""
    answered = {part.get("approvalId") for part in decided}
    return any(part.get("state") == ASKED and _id_of(part) not in answered for part in record.parts)


def last_answer(record: RunRecord) -> Approval | None:
    """What a run that had asked was told last."""
    for part in reversed(record.parts):
        it = part.get("approval")
        if it is not None and "approved" in it:
            return Approval(it["id"], part["toolCallId"], it["approved"], it.get("reason", ""), it.get("user", ""))
    return None


def _id_of(part: Part) -> str | None:
    """The id of what a tool's part asks; None: it asks nothing."""
    approval = part.get("approval")
    return approval["id"] if approval is not None else None


def _decision(it: RunCommand, answer: ApprovalAnswer, call: str) -> list[Part]:
    about = {"reason": answer.reason, "user": it.user, "run": it.run}
    said: Part = {"type": "tool-approval-response", "approvalId": answer.approval, "approved": answer.approved}
    said |= {name: value for name, value in about.items() if value}
    return [said] if answer.approved else [said, {"type": "tool-output-denied", "toolCallId": call}]
