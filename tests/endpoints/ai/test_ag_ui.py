"""AG-UI's own client against the door that is made for it; and that what it sends is what the protocol's types say."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ag_ui.core import Event
from pydantic import TypeAdapter

from tests.tools.need import require
from tests.tools.patience import seconds
from tests.tools.serving import Server, serving

APP = "tests.runs.chat_app:live"


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(APP, "--workers", request.param) as server:
        yield server


@pytest.mark.parametrize("scenario", ["answers", "structure", "fails", "stops", "resumes", "approves"])
async def test_the_client_in_node(server: Server, node: Path, scenario: str) -> None:
    arguments = [require("node"), "agui.mjs", server.http(""), scenario]
    done = await asyncio.to_thread(
        subprocess.run, arguments, cwd=node, capture_output=True, text=True, timeout=seconds(30), check=False
    )
    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("body", [b"[]", b"{}", b"no", b'{"threadId": "t", "resume": [1]}'])
async def test_a_body_that_is_none_is_refused(server: Server, body: bytes) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(server.http("/ag-ui/chat"), content=body)
    assert answer.status_code == 400
