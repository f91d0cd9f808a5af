"""AG-UI's own client against the door that is made for it; and that what it sends is what the protocol's types say."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from tests.tools.cases import Cases, cases
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

APP = "tests.runs.chat_app:live"


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(APP, "--workers", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def play(node: Path) -> Iterator[Cases]:
    with cases(node, "agui.mjs") as play:
        yield play


@pytest.mark.parametrize("scenario", ["answers", "structure", "fails", "stops", "resumes", "approves", "approves all"])
async def test_the_client_in_node(server: Server, play: Cases, scenario: str) -> None:
    await asyncio.to_thread(play, server.http(""), scenario, within=30)


@pytest.mark.parametrize("text", ["think", "ask", "fail", "count 3 1"])
async def test_its_events_are_those_of_the_protocol(server: Server, text: str) -> None:
    body: dict[str, Any] = {"threadId": f"typed-{text}", "runId": f"typed-{text}"}
    body["messages"] = [{"id": "1", "role": "user", "content": text}]
    async with httpx.AsyncClient() as http:
        answer = await http.post(server.http("/ag-ui/chat"), json=body, timeout=seconds(10))
    assert "\r" not in answer.text
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    adapter: TypeAdapter[Any] = TypeAdapter(Event)
    kinds = [str(adapter.validate_json(event).type.value) for event in events]
    assert kinds[0] == "RUN_STARTED"
    assert kinds[-1] == ("RUN_ERROR" if text == "fail" else "RUN_FINISHED")


async def events_of(
    http: httpx.AsyncClient, method: str, url: str, headers: dict[str, str] | None = None, **more: Any
) -> list[tuple[int, dict[str, Any]]]:
    """What a stream has to its end: ids and events."""
    answer = await http.request(method, url, timeout=seconds(10), headers=headers, **more)
    answer.raise_for_status()
    found = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in lines:
            found.append((int(lines["id"]), msgspec.json.decode(lines["data"])))
    return found


def joined(events: list[tuple[int, dict[str, Any]]], after: int = -1) -> list[Any]:
    """What they say, however deltas were cut; data only as it came last, if it may have come before `after`."""
    said: list[Any] = []
    for id, event in events:
        kind, delta = event["type"], event.get("delta", "")
        if kind in ("CUSTOM", "RUN_STARTED") or (kind == "RUN_FINISHED" and event["outcome"]["type"] == "interrupt"):
            continue
        rest = delta[max(0, len(delta) - (id - after)) :]
        if id <= after:
            continue
        if delta and said and said[-1][0] == kind:
            said[-1] = (kind, said[-1][1] + rest)
        else:
            said.append((kind, rest or {name: value for name, value in event.items() if name != "runId"}))
    return said


@pytest.mark.parametrize("text", ["work", "think", "count 30 1"])
async def test_a_stream_goes_on_behind_any_of_its_ids_wherever_it_was_cut(server: Server, text: str) -> None:
    thread = f"cut-{text[:5]}"
    body = {"threadId": thread, "runId": "r", "messages": [{"id": "1", "role": "user", "content": text}]}
    async with httpx.AsyncClient() as http:
        live = await events_of(http, "POST", server.http("/ag-ui/chat"), json=body)
        url = server.http(f"/ag-ui/chat/{thread}/runs/r/events")
        for after in range(-1, live[-1][0] + 1):
            rest = await events_of(http, "GET", url, {"Last-Event-ID": str(after)})
            assert joined(rest) == joined(live, after), after
        assert joined(await events_of(http, "GET", f"{url}?after=7")) == joined(live, 7)


async def test_the_part_of_a_run_that_comes_behind_an_answer_is_resumed_under_the_id_that_its_client_gave(
    server: Server,
) -> None:
    body = {"threadId": "parts", "runId": "r1", "messages": [{"id": "1", "role": "user", "content": "ask"}]}
    async with httpx.AsyncClient() as http:
        asked = await events_of(http, "POST", server.http("/ag-ui/chat"), json=body)
        interrupts = asked[-1][1]["outcome"]["interrupts"]
        resume = [{"interruptId": it["id"], "status": "resolved"} for it in interrupts]
        body |= {"runId": "r2", "resume": resume}
        live = await events_of(http, "POST", server.http("/ag-ui/chat"), json=body)
        assert live[0][1] == {"type": "RUN_STARTED", "threadId": "parts", "runId": "r2"}
        assert next(kind for kind, _ in joined(live)) == "TOOL_CALL_RESULT"
        again = await events_of(http, "POST", server.http("/ag-ui/chat"), json=body)  # its answer was lost
        assert joined(again) == joined(live)
        for run in ("r1", "r2"):
            url = server.http(f"/ag-ui/chat/parts/runs/{run}/events")
            whole = await events_of(http, "GET", url)
            assert joined(whole) == joined([*asked, *live])
            for after, _ in [*asked, *live]:
                rest = await events_of(http, "GET", url, {"Last-Event-ID": str(after)})
                assert joined(rest) == joined(whole, after), after


@pytest.mark.parametrize("body", [b"[]", b"{}", b"no", b'{"threadId": "t", "resume": [1]}'])
async def test_a_body_that_is_none_is_refused(server: Server, body: bytes) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(server.http("/ag-ui/chat"), content=body)
    assert answer.status_code == 400
