"""A real server, a real client, and a listener in the place of Datadog's agent, that gets the figures of `/metrics`."""

import socket
from collections import Counter, defaultdict
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from freshet.errors import ConfigError
from freshet.observe.dogstatsd import DATAGRAM
from freshet.ops.statsd import address_of
from tests.observe.test_dogstatsd import parsed
from tests.ops.test_metrics import OPEN, metrics, say
from tests.tools.patience import eventually
from tests.tools.ports import HOST
from tests.tools.serving import serving

WAY = "dialect:centrifuge,transport:websocket"


class Agent:
    """Adds up what comes."""

    def __init__(self, folder: Path | None) -> None:
        """folder: where its Unix socket is; None: it listens on UDP."""
        family = socket.AF_INET if folder is None else socket.AF_UNIX
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0) if folder is None else str(folder / "dsd.socket"))
        self._socket.setblocking(False)
        self.address = f"{HOST}:{self._socket.getsockname()[1]}" if folder is None else f"unix://{folder}/dsd.socket"
        self.counted: Counter[str] = Counter()
        self.gauges: defaultdict[str, float] = defaultdict(float)
        self.sizes: list[int] = []

    def take(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(65536)
            except BlockingIOError:
                return
            self.sizes.append(len(datagram))
            for key, (kind, value) in parsed(iter(datagram.split(b"\n"))).items():
                if kind == "g":
                    self.gauges[key] = value
                else:
                    self.counted[key] += int(value)

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("by", ["udp", "unix"])
async def test_an_agent_gets_the_figures_that_prometheus_reads(by: str, tmp_path: Path) -> None:
    agent = Agent(tmp_path if by == "unix" else None)
    tags = 'statsd_tags = ["env:test"]\nstatsd_interval = 0.2\n'
    (tmp_path / "freshet.toml").write_text(f'statsd = "{agent.address}"\n{tags}{OPEN}')
    end = "env:test,worker:0"
    clients = f"clients {WAY},{end}"
    try:
        with serving("--config", str(tmp_path / "freshet.toml")) as server:
            async with connect(server.ws("/connection/websocket")) as client, httpx.AsyncClient() as http:
                await say(client, {"connect": {}})
                await say(client, {"subscribe": {"channel": "small"}})
                for index in range(30):
                    message = {"channel": "small", "data": index}
                    (await http.post(server.http("/api/publish"), json=message)).raise_for_status()
                    await client.recv()

                def all_came() -> bool:
                    agent.take()
                    return agent.counted[f"delivered dialect:centrifuge,{end}"] == 30 and agent.gauges[clients] == 1

                await eventually(all_came, 10, "the figures")
                told = metrics(server)
            agent.take()
    finally:
        agent.close()
    labels = 'dialect="centrifuge",transport="websocket",worker="0"'
    assert told[f"freshet_clients{{{labels}}}"] == 1
    assert agent.counted[f"connected {WAY},{end}"] == told[f"freshet_connected_total{{{labels}}}"] == 1
    assert agent.counted[f"published {end}"] == told['freshet_published_total{worker="0"}'] == 30
    latency = told['freshet_delivery_latency_seconds_count{accepted="here",worker="0"}']
    assert agent.counted[f"delivery_latency_seconds accepted:here,{end}"] == latency == 30
    assert agent.counted[f"command_seconds command:subscribe,{end}"] == 1
    assert max(agent.sizes) <= DATAGRAM
    assert max(agent.sizes) > DATAGRAM / 2  # several in one


def test_an_agent_that_is_not_there_is_said_once_and_takes_nothing_from_clients(tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text(f'statsd = "unix://{tmp_path}/none"\nstatsd_interval = 0.1\n{OPEN}')
    with serving("--config", str(tmp_path / "freshet.toml")) as server:
        for _ in range(20):
            assert httpx.post(server.http("/api/publish"), json={"channel": "small", "data": 1}).status_code == 200
        server.process.terminate()
        assert server.ended() == 0
        assert server.log().count("metrics could not be sent") == 1
        server.wait_for_log("see the option statsd")


def test_an_address_is_a_host_with_a_port_or_the_path_of_a_socket() -> None:
    assert address_of("") is None
    assert address_of("127.0.0.1:8125") == ("127.0.0.1", 8125)
    assert address_of("[::1]:8125") == ("::1", 8125)
    assert address_of("unix:///run/dsd.socket") == address_of("/run/dsd.socket") == "/run/dsd.socket"


@pytest.mark.parametrize("text", ["8125", "localhost", "localhost:", ":8125", "host:0", "host:65536", "host:port"])
def test_what_is_no_address_is_refused_by_the_name_of_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match="statsd"):
        address_of(text)
