"""`freshet token`: what it prints is what the server accepts."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from freshet.cli import app
from freshet.policy.tokens import TokenVerifier

SECRET = "a secret for tests, thirty-two bytes"
verifier = TokenVerifier(SECRET)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRESHET_SECRET", SECRET)
    return tmp_path


def token(*options: str) -> Result:
    return CliRunner().invoke(app, ["token", *options])


@pytest.mark.parametrize(("text", "length"), [("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604_800)])
def test_a_token_is_valid_for_as_long_as_it_was_asked(text: str, length: int) -> None:
    printed = token("--user", "alice", "--expires", text).stdout
    claims = verifier.connection(printed.strip())
    assert claims.user == "alice"
    assert claims.expires_at is not None
    assert length - 30 < claims.expires_at - time.time() <= length


def test_a_connection_token_has_the_channels_and_the_info_that_were_given() -> None:
    claims = verifier.connection(
        token("--user", "alice", "--channels", "a,,b,", "--info", '{"name":"Ä"}').stdout.strip()
    )
    assert claims.channels == ["a", "b"]
    assert json.loads(bytes(claims.info)) == {"name": "Ä"}


def test_a_token_for_a_channel_subscribes_its_user_there() -> None:
    printed = token("--user", "alice", "--channel", "private:1").stdout.strip()
    assert verifier.subscription(printed, "private:1", "alice").channel == "private:1"


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "1.5h", "10 m", "10y", "1" * 30 + "s"])
def test_a_duration_that_is_none_is_named_with_what_is_allowed(text: str) -> None:
    done = token("--user", "alice", f"--expires={text}")
    assert done.exit_code == 2
    assert "30s or 7d" in done.stderr
    assert done.stdout == ""


def test_a_secret_is_taken_from_the_file_that_is_named_or_there(folder: Path) -> None:
    one, two = SECRET + "1", SECRET + "2"
    (folder / "freshet.toml").write_text(f"[tokens]\nsecret = '{one}'\n")
    (folder / "other.toml").write_text(f"[tokens]\nsecret = '{two}'\n")
    assert TokenVerifier(one).connection(token("--user", "alice").stdout.strip()).user == "alice"
    named = token("--user", "alice", "--config", "other.toml").stdout.strip()
    assert TokenVerifier(two).connection(named).user == "alice"


def test_a_mistake_in_the_file_is_named(folder: Path) -> None:
    (folder / "freshet.toml").write_text("[tokens]\nsecrets = 'one'\n")
    done = token("--user", "alice")
    assert done.exit_code == 2
    assert "tokens.secrets" in done.stderr


def test_without_a_user_it_says_which_option_is_missing() -> None:
    done = token()
    assert done.exit_code == 2
    assert "--user" in done.stderr


def test_no_message_shows_the_secret() -> None:
    for options in (["--expires", "x"], ["--info", "{"], ["--config", "missing.toml"]):
        done = token("--user", "alice", *options)
        assert done.exit_code == 2
        assert SECRET not in done.output


def test_the_variable_that_a_flag_names_comes_before_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "freshet.toml").write_text(f"[tokens]\nsecret = '{SECRET}1'\n")
    for name in ("KEY", "FRESHET_KEY"):
        monkeypatch.setenv(name, SECRET + "2")
        printed = token("--user", "alice", "--secret-env", name).stdout.strip()
        assert TokenVerifier(SECRET + "2").connection(printed).user == "alice"
        monkeypatch.delenv(name)
        done = token("--user", "alice", "--secret-env", name)
        assert done.exit_code == 2
        assert f"Set {name}" in done.stderr


def test_a_token_is_signed_as_the_server_accepts_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "freshet.toml").write_text("[tokens]\nalgorithms = ['HS512']\n")
    assert "tokens.secret: RFC 7518 asks for 64 random bytes" in " ".join(token("--user", "alice").stderr.split())
    monkeypatch.setenv("FRESHET_SECRET", SECRET * 2)
    printed = token("--user", "alice").stdout.strip()
    assert TokenVerifier(SECRET * 2, ["HS512"]).connection(printed).user == "alice"


@pytest.mark.parametrize("info", ['{"a": NaN}', "[Infinity]", "-Infinity", "[" * 100_000, "\udcff", '"\udcff"'])
def test_info_that_the_server_could_not_read_is_refused(info: str) -> None:
    done = token("--user", "alice", f"--info={info}")
    assert done.exit_code == 2
    assert "not JSON" in done.stderr or "not UTF-8" in done.stderr
    assert done.stdout == ""


def test_a_user_that_is_no_text_is_refused() -> None:
    done = token("--user", "\udcff")
    assert done.exit_code == 2
    assert "not UTF-8" in done.stderr


def test_a_secret_that_the_server_would_refuse_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHET_SECRET", '{"kty": "oct"}')
    done = token("--user", "alice")
    assert done.exit_code == 2
    assert "tokens.secret" in done.stderr
