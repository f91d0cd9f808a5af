"""`freshet revoke`, on a server that runs."""

import httpx
import pytest
from typer.testing import CliRunner, Result

from freshet.cli import app
from tests.tools.clients import SECRET, token
from tests.tools.serving import Server, serving


@pytest.fixture(scope="module")
def server() -> object:
    with serving("--dev", env={"FRESHET_SECRET": SECRET}) as server:
        yield server


def revoke(server: Server, *options: str) -> Result:
    return CliRunner().invoke(app, ["revoke", *options, "--url", server.http()])


@pytest.mark.parametrize("options", [["--user", "alice"], ["--token", "a1"], ["--issued-before", "4000000000"]])
def test_what_is_revoked_is_no_longer_good(server: Server, options: list[str]) -> None:
    mine = server.http(f"/channels/a?token={token('alice', claims={'jti': options[1] if 'a1' in options else 'b'})}")
    done = revoke(server, *options)
    assert (done.exit_code, done.stderr) == (0, "revoked\n")
    assert httpx.get(mine).status_code == 401


def test_what_is_to_be_revoked_has_to_be_said(server: Server) -> None:
    done = revoke(server)
    assert done.exit_code == 2
    assert "--user, --token, --issued-before" in " ".join(done.stderr.split())
