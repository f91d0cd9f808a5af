"""Routes that go out over HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
import uvicorn
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from freshet import Freshet
from freshet.config import Config, GatewayOptions, Webhooks
from freshet.testing.gateway import GatewayClient, HandshakeRefused
from tests.tools.patience import eventually
from tests.tools.ports import HOST, free_port

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


class BackEnd:
    """Keeps what it was asked, and answers as the path says."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, str], bytes]] = []
        self.url = ""

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((dict(request.headers), dict(request.query_params), body))
        name = request.path_params["name"]
        if name == "refuse":
            return Response("no", HTTPStatus.FORBIDDEN)
        if name == "fail":
            return Response("a stack trace", HTTPStatus.INTERNAL_SERVER_ERROR)
        if name == "redirect":
            return Response(None, HTTPStatus.FOUND, {"location": f"{self.url}/echo"})
        return Response(body, headers={"Sec-WebSocket-Protocol": "chat"})


@pytest.fixture
async def back_end() -> AsyncIterator[BackEnd]:
    back_end, port = BackEnd(), free_port()
    app = Starlette(routes=[Route("/{name}", back_end.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="warning", lifespan="off"))
    running = asyncio.ensure_future(server.serve())
    await eventually(lambda: server.started)
    back_end.url = f"http://{HOST}:{port}"
    yield back_end
    server.should_exit = True
    await running


def application(back_end: BackEnd, *routes: dict[str, Any], **options: Any) -> Freshet:
    live = Freshet(dev=True)
    given = [{**route, "url": f"{back_end.url}/{route['url']}"} for route in routes]
    live.gateway(stage="dev", routes=given, **options)
    return live


async def test_a_back_end_gets_aws_s_proxy_event_and_its_body_goes_to_the_client(back_end: BackEnd) -> None:
    live = application(back_end, {"key": "echo", "url": "echo", "response": True})
    async with GatewayClient(live) as client:
        await client.send({"action": "echo"})
        event = await client.receive_json()
    assert event["requestContext"]["connectionId"] == client.id
    assert event["body"] == '{"action":"echo"}'


async def test_a_back_end_that_gets_a_route_while_the_server_runs_is_asked_at_once(back_end: BackEnd) -> None:
    live = application(back_end, {"key": "early", "url": "echo", "response": True})
    async with GatewayClient(live) as client:
        live.gateway(stage="dev", routes=[{"key": "late", "url": f"{back_end.url}/echo", "response": True}])
        await client.send({"action": "late"})
        assert (await client.receive_json())["requestContext"]["routeKey"] == "late"


async def test_http_proxy_sends_the_message_alone_and_what_its_parameters_say(back_end: BackEnd) -> None:
    parameters = {
        "integration.request.header.connectionId": "context.connectionId",
        "integration.request.header.who": "route.request.body.user.name",
        "integration.request.header.fixed": "'text'",
        "integration.request.querystring.table": "stageVariables.table",
        "integration.request.header.missing": "route.request.body.no.such",
    }
    route = {"key": "echo", "url": "echo", "response": True, "payload": "body", "parameters": parameters}
    live = application(back_end, route, variables={"table": "t 1"})
    async with GatewayClient(live) as client:
        await client.send({"action": "echo", "user": {"name": "alice\r\nx-evil: 1"}})
        assert (await client.receive_json())["user"]["name"] == "alice\r\nx-evil: 1"
    headers, query, _ = back_end.requests[0]
    assert headers["connectionid"] == client.id
    assert headers["who"] == "alice??x-evil: 1"  # no header of its own
    assert "x-evil" not in headers
    assert (headers["fixed"], headers["missing"], query) == ("text", "", {"table": "t 1"})


async def test_a_message_that_no_parameter_can_be_taken_from_goes_on_without_it(
    back_end: BackEnd, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = {"integration.request.header.who": "route.request.body.user"}
    route = {"key": "$default", "url": "echo", "response": True, "payload": "body", "parameters": parameters}
    live = application(back_end, route)
    async with GatewayClient(live) as client:
        for message in ("no JSON", "[" * 5000 + "]" * 5000, '{"user":1e400}'):
            await client.send(message)
            assert await client.receive() == message
    assert [headers["who"] for headers, _, _ in back_end.requests] == ["", "", ""]
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


async def test_a_signed_request_is_verified_by_the_library_of_the_standard(back_end: BackEnd) -> None:
    route = {"key": "echo", "url": f"{back_end.url}/echo", "response": True}
    config = Config(
        webhooks=Webhooks(secret=SECRET),
        gateway=GatewayOptions(stage="dev"),
    )
    live = Freshet(dev=True, config=config)
    live.gateway(stage="dev", routes=[route])
    async with GatewayClient(live) as client:
        await client.send({"action": "echo"})
        await client.receive()
    headers, _, body = back_end.requests[0]
    assert Webhook(SECRET).verify(body, headers)["body"] == '{"action":"echo"}'


async def test_a_back_end_says_who_gets_in(back_end: BackEnd) -> None:
    live = application(back_end, {"key": "$connect", "url": "accept"}, {"key": "$disconnect", "url": "left"})
    async with GatewayClient(live, subprotocols=["chat"]) as client:
        assert client.subprotocol == "chat"
    kinds = [json.loads(body)["requestContext"]["eventType"] for _, _, body in back_end.requests]
    assert kinds == ["CONNECT", "DISCONNECT"]
    live = application(back_end, {"key": "$connect", "url": "refuse"})
    with pytest.raises(HandshakeRefused, match="403"):
        await GatewayClient(live).__aenter__()


async def test_a_redirect_is_followed_nowhere(back_end: BackEnd) -> None:
    live = application(back_end, {"key": "go", "url": "redirect"}, {"key": "$default", "url": "echo", "response": True})
    async with GatewayClient(live) as client:
        await client.send({"action": "go"})
        await client.send("next")
        await client.receive()
    assert len(back_end.requests) == 2


async def test_a_back_end_that_is_not_there_answers_as_one_that_fails() -> None:
    live = Freshet(dev=True)
    live.gateway(stage="dev", routes=[{"key": "$default", "url": f"http://{HOST}:{free_port()}/"}])
    async with GatewayClient(live) as client:
        await client.send("x")
        assert (await client.receive_json())["message"] == "Internal server error"


async def test_a_mock_asks_nobody() -> None:
    live = Freshet(dev=True)
    routes = [{"key": "ping", "mock": "pong", "response": True}, {"key": "$connect", "mock": "", "status": 200}]
    live.gateway(stage="dev", routes=routes)
    async with GatewayClient(live) as client:
        await client.send({"action": "ping"})
        assert await client.receive() == "pong"
