"""`freshet check`, one mistake after the other."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from freshet.cli import app

HOOK = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET = "a secret for tests, thirty-two bytes"
RULE = "[[channels]]\nmatch = 'a'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, without options from the caller's environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRESHET_SECRET", raising=False)
    return tmp_path


def check(folder: Path, toml: str, **environment: str) -> Result:
    (folder / "freshet.toml").write_text(toml)
    return CliRunner().invoke(app, ["check"], env={"COLUMNS": "200", **environment})


@pytest.mark.parametrize(
    ("toml", "path", "says"),
    [
        (RULE + "histroy = 5", "channels[0].histroy", "Did you mean 'history'"),
        (RULE + "history = 5", "channels[0].history", "Expected { size = ..., ttl = ... }"),
        (RULE + "history = {size = 1, ttl = 1, sze = 2}", "channels[0].history.sze", "size, ttl"),
        (RULE + "subscribe = 'all'", "channels[0].subscribe", "nobody, token, client"),
        (RULE + "read = true", "channels[0].read", "nobody, token, subscriber, client"),
        (RULE + RULE + "presence = 'yes'", "channels[1].presence", "Expected true or false"),
        ("[[channels]]\nmatch = ''", "channels[0].match", "length >= 1"),
        ("channels = {match = 'a'}", "channels", "got a table. Each is a table with two brackets, [[channels]]"),
        ("[rooms]\nstore = 'mysql://host/db'", "rooms.store", "no store 'mysql'; there are memory, postgres"),
        ("port = 9000", "port", "for the command line: freshet serve --port"),
        ("secret = 'abc'", "secret", "There is tokens.secret"),
        (RULE + "history = { size = 10 }", "channels[0].history", "missing ttl. Expected { size = ..., ttl = ... }"),
        ("[tokens]\nalgorithms = []", "tokens.algorithms", "length >= 1"),
        ("[tokens]\nleeway = -1", "tokens.leeway", ">= 0"),
        ("[tokens]\nsecret = 7", "tokens.secret", "Expected text"),
        ("[timing]\nping_interval = 0", "timing.ping_interval", ">= 0.1"),
        ("[timing]\npong_timeout = 0", "timing.pong_timeout", ">= 0.05"),
        ("[limits]\nmessage_size = 1.5", "limits.message_size", "Expected an integer (bytes)"),
        (
            RULE + "history = {size = 1, ttl = '10m'}",
            "channels[0].history.ttl",
            "Expected a number (seconds), got text",
        ),
        ("[timing]\nping_interval = '25s'", "timing.ping_interval", "Expected a number (seconds), got text"),
        ("origins = '*'", "origins", "Expected a list, [...], got text"),
        ("[limits]\nchannel_length = 100000", "limits.channel_length", "<= 4096"),
        ("[websocket]\ncompression = 1", "websocket.compression", "Expected true or false"),
        ("[websockets]\ncompression = true", "websockets", "Did you mean 'websocket'"),
        ("origins = [1]", "origins[0]", "Expected text"),
        ("engine = 5", "engine", "Expected text"),
        ("engine = 'carrier://pigeon'", "engine", "memory"),
        ("[[channels]]\nmatch = '{1a}'", "channels[0].match", "name of its own"),
        ("[tokens]\nalgorithms = ['RS257']", "tokens.algorithms[0]", "HS256, HS384, HS512, RS256"),
        ("[tokens]\nsecret = 'hunter2'", "tokens.secret", "RFC 7518 asks for 32 random bytes"),
        ("[tokens]\npublic_key = 'no.pem'", "tokens.public_key", "'no.pem' cannot be read: No such file"),
        ("[tokens]\njwks = 'http://example.org/jwks'", "tokens.jwks", "expected https://"),
        ("[[tokens.keys]]\nkid = 'a'", "tokens.keys[0]", "expected one of secret, secret_env, public_key"),
        ("[tls]\nkey = 'key.pem'", "tls.key", "set tls.certificate"),
        ("[tls]\nclient_ca = 'ca.pem'", "tls.client_ca", "set tls.certificate"),
        ("[internal]\nport = 70000", "internal.port", "<= 65535"),
        ("origins = ['example.org']", "origins[0]", "https://example.org"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_is_allowed(folder: Path, toml: str, path: str, says: str) -> None:
    done = check(folder, toml)
    assert done.exit_code == 2
    text = " ".join(done.stderr.split())  # lines break where the console ends, whose width is known at its import
    assert f"error: {path}: " in text
    assert says in text
    assert "freshet.toml" in text


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    done = CliRunner().invoke(app, ["check", "missing.toml"])
    assert done.exit_code == 2
    assert "missing.toml" in done.stderr
    assert "cannot be read" in done.stderr


def test_an_empty_file_is_right_and_says_that_every_channel_is_refused(folder: Path) -> None:
    done = check(folder, "")
    assert done.exit_code == 0
    assert "no channel rules" in done.stdout


@pytest.mark.parametrize(
    ("toml", "environment", "warned"),
    [
        ("", {}, True),
        (f"[tokens]\nsecret = '{SECRET}'", {}, False),
        ("[tokens]\nanonymous = true", {}, False),
        ("", {"FRESHET_SECRET": SECRET}, False),
        ("[tokens]\nsecret_env = 'KEY'", {"FRESHET_SECRET": ""}, True),
        ("[tokens]\nsecret_env = 'KEY'", {"KEY": SECRET}, False),
        ("", {"FRESHET_TOKENS__SECRET": SECRET}, False),
        ("[gateway]\nstage = 'dev'", {}, True),
        ("[gateway]\nstage = 'dev'\nauth = 'none'", {}, False),
        ("[webhooks]\nurl = 'https://example.org'\nevents = ['connect']", {"FRESHET_WEBHOOK_SECRET": HOOK}, False),
    ],
)
def test_it_warns_when_nobody_could_connect_and_shows_no_secret(
    folder: Path, toml: str, environment: dict[str, str], warned: bool
) -> None:
    done = check(folder, toml, **environment)
    if "FRESHET_SECRET" in environment and "secret_env" in toml:
        assert "FRESHET_SECRET" in done.output  # set, but named no longer
        return
    assert done.exit_code == 0
    assert ("Nobody can connect yet" in done.stdout) is warned
    assert SECRET not in done.output


def test_the_environment_is_checked_too(folder: Path) -> None:
    done = check(folder, "", FRESHET_LIMITS__OUTBOX="5")
    assert done.exit_code == 2
    assert "limits.outbox" in done.stderr


def test_the_table_shows_each_rule_with_its_rights(folder: Path) -> None:
    rule = RULE + "presence = true\njoin_leave = true\nhistory = {size = 3, ttl = 1.5}\nsubscribe = 'token'\n"
    shown = check(folder, rule + "[[channels]]\nmatch = '[red]b*'").stdout
    for text in ("3 for 1.5 s", "join/leave", "token", "[red]b*"):
        assert text in shown


def test_the_place_of_the_engine_is_shown_without_its_password(folder: Path) -> None:
    done = check(folder, "engine = 'redis://me:hid@den@example.org:7000/2?prefix=p'")
    assert done.exit_code == 0
    assert "engine redis://example.org:7000/2" in done.stdout
    assert "hid" not in done.output


@pytest.mark.parametrize("named", [["other.toml"], ["--config", "other.toml"], ["--config=other.toml"]])
def test_the_file_is_named_as_for_serve_or_alone(folder: Path, named: list[str]) -> None:
    (folder / "other.toml").write_text(RULE)
    result = CliRunner().invoke(app, ["check", *named], env={"COLUMNS": "200"})
    assert (result.exit_code, "other.toml" in result.output) == (0, True)
    both = CliRunner().invoke(app, ["check", "other.toml", "--config", "other.toml"], env={"COLUMNS": "200"})
    assert (both.exit_code, "expected one file" in both.output) == (2, True)
