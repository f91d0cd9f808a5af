"""Every metric against what clients did: on each engine, with one worker and with several."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ops.figures import DELAY, Figures, Talker, engine_of, figures, publish, talking
from tests.tools.patience import eventually, seconds
from tests.tools.relay import Relay
from tests.tools.serving import Server, serving

CLIENTS, RETURNING, MESSAGES = 12, 5, 30
CONFIG = f"""
tokens = {{ anonymous = true }}
api = {{ anonymous = true }}
metrics = {{ anonymous = true }}
timing = {{ ping_interval = {seconds(1)}, pong_timeout = {seconds(0.9)} }}
[[channels]]
match = "log"
history = {{ size = 100, ttl = 60 }}
publish = "client"
[[channels]]
match = "closed"
subscribe = "nobody"
"""


@pytest.fixture(params=["memory", "redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[str, Relay | None]]:
    with engine_of(request.param) as engine:
        yield engine


@pytest.fixture(params=[1, 4])
def server(request: pytest.FixtureRequest, engine: tuple[str, Relay | None], tmp_path: Path) -> Iterator[Server]:
    """Once it answers, the network to its broker is slow."""
    url, relay = engine
    (tmp_path / "freshet.toml").write_text(f'engine = "{url}"\n{CONFIG}')
    workers = ("--workers", str(request.param)) if request.param > 1 else ()
    with serving("--config", str(tmp_path / "freshet.toml"), *workers) as server:
        if relay is not None:
            relay.delay(DELAY, DELAY * 1.2)
        yield server


async def test_every_figure_is_what_clients_did(server: Server, engine: tuple[str, Relay | None]) -> None:
    async with talking(server, CLIENTS) as talkers:
        places = [(await it.ask(subscribe={"channel": "log"}))["subscribe"] for it in talkers]
        await publish(server, MESSAGES)
        await eventually(lambda: sum(it.heard for it in talkers) == CLIENTS * MESSAGES, 20, "all publications")
        now = await figures(server)
        assert now("clients") == now("clients", dialect="centrifuge", transport="websocket") == CLIENTS
        assert now("subscriptions") == CLIENTS
        for talker in talkers[:RETURNING]:
            await talker.close()
        await publish(server, 3)
        async with talking(server, RETURNING + 1) as back:
            for place, talker in zip(places[:RETURNING], back, strict=False):
                where = {"recover": True, "epoch": place["epoch"], "offset": MESSAGES}
                reply = await talker.ask(subscribe={"channel": "log", **where})
                assert len(reply["subscribe"]["publications"]) == 3
            stranger = {"recover": True, "epoch": "another", "offset": 1}
            assert not (await back[-1].ask(subscribe={"channel": "log", **stranger}))["subscribe"].get("recovered")
            assert (await back[0].ask(subscribe={"channel": "closed"}))["error"]["code"] == 103
            await eventually(_answered(server), 20, "answers to pings")
            now = await figures(server)
            everybody = [*talkers, *back]
            compare_clients(now)
            compare_messages(now, everybody)
            if engine[1] is not None:
                compare_delays(now)


def _answered(server: Server) -> Any:
    async def answered() -> bool:
        return (await figures(server))("round_trip_seconds_count") >= CLIENTS

    return answered


def compare_clients(now: Figures) -> None:
    assert now("connected_total") == CLIENTS + RETURNING + 1
    assert now("reconnected_total", dialect="centrifuge", transport="websocket") == RETURNING + 1
    assert now.by("ended_total", "code") == {"3000": RETURNING}
    assert now("recovered_total") == now("recovery_publications_count") == RETURNING
    assert now("recovery_publications_sum") == 3 * RETURNING
    assert now("unrecovered_total") == 1
    assert now("losses_total") == now("unpublished_total") == now("engine_errors_total") == 0
    assert now.by("refusals_total", "code") == {"103": 1}
    assert now.by("policy_refusals_total", "policy") == {"rights": 1}
    assert now("clients_behind") == now("dropped_total") == now("conflated_total") == 0
    assert 0 < now("open_files") < now("max_files")


def compare_messages(now: Figures, everybody: list[Talker]) -> None:
    assert now("published_total") == now("publish_seconds_count") == MESSAGES + 3
    live = CLIENTS * MESSAGES + 3 * (CLIENTS - RETURNING)
    assert now("delivered_total") == now("delivery_latency_seconds_count") == live
    commands = {"connect": CLIENTS + RETURNING + 1, "subscribe": CLIENTS + RETURNING + 2}
    assert now.by("command_seconds_count", "command") == commands
    pings = now("round_trip_seconds_count")  # these go on while the figures are read
    assert abs(now("received_total") - sum(it.sent for it in everybody)) <= pings
    assert abs(now("sent_total") - sum(it.received for it in everybody)) <= pings
    assert abs(now("received_bytes_total") - sum(it.bytes_sent for it in everybody)) <= 3 * pings
    assert abs(now("sent_bytes_total") - sum(it.bytes_received for it in everybody)) <= 3 * pings


def compare_delays(now: Figures) -> None:
    below, _ = now.quantile(0.95, "publish_seconds")
    assert below >= 0.025
    below, _ = now.quantile(0.95, "delivery_latency_seconds")
    assert below >= 0.025


async def test_who_comes_back_by_another_way_is_counted_there(server: Server) -> None:
    await publish(server, 2)
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        headers = {"Accept": "text/event-stream"}
        async with http.stream("GET", server.http("/channels/log"), headers=headers) as first:
            assert first.status_code == 200
            await publish(server, 1)
            lines = first.aiter_lines()
            id = ""
            while not id:
                line = await anext(lines)
                id = line.removeprefix("id:").strip() if line.startswith("id:") else ""
        await publish(server, 1)
        async with http.stream("GET", server.http("/channels/log"), headers={**headers, "Last-Event-ID": id}) as second:
            assert second.status_code == 200
            rest = second.aiter_lines()  # held: an iterator that is dropped closes its response
            while not (await anext(rest)).startswith("data:"):
                pass

            async def first_is_gone() -> bool:
                return (await figures(server))("clients", transport="sse") == 1

            await eventually(first_is_gone, 10, "the end of the first")
            now = await figures(server)
            assert now("connected_total", transport="sse") == 2
            assert now("reconnected_total") == now("reconnected_total", transport="sse") == 1
