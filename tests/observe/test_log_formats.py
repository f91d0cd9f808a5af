"""Log lines as JSON: what they have, of which client and which trace; nothing that is secret."""

import json
import logging
import sys
from typing import Any

import pytest
from websockets.asyncio.client import connect

from freshet.observe.logs import TRACE, JsonFormatter, formatter
from freshet.rules.rules import ChannelRule
from tests.tools.patience import eventually
from tests.tools.serving import Server, serving
from tests.tools.sessions import came, running

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def line(message: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    record = logging.LogRecord("freshet.test", logging.WARNING, "", 0, message, arguments, more.get("exc_info"))
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_is_an_object_with_time_level_logger_and_message() -> None:
    found = line("%d of %s", 3, "é\n")
    assert found.pop("time").endswith("Z")
    assert found == {"level": "warning", "logger": "freshet.test", "message": "3 of é\n"}
    assert line("%(a)s", {"a": 1})["message"] == "1"


async def test_a_line_about_a_client_says_which() -> None:
    async with running(ChannelRule("*")) as dispatcher:
        session = await came(dispatcher, "alice")
        found = line("%r sends too much", session)
        assert (found["client"], found["user"]) == (session.id, "alice")
        nobody = line("%r sends too much", await came(dispatcher, ""))
        assert "user" not in nobody


def test_a_line_of_what_is_traced_says_in_which_trace() -> None:
    token = TRACE.set(PARENT)
    try:
        found = line("x")
    finally:
        TRACE.reset(token)
    assert (found["trace_id"], found["span_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert "trace_id" not in line("x")


def test_a_traceback_is_within_the_object() -> None:
    try:
        raise ValueError("of a hook")
    except ValueError:
        found = line("failed", exc_info=sys.exc_info())
    assert "ValueError: of a hook" in found["exception"]


def test_on_a_console_a_line_is_for_people() -> None:
    record = logging.LogRecord("freshet.test", logging.INFO, "", 0, "it %s", ("runs",), None)
    assert formatter("console").format(record).endswith("INFO    freshet.test: it runs")
    assert isinstance(formatter("json"), JsonFormatter)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
async def test_a_server_that_is_asked_for_json_writes_nothing_else(workers: tuple[str, ...]) -> None:
    with serving("--dev", "--log-format", "json", *workers) as server:
        async with connect(server.ws("/connection/websocket?token=a-secret-of-theirs")) as client:
            await client.send("what is no command")
            await eventually(lambda: "was disconnected" in server.log(), 10, "a line about that")
        for found in _lines(server):
            assert {"time", "level", "logger", "message"} <= set(found)
        assert "a-secret-of-theirs" not in server.log()
        (about,) = [found for found in _lines(server) if "client" in found]
        assert "was disconnected" in about["message"]


def _lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(text) for text in server.log().splitlines() if text.startswith("{")]
