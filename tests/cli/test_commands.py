"""The command line, as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from tests.tools.patience import seconds

SECRET = "a secret for tests, thirty-two bytes"


def freshet(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freshet", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "120", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=seconds(20),
        check=False,
    )


def test_check_names_a_mistake_with_its_path_and_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text("[[channels]]\nmatch = 'a'\npublish = 'everybody'\n")
    done = freshet("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "channels[0].publish" in done.stderr
    assert "nobody, token, subscriber, client" in done.stderr


def test_check_shows_the_rules_of_a_right_file_and_what_is_still_missing(tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text("[[channels]]\nmatch = 'chat:*'\nhistory = { size = 10, ttl = 60 }\n")
    done = freshet("check", cwd=tmp_path)
    assert done.returncode == 0
    assert "chat:*" in done.stdout
    assert "FRESHET_SECRET" in done.stdout
    assert "\x1b" not in done.stdout
    assert "FRESHET_SECRET" not in freshet("check", cwd=tmp_path, FRESHET_SECRET=SECRET).stdout


def test_token_prints_a_token_and_nothing_else(tmp_path: Path) -> None:
    options = ["--user", "alice", "--expires", "10m", "--info", '{"name": "Alice"}', "--channels", "a,b"]
    done = freshet("token", *options, cwd=tmp_path, FRESHET_SECRET=SECRET)
    claims = jwt.PyJWS().decode(done.stdout.strip(), SECRET, ["HS256"])
    assert json.loads(claims) | {"exp": 0, "iat": 0} == {
        "sub": "alice",
        "exp": 0,
        "iat": 0,
        "info": {"name": "Alice"},
        "channels": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [([], "FRESHET_SECRET"), (["--expires", "soon"], "30s"), (["--info", "{"], "not JSON")],
)
def test_token_says_what_to_do_next(tmp_path: Path, options: list[str], says: str) -> None:
    environment = {"FRESHET_SECRET": SECRET} if options else {}
    done = freshet("token", "--user", "alice", *options, cwd=tmp_path, **environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["nothing", "nowhere:app", "freshet:nothing"])
def test_serve_names_an_application_that_is_not_there(tmp_path: Path, target: str) -> None:
    done = freshet("serve", target, cwd=tmp_path)
    assert done.returncode == 2
    assert "MODULE:APP" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_a_flag_and_a_command(tmp_path: Path) -> None:
    flag, command = freshet("--version", cwd=tmp_path), freshet("version", cwd=tmp_path)
    assert flag.returncode == command.returncode == 0
    assert flag.stdout == command.stdout != ""
    assert freshet(cwd=tmp_path).stdout.count("freshet") > 0
