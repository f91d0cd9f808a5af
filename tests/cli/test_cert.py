"""`freshet cert`: what it writes is trusted by who trusts its authority, and by nobody else."""

import shutil
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from freshet.cli import app
from tests.tools.browser import chromium
from tests.tools.need import missing, require
from tests.tools.patience import seconds
from tests.tools.serving import Server

Serve = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cert(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cert", *arguments])


def names(folder: Path) -> list[str]:
    made = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    return [str(name.value) for name in made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_it_is_for_this_machine_and_for_the_names_that_are_given(folder: Path) -> None:
    assert cert().exit_code == 0
    assert names(folder) == ["localhost", "127.0.0.1", "::1"]
    assert cert("laptop.local", "192.168.0.7", "localhost", "--folder", "more").exit_code == 0
    assert names(folder / "more") == ["localhost", "127.0.0.1", "::1", "laptop.local", "192.168.0.7"]
    assert "error" not in cert("--folder", "more", "--force").output
    assert names(folder / "more") == ["localhost", "127.0.0.1", "::1"]


def test_nobody_else_can_read_its_key_and_that_of_the_authority_is_nowhere(folder: Path) -> None:
    (folder / "key.pem").touch(0o666)
    cert("--force")
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert "PRIVATE" not in (folder / "ca.pem").read_text() + (folder / "cert.pem").read_text()


def test_files_that_are_there_stay_as_they_are(folder: Path) -> None:
    (folder / "ca.pem").write_text("mine")
    done = cert()
    assert done.exit_code == 1
    assert "--force" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["ca.pem"]


def test_a_name_that_cannot_be_is_refused(folder: Path) -> None:
    done = cert("mün.de")
    assert done.exit_code == 2
    assert not list(folder.iterdir())


def test_openssl_and_python_verify_it_by_every_name(folder: Path) -> None:
    cert()
    for name in ("-verify_hostname localhost", "-verify_ip 127.0.0.1", "-verify_ip ::1"):
        command = [require("openssl"), "verify", "-x509_strict", "-CAfile", "ca.pem", *name.split(), "cert.pem"]
        assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "cert.pem: OK\n"


def test_clients_that_trust_the_authority_connect_and_others_do_not(folder: Path, serve: Serve) -> None:
    cert()
    server = serve("--dev", "--tls-cert", "cert.pem", "--tls-key", "key.pem", cwd=folder)
    trust = ssl.create_default_context(cafile="ca.pem")
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1"):
        answer = httpx.get(f"https://{name}:{server.port}/health/ready", verify=trust, timeout=seconds(5))
        assert answer.status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.http("/health/ready"))


def test_the_commands_of_freshet_go_there_too(folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    cert()
    server = serve("--dev", "--tls-cert", "cert.pem", "--tls-key", "key.pem", cwd=folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    url = ("--url", f"https://localhost:{server.port}")
    for command in (["publish", "news", "1"], ["tail", "news", "--since", "oldest", "--limit", "1"]):
        done = CliRunner().invoke(app, [*command, *url])
        assert done.exit_code == 0, done.output
    monkeypatch.delenv("SSL_CERT_FILE")
    for command in (["publish", "news", "1"], ["tail", "news"]):
        untrusted = CliRunner().invoke(app, [*command, *url])
        assert (untrusted.exit_code, "SSL_CERT_FILE=ca.pem" in untrusted.stderr) == (1, True), untrusted.stderr
        plain = CliRunner().invoke(app, [*command, "--url", f"http://localhost:{server.port}"])
        assert (plain.exit_code, "begin the URL with https://" in plain.stderr) == (1, True), plain.stderr


def test_chromium_trusts_it_as_the_command_says(folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the line that it prints, in a home of its own. The page is the server's own; its socket is `wss://`."""
    said = cert().stdout
    monkeypatch.setenv("HOME", str(folder))
    (folder / ".pki/nssdb").mkdir(parents=True)
    if shutil.which("certutil") is None:  # it has no --version, which `require` would ask for
        missing("certutil")
    database = "certutil -d sql:$HOME/.pki/nssdb -N --empty-password"
    line = next(line for line in said.splitlines() if "Chromium" in line).partition("certutil")[2]
    subprocess.run(["bash", "-c", f"{database} && certutil {line}"], check=True)
    server = serve("--dev", "--tls-cert", "cert.pem", "--tls-key", "key.pem", cwd=folder)
    with chromium(folder / "profile") as browser:
        browser.get(f"https://localhost:{server.port}/api/")
        got = browser.execute_async_script(
            """
            const done = arguments[arguments.length - 1];
            const socket = new WebSocket(`wss://${location.host}/channels/news`);
            socket.onopen = () => socket.send('"hello"');
            socket.onmessage = ({ data }) => done([data, isSecureContext]);
            socket.onerror = () => done(["error", false]);
            """
        )
    assert got == ['"hello"', True]
