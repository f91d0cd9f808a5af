"""Existing Lambda handlers, in threads and in processes of their own."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from freshet import Freshet
from freshet.errors import ConfigError
from freshet.testing.gateway import GatewayClient, HandshakeRefused, boto3_calls
from tests.tools.patience import seconds

HERE = Path(__file__).parent
CODE = str(HERE / "functions")
WITHIN = seconds(20)  # a process begins with Python itself


@pytest.fixture(params=["thread", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def route(name: str, isolation: str, **options: Any) -> dict[str, Any]:
    given = {"key": name, "function": f"app.{name}", "code": CODE, "isolation": isolation, "response": True}
    return {**given, **options}


@pytest.fixture
async def client(isolation: str) -> AsyncIterator[GatewayClient]:
    names = ("echo", "about", "fail", "nothing", "coroutine", "encoded", "garbage", "large")
    live = Freshet(dev=True)
    live.gateway(
        stage="dev",
        routes=[
            *(route(name, isolation) for name in names),
            route("crash", "process"),
            route("slow", "process", timeout=0.5),
            route("silent", isolation, function="app.echo", response=False),
        ],
    )
    async with GatewayClient(live) as client:
        yield client


async def test_a_handler_gets_the_event_and_its_body_goes_to_the_client(client: GatewayClient) -> None:
    await client.send('{"action":"echo"}')
    assert await client.receive_json(within=WITHIN) == {"event": "MESSAGE", "body": '{"action":"echo"}'}


async def test_without_a_route_response_the_client_gets_nothing(client: GatewayClient) -> None:
    await client.send({"action": "silent"})
    await client.send({"action": "echo"})
    assert (await client.receive_json(within=WITHIN))["body"] == '{"action":"echo"}'
    await client.expect_nothing()


async def test_a_handler_has_a_context_as_lambda_gives_it(client: GatewayClient, isolation: str) -> None:
    await client.send({"action": "about"})
    first = await client.receive_json(within=WITHIN)
    assert first["name"] == "app.about"
    assert 0 < first["left"] <= 29_000
    assert (first["pid"] == os.getpid()) is (isolation == "thread")
    await client.send({"action": "about"})
    second = await client.receive_json(within=WITHIN)
    assert second["pid"] == first["pid"]  # a process stays
    assert second["id"] != first["id"]


@pytest.mark.parametrize("name", ["fail", "garbage"])
async def test_a_handler_that_fails_answers_as_aws_does(client: GatewayClient, name: str) -> None:
    for _ in range(2):
        await client.send({"action": name})
        answer = await client.receive_json(within=WITHIN)
        assert (answer["message"], answer["connectionId"]) == ("Internal server error", client.id)


async def test_a_handler_that_ends_its_process_or_takes_too_long_harms_nobody(client: GatewayClient) -> None:
    for name in ("crash", "slow", "crash"):
        await client.send({"action": name})
        assert (await client.receive_json(within=WITHIN))["message"] == "Internal server error"
    await client.send({"action": "echo"})
    assert (await client.receive_json(within=WITHIN))["event"] == "MESSAGE"


async def test_what_a_handler_may_return(client: GatewayClient) -> None:
    await client.send({"action": "nothing"})
    await client.send({"action": "coroutine"})
    assert await client.receive(within=WITHIN) == "from a coroutine"
    await client.send({"action": "encoded"})
    assert await client.receive(within=WITHIN) == b"\x00\xff"
    await client.send({"action": "large"})
    assert len(await client.receive(within=WITHIN)) == 2_000_000


async def test_a_connect_handler_lets_in_or_not_and_chooses_the_subprotocol(isolation: str) -> None:
    live = Freshet(dev=True)
    live.gateway(stage="dev", routes=[route("$connect", isolation, function="app.connect")])
    async with GatewayClient(live, subprotocols=["graphql", "chat"]) as client:
        assert client.subprotocol == "chat"
    async with GatewayClient(live, subprotocols=["graphql"]) as client:
        assert client.subprotocol is None  # it was not offered
    with pytest.raises(HandshakeRefused) as refused:
        await GatewayClient(live, query="who=nobody").__aenter__()
    assert refused.value.status == 401


@pytest.mark.parametrize("name", ["nothing", "fail"])
async def test_a_connect_handler_without_a_status_lets_nobody_in(isolation: str, name: str) -> None:
    live = Freshet(dev=True)
    live.gateway(stage="dev", routes=[route("$connect", isolation, function=f"app.{name}")])
    with pytest.raises(HandshakeRefused, match="500"):
        await GatewayClient(live).__aenter__()


async def test_a_process_has_the_environment_that_its_route_says() -> None:
    live = Freshet(dev=True)
    live.gateway(stage="dev", routes=[route("about", "process", environment={"TABLE": "connections"})])
    async with GatewayClient(live) as client:
        await client.send({"action": "about"})
        assert (await client.receive_json(within=WITHIN))["table"] == "connections"


async def test_a_handler_that_comes_while_the_server_runs_answers_at_once(isolation: str) -> None:
    live = Freshet(dev=True)
    gateway = live.gateway(stage="dev")
    gateway.handler("early", lambda event, context: {"statusCode": 200, "body": "early"}, response=True)
    async with GatewayClient(live) as client:
        gateway.handler("late", lambda event, context: {"statusCode": 200, "body": "late"}, response=True)
        live.gateway(stage="dev", routes=[route("echo", isolation)])
        for key in ("early", "late"):
            await client.send({"action": key})
            assert await client.receive(within=WITHIN) == key
        await client.send('{"action":"echo"}')
        assert (await client.receive_json(within=WITHIN))["body"] == '{"action":"echo"}'


async def test_a_handler_calls_back_by_boto3_without_a_network_in_a_test() -> None:
    live = Freshet(dev=True)
    live.gateway(stage="dev", routes=[route("post_back", "thread", response=False)])
    with boto3_calls(live):
        async with GatewayClient(live) as client:
            await client.send({"action": "post_back"})
            assert await client.receive(within=WITHIN) == "posted by the handler"


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("unauthorized", 401), ("deny", 403), ("rest", 403), ("broken", 500)]
)
async def test_an_authorizer_refuses_as_at_aws(isolation: str, token: str, status: int) -> None:
    live = authorized(isolation)
    with pytest.raises(HandshakeRefused) as refused:
        await GatewayClient(live, headers={"auth": token} if token else {}).__aenter__()
    assert refused.value.status == status


async def test_an_authorizer_lets_in_and_says_who_it_is(isolation: str) -> None:
    live = authorized(isolation)

    @live.gateway().route("who")
    def who(connection: Any, data: Any) -> Any:
        return [connection.user, connection.authorizer["plan"]]

    async with GatewayClient(live, headers={"auth": "allow"}) as client:
        await client.send({"action": "who"})
        assert await client.receive_json() == ["alice", "gold"]


def authorized(isolation: str) -> Freshet:
    live = Freshet(secret="s" * 64)
    function = {"function": "app.authorize", "code": CODE, "isolation": isolation}
    live.gateway(stage="dev", authorizer={**function, "identity": ["route.request.header.Auth"]})
    return live


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": "app.missing", "isolation": "thread"}, "missing"),
        ({"function": "absent.handler", "isolation": "thread"}, "absent"),
        ({"function": "app.echo", "code": "/no/such/folder"}, "/no/such/folder"),
        ({"function": "app.echo", "mock": ""}, "expected one of"),
        ({"function": ""}, "expected one of"),
        ({"function": "", "url": "ftp://host"}, "https"),
        ({"function": "app.echo", "key": "$other"}, "own keys"),
    ],
)
def test_a_route_that_cannot_work_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Freshet(dev=True).gateway(stage="dev", routes=[{**route("x", "process"), **options}])
