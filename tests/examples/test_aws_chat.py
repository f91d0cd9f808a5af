"""AWS's chat, unchanged: in processes as its template says, in threads, and behind HTTP; and without its table."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.tools.need import ROOT
from tests.tools.patience import seconds
from tests.tools.serving import Server

EXAMPLE = ROOT / "examples" / "aws_chat"
WITHIN = seconds(20)

Serve = Callable[..., Server]


@pytest.fixture
def table(tmp_path: Path) -> dict[str, str]:
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "local"}
    return {"TABLE": str(tmp_path / "connections.db"), **credentials}


def talk(server: Server) -> None:
    """Two clients, then one of them alone; who left gets nothing, and the others do."""
    with connect(server.ws("/dev")) as one:
        with connect(server.ws("/dev")) as two:
            one.send('{"action":"sendmessage","data":"hello"}')
            assert {one.recv(timeout=WITHIN), two.recv(timeout=WITHIN)} == {"hello"}
        for number in range(2):
            one.send(f'{{"action":"sendmessage","data":"alone {number}"}}')
            assert one.recv(timeout=WITHIN) == f"alone {number}"


def test_as_its_template_says_in_processes(serve: Serve, tmp_path: Path, table: dict[str, str]) -> None:
    file = tmp_path / "freshet.toml"
    subprocess.run(
        [sys.executable, "-m", "freshet", "gateway", "import", "template.yaml", "-o", str(file)],
        cwd=EXAMPLE,
        check=True,
        timeout=WITHIN,
    )
    file.write_text(file.read_text().replace("connections.db", table["TABLE"]))
    talk(serve("--dev", "--config", str(file), cwd=EXAMPLE))


def test_in_threads_of_the_server(serve: Serve, table: dict[str, str]) -> None:
    talk(serve("app:live", cwd=EXAMPLE, env=table))


def test_behind_http(serve: Serve, tmp_path: Path, table: dict[str, str]) -> None:
    back_end = serve("back_end:api", cwd=EXAMPLE, env=table)
    keys = {"$connect": "connect", "$disconnect": "disconnect", "sendmessage": "send"}
    routes = [f'[[gateway.routes]]\nkey = "{key}"\nurl = "{back_end.http(f"/{name}")}"\n' for key, name in keys.items()]
    file = tmp_path / "freshet.toml"
    file.write_text('[gateway]\nstage = "dev"\n' + "".join(routes))
    talk(serve("--dev", "--config", str(file)))


def test_without_the_table_a_message_to_all_is_one_publication(serve: Serve) -> None:
    server = serve("better:live", cwd=EXAMPLE)
    with connect(server.ws("/dev")) as one, connect(server.ws("/dev")) as two:
        for client in (one, two):
            client.send('{"action":"hello"}')
            assert client.recv(timeout=WITHIN) == "welcome"
        one.send('{"action":"sendmessage","data":"to all"}')
        assert {one.recv(timeout=WITHIN), two.recv(timeout=WITHIN)} == {'{"data":"to all"}'}
