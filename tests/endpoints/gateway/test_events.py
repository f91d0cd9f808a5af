"""Events as AWS sends them: by the models of AWS's own library, and field by field as they were recorded there."""

import re
from typing import Any

import msgspec
import pytest
from aws_lambda_powertools.utilities.data_classes.api_gateway_authorizer_event import APIGatewayAuthorizerRequestEvent
from aws_lambda_powertools.utilities.parser.models import (
    APIGatewayWebSocketConnectEventModel,
    APIGatewayWebSocketDisconnectEventModel,
    APIGatewayWebSocketMessageEventModel,
)

from freshet import Connection, Freshet
from freshet.config import Config, GatewayOptions, Tokens
from freshet.endpoints.gateway.events import opened
from freshet.testing import ManualClock
from freshet.testing.gateway import GatewayClient
from tests.tools.asgi import knock

ID = re.compile(r"[A-Za-z0-9_-]{15}=")
CONTEXT = {
    "routeKey",
    "eventType",
    "extendedRequestId",
    "requestTime",
    "messageDirection",
    "stage",
    "connectedAt",
    "requestTimeEpoch",
    "identity",
    "requestId",
    "domainName",
    "connectionId",
    "apiId",
}
ALLOW = {
    "principalId": "alice",
    "policyDocument": {
        "Version": "2012-10-17",
        "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "*"}],
    },
    "context": {"number": 1, "flag": True, "text": "t", "ratio": 0.5},
}

Seen = dict[str, dict[str, Any]]


def recording(clock: ManualClock | None = None, **options: Any) -> tuple[Freshet, Seen]:
    """An application that keeps the events of its routes."""
    live, seen = Freshet(dev=True, clock=clock or ManualClock()), Seen()
    gateway = live.gateway(stage="dev", **options)

    @gateway.route("$connect")
    def connect(connection: Any, event: Any) -> None:
        seen["connect"] = event

    @gateway.route("sendMessage")
    def message(connection: Any, data: Any, event: Any) -> None:
        seen["message"] = event

    @gateway.route("$default")
    def default(connection: Any, data: Any, event: Any) -> None:
        seen["default"] = event

    @gateway.route("$disconnect")
    def disconnect(connection: Any, event: Any) -> None:
        seen["disconnect"] = event

    return live, seen


async def test_events_pass_the_models_of_powertools() -> None:
    live, seen = recording()
    async with GatewayClient(live, query="room=7", headers={"origin": "http://testserver"}) as client:
        await client.send({"action": "sendMessage", "text": "hi"})
    APIGatewayWebSocketConnectEventModel.model_validate(seen["connect"])
    message = APIGatewayWebSocketMessageEventModel.model_validate(seen["message"])
    APIGatewayWebSocketDisconnectEventModel.model_validate(seen["disconnect"])
    assert message.body == '{"action":"sendMessage","text":"hi"}'
    assert message.request_context.connection_id == client.id


async def test_a_connect_event_has_what_was_recorded_and_nothing_else() -> None:
    live, seen = recording()
    async with GatewayClient(live, query="a=1&a=2&b=", headers={"auth": "t1", "connection": "Upgrade"}):
        pass
    event = seen["connect"]
    assert set(event) == {
        "headers",
        "multiValueHeaders",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "requestContext",
        "isBase64Encoded",
    }
    assert set(event["requestContext"]) == CONTEXT
    assert event["headers"]["Auth"] == "t1"
    assert "Connection" not in event["headers"]
    assert event["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert event["queryStringParameters"] == {"a": "2", "b": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": [""]}
    assert event["requestContext"]["identity"] == {"userAgent": "testclient", "sourceIp": "127.0.0.1"}
    assert event["requestContext"]["requestTime"] == "15/Jan/2027:08:00:00 +0000"
    assert event["isBase64Encoded"] is False


async def test_a_connect_event_without_a_query_has_no_word_of_it() -> None:
    live, seen = recording()
    async with GatewayClient(live):
        pass
    assert set(seen["connect"]) == {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}


async def test_a_message_event_has_no_headers_and_an_id_of_its_own() -> None:
    live, seen = recording()
    async with GatewayClient(live) as client:
        await client.send({"action": "sendMessage"})
        first = seen["message"]
        await client.send({"action": "sendMessage"})
    assert set(first) == {"requestContext", "body", "isBase64Encoded"}
    assert set(first["requestContext"]) == CONTEXT | {"messageId"}
    ids = [event["requestContext"][name] for event in (first, seen["message"]) for name in ("messageId", "requestId")]
    assert len(set(ids)) == 4
    assert all(ID.fullmatch(id) for id in [*ids, client.id])
    assert first["requestContext"]["extendedRequestId"] == first["requestContext"]["requestId"]


async def test_a_message_that_finds_no_route_has_the_key_of_the_one_that_took_it() -> None:
    live, seen = recording()
    async with GatewayClient(live) as client:
        await client.send({"action": "unknown"})
        assert seen["default"]["requestContext"]["routeKey"] == "$default"
        await client.send("no JSON")
        assert seen["default"]["body"] == "no JSON"
        await client.send(b"\x00\xff")
        assert (seen["default"]["body"], seen["default"]["isBase64Encoded"]) == ("AP8=", True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "Connection Closed Normally"),
        (1001, "Going away"),
        (1005, "Client-side close frame status not set"),
        (1006, "Connection closed abnormally"),
    ],
)
async def test_a_disconnect_event_says_how_the_client_left(code: int, reason: str) -> None:
    live, seen = recording()
    async with GatewayClient(live) as client:
        await client.disconnect(code)
    event = seen["disconnect"]
    assert set(event) == {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}
    assert event["headers"] == {"Host": "testserver", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    assert set(event["requestContext"]) == CONTEXT | {"disconnectStatusCode", "disconnectReason"}
    assert event["requestContext"]["disconnectStatusCode"] == code
    assert event["requestContext"]["disconnectReason"] == reason


async def test_all_events_of_a_connection_agree_on_what_stays_the_same() -> None:
    clock = ManualClock()
    live, seen = recording(clock)
    async with GatewayClient(live) as client:
        await clock.advance(5)
        await client.send({"action": "sendMessage"})
    contexts = [seen[name]["requestContext"] for name in ("connect", "message", "disconnect")]
    for name in ("connectedAt", "connectionId", "stage", "domainName", "apiId"):
        assert len({context[name] for context in contexts}) == 1, name
    assert contexts[1]["requestTimeEpoch"] == contexts[0]["requestTimeEpoch"] + 5000
    assert {context["messageDirection"] for context in contexts} == {"IN"}


@pytest.mark.parametrize(
    ("config", "asked", "told"),
    [
        (Config(), "evil.example", "test:80"),
        (Config(hosts=["*"]), "evil.example", "test:80"),
        (Config(hosts=["api.example", "*.api.example"]), "eu.api.example:8443", "eu.api.example:8443"),
        (Config(gateway=GatewayOptions(domain="ws.example")), "evil.example", "ws.example"),
        (Config(hosts=["*"], gateway=GatewayOptions(domain="ws.example")), "evil.example", "ws.example"),
    ],
)
async def test_no_client_says_where_back_ends_send_what_is_for_others(config: Config, asked: str, told: str) -> None:
    """Functions that were written for AWS call `@connections` at `domainName`, which no client chooses there."""
    live = Freshet(config=msgspec.structs.replace(config, tokens=Tokens(anonymous=True)), environment={})
    events: list[Any] = []

    @live.gateway(stage="dev").route("$connect")
    async def connect(connection: Connection, event: Any) -> None:
        events.append(event)

    async with live.lifespan():
        assert (await knock(live, "WEBSOCKET", "/dev", {"host": asked})).status == 101
    assert [event["requestContext"]["domainName"] for event in events] == [told]
    assert events[0]["headers"]["Host"] == asked


@pytest.mark.parametrize(
    ("said", "told"),
    [(None, "192.0.2.1"), ("10.0.0.1", "10.0.0.1, 192.0.2.1"), ("10.0.0.1, 192.0.2.1", "10.0.0.1, 192.0.2.1")],
)
def test_the_last_of_those_that_a_request_was_forwarded_for_is_who_came(said: str | None, told: str) -> None:
    headers = [(b"x-forwarded-for", said.encode())] if said is not None else []
    assert dict(opened(headers, b"", "192.0.2.1", False, 80).headers)["X-Forwarded-For"] == told


@pytest.mark.parametrize(
    ("server", "told"),
    [
        (("10.0.0.1", 8000), "10.0.0.1:8000"),
        (("::1", 8000), "[::1]:8000"),
        (("/run/a", None), "localhost"),
        (None, "localhost"),
    ],
)
def test_a_server_without_a_name_is_called_by_its_address(server: Any, told: str) -> None:
    assert Freshet(environment={}).gateway(stage="dev").domain("evil.example", server) == told


async def test_stage_variables_are_in_each_event_if_there_are_any() -> None:
    live, seen = recording(variables={"table": "connections"})
    async with GatewayClient(live) as client:
        await client.send({"action": "sendMessage"})
    assert [seen[name]["stageVariables"] for name in ("connect", "message", "disconnect")] == [
        {"table": "connections"}
    ] * 3


async def test_an_authorizer_sees_the_request_and_later_events_what_it_said_as_text() -> None:
    live, seen = recording()

    @live.gateway().authorizer
    def authorize(event: Any) -> Any:
        seen["authorizer"] = event
        return ALLOW

    async with GatewayClient(live, headers={"auth": "t1", "connection": "upgrade", "upgrade": "websocket"}) as client:
        await client.send({"action": "sendMessage"})
    event = seen["authorizer"]
    assert event["type"] == "REQUEST"
    assert event["methodArn"] == "arn:aws:execute-api:local:000000000000:local/dev/$connect"
    assert (event["queryStringParameters"], event["multiValueQueryStringParameters"]) == ({}, {})
    assert event["stageVariables"] == {}
    assert event["headers"]["Connection"] == "upgrade"
    assert event["headers"]["content-length"] == "0"
    read = APIGatewayAuthorizerRequestEvent(event)
    assert read.parsed_arn.http_method == "$connect"
    for name in ("connect", "message", "disconnect"):
        authorized = dict(seen[name]["requestContext"]["authorizer"])
        assert isinstance(authorized.pop("integrationLatency"), int)
        assert authorized == {"principalId": "alice", "number": "1", "flag": "true", "text": "t", "ratio": "0.5"}
    assert "authorizer" not in event["requestContext"]
