"""`freshet publish` and `freshet tail`, as processes, on a server that runs, is gone, or refuses."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server, free_port, serving

SECRET = "a secret for tests, thirty-two bytes"
KEY = "a key for tests"
GUARDED = """
[tokens]
audience = "live"
issuer = "shop"
[[channels]]
match = "a"
history = { size = 9, ttl = 60 }
read = "client"
"""
CLEAN = {
    "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    "PATH": "/usr/bin:/bin",
    "COLUMNS": "120",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
}
Freshet = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--dev") as server:
        yield server


@pytest.fixture
def freshet(server: Server, tmp_path: Path) -> Freshet:
    """Run a command to its end, beside a server that is open."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "freshet", *arguments],
            cwd=tmp_path,
            env={**CLEAN, "FRESHET_URL": server.http(""), **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds(20),
            check=False,
        )

    return run


@contextmanager
def tailing(server: Server, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`freshet tail` in the background; what it writes is in `out` and `err` of the folder."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "freshet", "tail", *arguments],
            cwd=folder,
            env={**CLEAN, "FRESHET_URL": server.http("")},
            stdout=out,
            stderr=err,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(folder: Path) -> list[dict[str, object]]:
    whole = (folder / "out").read_text().split("\n")[:-1]
    return [json.loads(line) for line in whole]


# -------------------------------------------------------------------------------------------------------------- publish


def test_what_is_published_is_tailed(freshet: Freshet) -> None:
    done = freshet("publish", "one", '{"text": "grüß"}', "--tag", "event=hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "published in one, offset 1\n")
    assert freshet("publish", "one", "--text", "no json").returncode == 0
    done = freshet("tail", "one", "--since", "oldest", "--limit", "2", "--json")
    assert done.returncode == 0
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["channel"], first["offset"], first["data"]) == ("one", 1, {"text": "grüß"})
    assert first["tags"] == {"event": "hello"}
    assert second["data"] == "no json"
    done = freshet("tail", "one", "--since", f"{first['epoch']}:1", "--limit", "1")
    assert done.stdout.endswith('one 2 "no json"\n')


HOSTILE = {"C1": "a\x9b31mb", "DEL": "a\x7fb", "bidi": "a\u202eb", "line separator": "a\u2028b", "tag": "a\U000e0041b"}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("form", ["--json", "--limit=1"], ids=["json", "text"])
def test_what_strangers_wrote_does_not_steer_the_terminal(freshet: Freshet, text: str, form: str) -> None:
    channel = f"strange-{secrets.token_hex(4)}"
    assert freshet("publish", channel, "--text", text, "--tag", f"event={text}").returncode == 0
    done = freshet("tail", channel, "--since", "oldest", "--limit", "1", form)
    assert done.returncode == 0
    assert done.stdout.rstrip("\n").isprintable()
    assert json.dumps(text)[1:-1] in done.stdout


def test_standard_input_is_published_line_by_line(freshet: Freshet) -> None:
    done = freshet("publish", "two,three", stdin='1\n\n{"a": [2]}\n')
    assert (done.returncode, done.stderr) == (0, "")
    for channel in ("two", "three"):
        done = freshet("tail", channel, "--since", "oldest", "--limit", "2", "--json")
        assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == [1, {"a": [2]}]


def test_the_same_key_publishes_once(freshet: Freshet) -> None:
    options = ["publish", "four", "1", "--idempotency-key", "order 7"]
    assert freshet(*options).stderr == freshet(*options).stderr == "published in four, offset 1\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["publish", "a", "{"], 2, "--text"),
        (["publish", "a", "1", "--tag", "event"], 2, "NAME=VALUE"),
        (["publish", ",", "1"], 2, "news,sport"),
        (["publish", "a", "1", "--url", "localhost"], 2, "http://HOST"),
        (["publish", "x" * 300, "1"], 1, "255 bytes"),
        (["tail"], 2, "CHANNEL"),
        (["tail", "a", "--user", "alice"], 2, "expected channels, or --user, or --channel"),
        (["tail", "a", "--since", "yesterday"], 2, "EPOCH:OFFSET or oldest"),
        (["tail", "a", "--since", "b=oldest"], 2, "not subscribed to"),
        (["tail", "x" * 300], 1, "255 bytes"),
    ],
)
def test_a_mistake_says_what_is_expected(freshet: Freshet, arguments: list[str], code: int, says: str) -> None:
    done = freshet(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_line_that_is_not_json_is_named_by_its_number(freshet: Freshet) -> None:
    done = freshet("publish", "a", stdin="1\n{\n")
    assert done.returncode == 2
    assert "line 2" in done.stderr


@pytest.mark.parametrize("command", [["publish", "a", "1"], ["tail", "a"]])
def test_where_nobody_answers_a_command_says_what_to_start(freshet: Freshet, command: list[str]) -> None:
    done = freshet(*command, "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "freshet serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_guarded_server_wants_the_key_and_the_token(freshet: Freshet, tmp_path: Path) -> None:
    environment = {"FRESHET_SECRET": SECRET, "FRESHET_API_KEY": KEY}
    (tmp_path / "freshet.toml").write_text(GUARDED)
    with serving(cwd=tmp_path, env=environment) as guarded:
        url = ["--url", guarded.http("")]
        done = freshet("publish", "a", "1", *url)
        assert done.returncode == 1
        assert "--api-key" in done.stderr
        assert "not this server's" in freshet("publish", "a", "1", "--api-key", "wrong", *url).stderr
        assert freshet("publish", "a", "1", "--api-key", KEY, *url).returncode == 0
        done = freshet("tail", "a", *url)
        assert done.returncode == 1
        assert "--token" in done.stderr
        options = ["tail", "a", "--since", "oldest", "--limit", "1", *url]
        assert freshet(*options, FRESHET_SECRET=SECRET).returncode == 0
        token = freshet("token", "--user", "alice", FRESHET_SECRET=SECRET).stdout.strip()
        assert freshet(*options, FRESHET_TOKEN=token).returncode == 0
        (tmp_path / ".env").write_text(f"# ours\nOTHER\nFRESHET_API_KEY='{KEY}'\nexport FRESHET_SECRET={SECRET}\n")
        assert freshet("publish", "a", "1", *url).returncode == 0
        assert freshet(*options).returncode == 0
        (tmp_path / ".env").write_text(f"FRESHET_API_KEY={KEY}\r\n", "utf-8-sig")  # as editors on Windows do
        assert freshet("publish", "a", "1", *url).returncode == 0


# ----------------------------------------------------------------------------------------------------------------- tail


def test_the_url_that_the_server_shows_for_clients_may_be_given(freshet: Freshet, server: Server) -> None:
    assert freshet("publish", "tail-shown", "1").returncode == 0
    url = server.ws("/connection/websocket")
    assert url in server.log()
    done = freshet("tail", "tail-shown", "--since", "oldest", "--limit", "1", "--url", url)
    assert (done.returncode, "tail-shown 1 1" in done.stdout) == (0, True)


def test_tail_comes_back_and_prints_what_it_missed_or_says_that_it_cannot(server: Server, tmp_path: Path) -> None:
    port = free_port()
    arguments = ["tail-5", "--json", "--url", f"http://127.0.0.1:{port}"]

    def publish(number: int, at: Server) -> None:
        command = [sys.executable, "-m", "freshet", "publish", "tail-5", str(number), "--url", at.http("")]
        subprocess.run(command, cwd=tmp_path, env=CLEAN, check=True, capture_output=True, timeout=seconds(20))

    with serving("--dev", port=port) as first, tailing(first, tmp_path, *arguments):
        wait_until(lambda: "tail-5" in _channels(first), 10, "the subscription")
        publish(1, first)
        wait_until(lambda: lines(tmp_path), 10, "the first line")
        first.stop()
        with serving("--dev", port=port) as second:
            wait_until(lambda: "tail-5" in _channels(second), 20, "the subscription to come back")
            publish(2, second)
            wait_until(lambda: len(lines(tmp_path)) == 2, 10, "the second line")
    assert [line["data"] for line in lines(tmp_path)] == [1, 2]
    log = (tmp_path / "err").read_text()
    assert "connection lost" in log
    assert "cannot be recovered" in log


def _channels(server: Server) -> str:
    import httpx

    return httpx.post(server.http("/api/channels"), content=b"{}").text


def test_a_pattern_takes_all_channels_that_match_also_those_that_come_later(
    freshet: Freshet, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "early").mkdir()
    (tmp_path / "late").mkdir()
    (tmp_path / "pattern").mkdir()
    with tailing(server, tmp_path / "early", "found:early"):
        wait_until(lambda: "found:early" in _channels(server), 10, "the first channel")
        with tailing(server, tmp_path / "pattern", "found:*", "--json"):
            log = tmp_path / "pattern" / "err"
            wait_until(lambda: "found:*: found:early" in log.read_text(), 10, "the first channel to be found")
            with tailing(server, tmp_path / "late", "found:late"):
                wait_until(lambda: "found:late" in log.read_text(), 20, "the second channel to be found")
                wait_until(lambda: '"found:late":{"num_clients":2' in _channels(server), 10, "its subscription")
                for channel in ("found:early", "found:late"):
                    freshet("publish", channel, "1")
                wait_until(lambda: len(lines(tmp_path / "pattern")) == 2, 10, "both")
    assert {line["channel"] for line in lines(tmp_path / "pattern")} == {"found:early", "found:late"}
    assert "listening to found:*" in log.read_text()


def test_tail_ends_with_130_when_interrupted(server: Server, tmp_path: Path) -> None:
    with tailing(server, tmp_path, "interrupted") as process:
        wait_until(lambda: "interrupted" in _channels(server), 10, "the subscription")
        process.send_signal(signal.SIGINT)
        assert process.wait(seconds(10)) == 130
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_tail_is_quiet_when_its_reader_leaves(freshet: Freshet, server: Server, tmp_path: Path) -> None:
    long = "x" * 10_000  # more of it than a pipe holds
    freshet("publish", "six", stdin="\n".join(json.dumps([number, long]) for number in range(50)))
    command = f"{sys.executable} -m freshet tail six --json --since oldest | head -1"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command],
        env={**CLEAN, "FRESHET_URL": server.http("")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )
    assert json.loads(done.stdout)["data"] == [0, long]
    assert done.stderr.splitlines() == [f"listening to six at {server.http('')} (Ctrl-C ends)"]


def test_colours_are_for_terminals_alone(freshet: Freshet) -> None:
    freshet("publish", "seven", "1")
    options = ["tail", "seven", "--since", "oldest", "--limit", "1"]
    assert "\x1b" not in freshet(*options, NO_COLOR="").stdout
    assert "\x1b" in freshet(*options, NO_COLOR="", FORCE_COLOR="1").stdout


@pytest.mark.parametrize("command", ["init", "serve", "demo", "publish", "tail", "top", "check", "token"])
def test_help_shows_examples(freshet: Freshet, command: str) -> None:
    done = freshet(command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"freshet {command}" in done.stdout


def test_exit_codes_are_documented_and_the_shell_can_complete(freshet: Freshet) -> None:
    assert "130 interrupted" in " ".join(freshet("--help").stdout.split())
    done = freshet("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "freshet" in done.stdout
