"""The official JavaScript clients come back at the edge of every limit, with nothing missed; or they are told which."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.reconnect.edge_app import SECRET
from tests.tools.cases import Cases, cases
from tests.tools.proxies import proxied
from tests.tools.serving import Server, serving

APP = "tests.reconnect.edge_app:live"
CENTRIFUGE = [
    *(("websocket", encoding) for encoding in ("json", "protobuf")),
    *(("http_stream", encoding) for encoding in ("json", "protobuf")),
    ("sse", "json"),
]
SOCKETIO = [["polling"], ["websocket"], ["polling", "websocket"]]
LARGEST_TOKEN = 12_000  # bytes of padding, of which base64 makes nearly the 16 KiB of limits.token_size

Run = Callable[..., None]


@pytest.fixture(scope="module")
def usual() -> Iterator[Server]:
    """Every limit as it is."""
    with serving(APP) as server:
        yield server


@pytest.fixture(scope="module")
def wide() -> Iterator[Server]:
    """Thousands of channels: only an URL that names them needs an option more."""
    options = {"limits": {"channels_per_client": 5000}, "http": {"url_size": 128 * 1024, "head_size": 256 * 1024}}
    with serving(APP, env={"TEST_OPTIONS": json.dumps(options)}) as server:
        yield server


@pytest.fixture(scope="module")
def played(node: Path) -> Iterator[Cases]:
    with cases(node, "reconnect.mjs") as played:
        yield played


@pytest.fixture
def run(played: Cases) -> Run:
    def run_scenario(scenario: str, server: Server, play: Cases = played, **options: Any) -> None:
        given = json.dumps({"secret": SECRET, "name": uuid4().hex[:8], **options})
        play(scenario, server.http(""), given, within=60)

    return run_scenario


@pytest.mark.parametrize(("transport", "encoding"), CENTRIFUGE)
def test_a_client_of_all_channels_that_it_may_have_comes_back_with_the_largest_tokens(
    usual: Server, run: Run, transport: str, encoding: str
) -> None:
    run("subscriptions", usual, transport=transport, encoding=encoding, count=128, padding=LARGEST_TOKEN)


@pytest.mark.parametrize(("transport", "encoding"), CENTRIFUGE[::2])
def test_a_client_of_thousands_of_channels_comes_back(wide: Server, run: Run, transport: str, encoding: str) -> None:
    run("subscriptions", wide, transport=transport, encoding=encoding, count=2000, padding=300)


@pytest.mark.parametrize(("transport", "encoding"), CENTRIFUGE)
def test_a_client_that_the_server_subscribes_says_where_it_stands_in_hundreds_of_channels(
    wide: Server, run: Run, transport: str, encoding: str
) -> None:
    run("personal", wide, transport=transport, encoding=encoding, count=500)


# Over HTTP the client's Protobuf takes no message that comes in two reads: it connects again, and never gets it.
@pytest.mark.parametrize(("transport", "encoding"), [it for it in CENTRIFUGE if it != ("http_stream", "protobuf")])
def test_a_client_gets_all_that_a_log_keeps(usual: Server, run: Run, transport: str, encoding: str) -> None:
    run("recovery", usual, transport=transport, encoding=encoding, count=5000)


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_a_channel_too_many_is_refused_by_the_options_name_and_the_others_stay(
    usual: Server, run: Run, encoding: str
) -> None:
    run("too_many", usual, transport="websocket", encoding=encoding, count=129)
    usual.wait_for_log("see limits.channels_per_client")


def test_what_is_too_large_is_refused_and_what_is_far_too_large_ends_it_and_the_log_says_which_option(
    usual: Server, run: Run
) -> None:
    run("too_large", usual, transport="websocket", encoding="json")
    usual.wait_for_log("see limits.message_size")
    usual.wait_for_log("see limits.frame_size")


@pytest.mark.parametrize("transports", SOCKETIO, ids="+".join)
def test_what_a_socketio_client_said_offline_arrives_in_order(usual: Server, run: Run, transports: list[str]) -> None:
    run("offline", usual, transports=transports, count=5000)


@pytest.mark.parametrize("transports", SOCKETIO[:2], ids="+".join)
def test_megabytes_that_were_said_offline_arrive_in_order(usual: Server, run: Run, transports: list[str]) -> None:
    run("offline", usual, transports=transports, count=50, size=60_000)


@pytest.mark.parametrize("transports", SOCKETIO[:2], ids="+".join)
def test_attachments_may_fill_a_packet_and_more_is_logged_with_the_option(
    usual: Server, run: Run, transports: list[str]
) -> None:
    run("attachments", usual, transports=transports)
    usual.wait_for_log("see limits.packet_size")


def test_an_event_stream_of_many_channels_goes_on_where_it_stopped(usual: Server, run: Run) -> None:
    run("events", usual, count=128)


def test_an_event_stream_of_a_thousand_channels_goes_on_where_it_stopped(wide: Server, run: Run) -> None:
    run("events", wide, count=1000)


def test_an_event_stream_of_many_channels_goes_on_behind_a_proxy_as_it_is_shipped(
    usual: Server, run: Run, node: Path, tmp_path: Path
) -> None:
    with (
        proxied("nginx", [usual.port, usual.port], tmp_path) as (address, _),
        cases(node, "reconnect.mjs", {"NODE_EXTRA_CA_CERTS": str(tmp_path / "cert.pem")}) as play,
    ):
        run("events", usual, play, count=128, front=f"https://{address}")
