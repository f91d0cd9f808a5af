"""What parts add up to, whatever order and size they come in, and that a replay adds up to the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from freshet.model.run_aggregate import Aggregate, coalesced, merged

Part = dict[str, Any]


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def parts_of(kind: str, number: int, text: str, size: int) -> list[Part]:
    id = f"{kind}{number}"
    match kind:
        case "text" | "reasoning":
            deltas: list[Part] = [{"type": f"{kind}-delta", "id": id, "delta": piece} for piece in pieces(text, size)]
            return [{"type": f"{kind}-start", "id": id}, *deltas, {"type": f"{kind}-end", "id": id}]
        case "tool":
            call = {"toolCallId": id}
            deltas = [{"type": "tool-input-delta", **call, "inputTextDelta": piece} for piece in pieces(text, size)]
            available = {"type": "tool-input-available", **call, "toolName": "t", "input": text}
            output = {"type": "tool-output-available", **call, "output": text}
            return [{"type": "tool-input-start", **call, "toolName": "t"}, *deltas, available, output]
        case "data":
            return [{"type": "data-x", "id": id, "data": piece} for piece in pieces(text, size)]
        case _:
            return [{"type": "source-url", "sourceId": id, "url": text}]


KINDS = st.sampled_from(["text", "reasoning", "tool", "data", "source"])
PIECES = st.lists(st.tuples(KINDS, st.text(min_size=1, max_size=30), st.integers(1, 5)), max_size=6)


def summed(parts: list[Part]) -> Aggregate:
    aggregate = Aggregate()
    for part in parts:
        aggregate.apply(part)
    return aggregate


@given(PIECES, st.integers(0, 60))
def test_a_replay_and_what_was_coalesced_add_up_to_the_same(given: list[Any], cut: int) -> None:
    parts = [part for number, (kind, text, size) in enumerate(given) for part in parts_of(kind, number, text, size)][
        :cut
    ]
    whole = summed(parts)
    assert summed(coalesced(parts)).parts == whole.parts
    assert summed(whole.replay()).parts == whole.parts


@given(PIECES, st.integers(0, 60))
def test_what_is_open_can_be_closed_wherever_it_is_cut(given: list[Any], cut: int) -> None:
    parts = [part for number, (kind, text, size) in enumerate(given) for part in parts_of(kind, number, text, size)][
        :cut
    ]
    aggregate = summed(parts)
    for part in aggregate.closing("stopped"):
        aggregate.apply(part)
    assert not aggregate.closing("stopped")
    assert not [part for part in aggregate.parts if part.get("state") in ("streaming", "input-streaming")]


def test_an_approval_and_its_answer_are_part_of_the_tool() -> None:
    call = {"toolCallId": "c"}
    parts: list[Part] = [
        {"type": "tool-input-available", **call, "toolName": "t", "input": 1},
        {"type": "tool-approval-request", **call, "approvalId": "a"},
        {"type": "tool-approval-response", "approvalId": "a", "approved": False, "reason": "no"},
        {"type": "tool-output-denied", **call},
    ]
    aggregate = summed(parts)
    assert aggregate.tool("c")["approval"] == {"id": "a", "approved": False, "reason": "no"}
    assert aggregate.tool("c")["state"] == "output-denied"
    assert summed(aggregate.replay()).parts == aggregate.parts


def test_a_step_that_is_reset_is_gone_and_what_is_transient_was_never_there() -> None:
    aggregate = summed(
        [
            {"type": "start-step"},
            *parts_of("text", 1, "kept", 2),
            {"type": "start-step"},
            *parts_of("text", 2, "dropped", 2),
            {"type": "data-x", "data": 1, "transient": True},
            {"type": "reset-step"},
        ]
    )
    assert aggregate.text == "kept"
    assert [part["type"] for part in aggregate.parts] == ["step-start", "text", "step-start"]


def test_metadata_is_merged() -> None:
    assert merged({"a": {"b": 1}, "c": 1}, {"a": {"d": 2}, "c": 2}) == {"a": {"b": 1, "d": 2}, "c": 2}
