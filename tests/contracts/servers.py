"""What two servers on one broker do, as their clients see them.

A test module for such an engine gives the fixture `broker`, of its module, and imports all of this.
"""

from collections.abc import Iterator
from typing import Protocol

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.tools.clients import SECRET, token
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, serving

Two = tuple[Server, Server]


class Broker(Protocol):
    """One that keeps what it acknowledged when it is killed."""

    @property
    def url(self) -> str: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...


@pytest.fixture(scope="module")
def servers(broker: Broker) -> Iterator[Two]:
    env = {"FRESHET_ENGINE": f"{broker.url}?timeout={seconds(1)}", "FRESHET_SECRET": SECRET}
    with serving("--dev", env=env) as one, serving("--dev", env=env) as two:
        yield one, two


def published(server: Server, channel: str, text: str) -> bool:
    """Whether the server took it. With its key, to try again is safe."""
    answer = httpx.post(
        server.http("/api/publish"),
        json={"channel": channel, "data": text, "idempotency_key": text},
        timeout=seconds(10),
    )
    return "result" in answer.json()


def received(client: ClientConnection, number: int) -> list[str]:
    return [str(client.recv(timeout=seconds(10))) for _ in range(number)]


def subscribers(server: Server, channel: str = "a") -> int:
    """Of all nodes, as one of them tells."""
    answer = httpx.post(server.http("/api/channels"), json={}, timeout=seconds(10)).json()
    return int(answer["result"]["channels"].get(channel, {}).get("num_clients", 0))


def test_what_one_publishes_the_clients_of_the_other_hear(servers: Two) -> None:
    one, two = servers
    with connect(one.ws("/channels/a")) as first, connect(two.ws("/channels/a")) as second:
        wait_until(lambda: all(subscribers(server) == 2 for server in servers), 5, "both clients")
        assert published(one, "a", "1")
        assert published(two, "a", "2")
        assert received(first, 2) == received(second, 2) == ['"1"', '"2"']


def test_across_a_restart_of_the_broker_clients_hear_all_that_was_acknowledged_once_and_in_order(
    servers: Two, broker: Broker
) -> None:
    one, two = servers
    with connect(one.ws("/channels/b")) as client:
        wait_until(lambda: subscribers(one, "b") == 1, 5, "the client")
        texts = [str(index) for index in range(40)]
        for index, text in enumerate(texts):
            if index == 20:
                broker.kill()
                assert not published(two, "b", text)
                broker.start()
            wait_until(lambda text=text: published(two, "b", text), 20, "a publication")  # type: ignore[misc]
        assert received(client, 40) == [f'"{text}"' for text in texts]


def test_what_is_revoked_on_one_server_is_no_longer_good_on_any(servers: Two) -> None:
    one, two = servers
    carol = token("carol", claims={"jti": "c1"})
    with connect(two.ws(f"/channels/a?token={carol}")) as client:
        wait_until(lambda: subscribers(two) == 1, 5, "the client")
        assert httpx.post(one.http("/api/revoke"), json={"token": "c1"}).json() == {"result": {}}
        with pytest.raises(ConnectionClosed) as ending:
            client.recv(timeout=seconds(1))
        assert ending.value.rcvd is not None
        assert (ending.value.rcvd.code, ending.value.rcvd.reason) == (3500, "token revoked")
    for server in servers:
        answer = httpx.get(server.http(f"/channels/a?token={carol}"))
        assert answer.status_code == 401
        assert "revoked" in answer.json()["message"]  # which is said in dev
        assert httpx.get(server.http(f"/channels/a?token={token('carol')}")).status_code == 200


def test_who_is_blocked_on_one_server_gets_in_on_none(servers: Two) -> None:
    one, two = servers
    with connect(two.ws(f"/channels/a?token={token('dave')}")) as client:
        wait_until(lambda: subscribers(two) == 1, 5, "the client")
        assert httpx.post(one.http("/api/disconnect"), json={"user": "dave", "block": 600}).json() == {"result": {}}
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=seconds(1))
    for server in servers:
        wait_until(
            lambda server=server: httpx.get(server.http(f"/channels/a?token={token('dave')}")).status_code == 403,  # type: ignore[misc]
            1,
            "the block",
        )


def test_a_ticket_is_good_on_any_server_once(servers: Two) -> None:
    one, two = servers
    stream = {"Accept": "text/event-stream"}
    answer = httpx.post(one.http("/connection/ticket"), headers={"Authorization": f"Bearer {token('erin')}"}).json()
    with httpx.stream("GET", two.http(f"/channels/a?ticket={answer['ticket']}"), headers=stream) as opened:
        assert opened.status_code == 200
        for server in servers:
            url = server.http(f"/channels/a?ticket={answer['ticket']}")
            assert httpx.get(url, headers=stream).status_code == 204  # so that an EventSource does not come back
            assert httpx.get(url).status_code == 401


def test_a_channel_takes_from_the_clients_of_all_servers_together_what_its_rate_says(broker: Broker) -> None:
    env = {
        "FRESHET_ENGINE": f"{broker.url}?timeout={seconds(1)}",
        "FRESHET_RATES__SCOPE": "cluster",
        "FRESHET_RATES__CHANNEL": '{ "rate": 0.001, "burst": 64 }',
    }
    with (
        serving("--dev", env=env) as one,
        serving("--dev", env=env) as two,
        connect(one.ws("/channels/full")) as first,
        connect(two.ws("/channels/full")) as second,
    ):
        wait_until(lambda: subscribers(one, "full") == 2, 5, "both clients")
        for number in range(60):
            first.send(str(number))
        assert received(second, 60) == [str(number) for number in range(60)]

        sent = 0

        def refused() -> bool:
            nonlocal sent
            sent += 1
            second.send("true")
            try:
                received(second, 1)
            except ConnectionClosed as why:
                return "too many requests" in str(why)
            return False

        wait_until(refused, 10, "a refusal")
        assert sent < 60, "of its own 64, the other server has used nearly all"
