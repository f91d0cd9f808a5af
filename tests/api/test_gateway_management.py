"""`@connections` by AWS's own clients, unmodified: boto3 and the one for JavaScript, on one node and on two."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError
from websockets.sync.client import ClientConnection, connect

from freshet import Freshet
from freshet.testing.gateway import GatewayClient, manage
from tests.tools.patience import seconds, wait_until
from tests.tools.redis import redis as redis_server
from tests.tools.serving import Server

UNKNOWN = "AAAAAAAAAAAAAAA="
APP = """
from freshet import Freshet
live = Freshet.from_config("freshet.toml")
gateway = live.gateway()

@gateway.route("id")
def id(connection, data):
    return connection.id
"""
KEYS = '[[gateway.keys]]\nid = "AKID"\nsecret = "a secret"\n'

Serve = Callable[..., Server]


def client_of(server: Server, key: str = "AKID", secret: str = "a secret", stage: str = "/dev", **config: Any) -> Any:
    return boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=server.http(stage),
        region_name="local",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=BotoConfig(retries={"total_max_attempts": 1}, **config),
    )


def application(folder: Path, serve: Serve, more: str = KEYS, top: str = "") -> Server:
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(APP)
    options = f'{top}[tokens]\nanonymous = true\n[gateway]\nstage = "dev"\n{more}'
    (folder / "freshet.toml").write_text(options)
    return serve("app:live", cwd=folder)


@contextmanager
def connected(server: Server) -> Iterator[tuple[ClientConnection, str]]:
    with connect(server.ws("/dev")) as socket:
        socket.send('{"action":"id"}')
        yield socket, str(socket.recv(timeout=seconds(5)))


@pytest.fixture
def server(tmp_path: Path, serve: Serve) -> Server:
    return application(tmp_path, serve)


@pytest.mark.parametrize("stage", ["/dev", "", "/dev/"])
def test_boto3_does_all_calls(server: Server, stage: str) -> None:
    api = client_of(server, stage=stage)
    with connected(server) as (socket, id):
        posted = api.post_to_connection(ConnectionId=id, Data=b"hello")
        assert posted["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert socket.recv(timeout=seconds(5)) == "hello"
        api.post_to_connection(ConnectionId=id, Data=b"\x00\xff")
        assert socket.recv(timeout=seconds(5)) == b"\x00\xff"
        api.post_to_connection(ConnectionId=id, Data=b"")
        assert socket.recv(timeout=seconds(5)) == ""
        info = api.get_connection(ConnectionId=id)
        assert info["Identity"]["SourceIp"] == "127.0.0.1"
        assert info["Identity"]["UserAgent"].startswith("Python")
        assert info["LastActiveAt"] >= info["ConnectedAt"]
        assert api.delete_connection(ConnectionId=id)["ResponseMetadata"]["HTTPStatusCode"] == 204
        with pytest.raises(Exception, match="1000"):
            socket.recv(timeout=seconds(5))


def test_boto3_raises_the_errors_that_the_model_names(server: Server) -> None:
    api = client_of(server)
    for id in (UNKNOWN, "abcdefghijklmno="):
        for call in (
            lambda id=id: api.post_to_connection(ConnectionId=id, Data=b"x"),
            lambda id=id: api.get_connection(ConnectionId=id),
            lambda id=id: api.delete_connection(ConnectionId=id),
        ):
            with pytest.raises(api.exceptions.GoneException):
                call()
    for id in ("a b", "a/b+c@d:e%f", "\u00e9", "x" * 500):
        with pytest.raises(ClientError, match="BadRequestException"):
            api.get_connection(ConnectionId=id)
    with connected(server) as (socket, id):
        with pytest.raises(api.exceptions.PayloadTooLargeException):
            api.post_to_connection(ConnectionId=id, Data=b"x" * (1024 * 1024 + 1))
        for wrong in (client_of(server, secret="wrong"), client_of(server, key="UNKNOWN")):
            with pytest.raises(wrong.exceptions.ForbiddenException):
                wrong.post_to_connection(ConnectionId=id, Data=b"x")
        unsigned = client_of(server, signature_version=UNSIGNED)
        with pytest.raises(unsigned.exceptions.ForbiddenException):
            unsigned.get_connection(ConnectionId=id)
        api.post_to_connection(ConnectionId=id, Data=b"it is still there")
        assert socket.recv(timeout=seconds(5)) == "it is still there"


def test_the_client_for_javascript_does_all_calls_and_names_all_errors(server: Server, node: Path) -> None:
    by_javascript(server, server, node)


def test_the_client_for_javascript_does_them_to_a_client_on_another_node(
    tmp_path: Path, serve: Serve, node: Path
) -> None:
    with redis_server() as redis:
        top = f'engine = "{redis.url}"\n'
        one, two = (application(tmp_path / name, serve, top=top) for name in ("one", "two"))
        with connected(one) as (_, id):
            wait_until(lambda: _reached(client_of(two), id), 10, "the nodes to know one another")
        by_javascript(one, two, node)


def by_javascript(home: Server, asked: Server, node: Path) -> None:
    """All calls and all errors, by a node that may be another than the client's."""
    with connected(home) as (socket, id):
        done = subprocess.run(
            ["node", "management.mjs", asked.http("/dev"), id, UNKNOWN],
            cwd=node,
            capture_output=True,
            text=True,
            timeout=seconds(30),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert [socket.recv(timeout=seconds(5)) for _ in range(2)] == ["text", b"\x00\xff"]
        assert said == {
            "posted": 200,
            "connectedAt": "object",
            "sourceIp": "127.0.0.1",
            "tooLarge": "PayloadTooLargeException",
            "forbidden": "ForbiddenException",
            "malformed": "BadRequestException",
            "deleted": 204,
            "gone": ["GoneException"] * 3,
        }


def test_a_client_on_another_node_is_reached_from_every_node(tmp_path: Path, serve: Serve) -> None:
    with redis_server() as redis:
        top = f'engine = "{redis.url}"\n'
        one, two = (application(tmp_path / name, serve, top=top) for name in ("one", "two"))
        with connected(one) as (socket, id):
            for server in (one, two):
                api = client_of(server)
                wait_until(lambda api=api: _reached(api, id), 10, "the nodes to know one another")
                assert api.get_connection(ConnectionId=id)["Identity"]["SourceIp"] == "127.0.0.1"
            assert {socket.recv(timeout=seconds(5)), socket.recv(timeout=seconds(5))} == {"x"}
            api = client_of(two)
            with pytest.raises(api.exceptions.PayloadTooLargeException):
                api.post_to_connection(ConnectionId=id, Data=b"x" * (1024 * 1024 + 1))
            assert api.delete_connection(ConnectionId=id)["ResponseMetadata"]["HTTPStatusCode"] == 204
            with pytest.raises(Exception, match="1000"):
                socket.recv(timeout=seconds(5))
            for server in (one, two):
                api = client_of(server)
                with pytest.raises(api.exceptions.GoneException):
                    api.post_to_connection(ConnectionId=id, Data=b"x")


def _reached(api: Any, id: str) -> bool:
    try:
        api.post_to_connection(ConnectionId=id, Data=b"x")
    except api.exceptions.GoneException:
        return False
    return True


# --------------------------------------------------------------------------------------------------- without signatures


@pytest.fixture
def live() -> Freshet:
    live = Freshet(dev=True)
    live.gateway(stage="dev")
    return live


async def test_several_get_the_same_by_one_request(live: Freshet) -> None:
    async with GatewayClient(live) as one, GatewayClient(live) as two:
        body = json.dumps({"ids": [one.id, UNKNOWN, two.id, "x"], "data": "to all"}).encode()
        done = await manage(live, "POST", "/dev/@connections", body)
        assert (await one.receive(), await two.receive()) == ("to all", "to all")
        assert json.loads(done.body) == {
            "posted": 2,
            "failed": [
                {"id": UNKNOWN, "status": 410, "error": "GoneException"},
                {"id": "x", "status": 400, "error": "BadRequestException"},
            ],
        }
        done = await manage(live, "POST", "/dev/@connections", b'{"ids":["%s"],"base64":"AP8="}' % one.id.encode())
        assert await one.receive() == b"\x00\xff"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"ids":7}', b'{"ids":["a"],"base64":"!"}', b'{"ids":[],"other":1}', b"\xff"]
)
async def test_a_batch_that_cannot_be_read_is_refused(live: Freshet, body: bytes) -> None:
    async with live.lifespan():
        done = await manage(live, "POST", "/dev/@connections", body)
    assert (done.status, done.headers["x-amzn-errortype"]) == (400, "BadRequestException")


async def test_a_batch_has_a_bound_of_connections_and_of_bytes(live: Freshet) -> None:
    async with live.lifespan():
        done = await manage(live, "POST", "/dev/@connections", json.dumps({"ids": ["x"] * 10_001}).encode())
        assert done.status == 400
        large = json.dumps({"ids": [UNKNOWN], "data": "x" * (1024 * 1024 + 1)}).encode()
        assert (await manage(live, "POST", "/dev/@connections", large)).status == 413
        assert (await manage(live, "POST", "/dev/@connections", b"x" * 4_000_000)).status == 413


@pytest.mark.parametrize("sign", [{"origin": "http://localhost:1"}, {"x-forwarded-for": "1.2.3.4"}])
async def test_in_development_neither_pages_nor_others_behind_a_proxy_may_call(
    live: Freshet, sign: dict[str, str]
) -> None:
    async with GatewayClient(live) as client:
        done = await manage(live, "POST", f"/dev/@connections/{client.id}", b"x", sign)
        assert (done.status, done.headers["x-amzn-errortype"]) == (403, "ForbiddenException")
        await client.expect_nothing()


async def test_without_keys_nobody_may_call_but_in_development() -> None:
    live = Freshet(secret="s" * 64)
    live.gateway(stage="dev", auth="none")
    async with GatewayClient(live) as client:
        done = await manage(live, "GET", f"/dev/@connections/{client.id}")
    assert done.status == 403
    assert "gateway.keys" in json.loads(done.body)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/prod/@connections/x", 404),
        ("PUT", "/dev/@connections/x", 405),
        ("GET", "/dev/@connections", 405),
        ("GET", "/dev/@connections/", 400),
        ("GET", "/dev/@connections/%40%2F%00", 400),
        ("GET", "/dev/%40connections/AAAAAAAAAAAAAAA%3D", 410),
    ],
)
async def test_other_requests_are_refused(live: Freshet, method: str, path: str, status: int) -> None:
    async with live.lifespan():
        assert (await manage(live, method, path)).status == status


async def test_where_there_is_no_gateway_there_are_no_connections() -> None:
    live = Freshet(dev=True)
    async with live.lifespan():
        assert (await manage(live, "GET", "/dev/@connections/x")).status == 404
        assert (await manage(live, "GET", "/@connections/x")).status == 404
