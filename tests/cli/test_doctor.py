"""`freshet doctor`: what would hurt is found, on this machine, and nothing else is said to."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.patience import seconds
from tests.tools.ports import HOST, free_port
from tests.tools.redis import redis
from tests.tools.serving import Server

SECRET = "a secret for tests, thirty-two bytes"


def doctor(folder: Path, *arguments: str, files: int = 0, **environment: str) -> tuple[int, dict[str, str]]:
    """Its exit code, and the level of each part that it looked at."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    command = [sys.executable, "-m", "freshet", "doctor", *arguments]
    if files:
        command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**clean, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("good", "weak", "bad"))]
    return done.returncode, {part: level for level, part, *_ in rows}


def test_a_sound_configuration_has_nothing_bad(tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text('hosts = ["example.org"]\n')
    code, found = doctor(tmp_path, "--port", str(free_port()), FRESHET_SECRET=SECRET)
    assert code == 0
    assert {found[part] for part in ("port", "engine", "secret")} == {"good"}


def test_few_files_a_short_secret_and_any_host_are_weak(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, "--port", str(free_port()), files=256, FRESHET_SECRET="short")
    assert code == 0
    assert {found[part] for part in ("files", "secret", "hosts")} == {"weak"}


@pytest.mark.parametrize(("believed", "level"), [("*", "weak"), (" * ", "weak"), ("10.0.0.1", "good"), ("", "good")])
def test_who_believes_the_addresses_that_any_client_names_is_warned(believed: str, level: str, tmp_path: Path) -> None:
    _, found = doctor(tmp_path, "--port", str(free_port()), FORWARDED_ALLOW_IPS=believed, FRESHET_SECRET=SECRET)
    assert found["proxy"] == level


@pytest.mark.parametrize("engine", [f"redis://{HOST}:1", f"nats://{HOST}:1", "reddis://a"])
def test_an_engine_that_does_not_answer_is_bad(engine: str, tmp_path: Path) -> None:
    code, found = doctor(tmp_path, "--port", str(free_port()), FRESHET_SECRET=SECRET, FRESHET_ENGINE=engine)
    assert (code, found["engine"]) == (1, "bad")


def test_a_broker_is_asked(tmp_path: Path) -> None:
    with redis() as broker:
        code, found = doctor(tmp_path, "--port", str(free_port()), FRESHET_SECRET=SECRET, FRESHET_ENGINE=broker.url)
    assert (code, found["engine"] in ("good", "weak")) == (0, True)


def test_a_port_that_this_very_server_has_is_good(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve("--dev")
    _, found = doctor(tmp_path, "--port", str(server.port), FRESHET_SECRET=SECRET)
    assert found["port"] == "good"


def test_a_port_that_is_taken_and_no_secret_are_bad(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        code, found = doctor(tmp_path, "--port", str(taken.getsockname()[1]))
    assert (code, found["port"], found["secret"]) == (1, "bad", "bad")
