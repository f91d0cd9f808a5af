"""TLS as a client meets it: who is let in, what happens when the files change, and who does not end his handshake."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_and_block

from freshet.errors import ConfigError
from freshet.runtime.server import TlsFiles
from freshet.transports.tls import Certificates, context_of
from tests.tools.cases import cases
from tests.tools.certificates import certify
from tests.tools.clients import CONFIG, SECRET, soon, token
from tests.tools.need import require
from tests.tools.patience import eventually, seconds, wait_until
from tests.tools.serving import HOST, Server, serving

Serve = Callable[..., Server]
QUICK = {"FRESHET_TLS__RELOAD": "0.1"}


def made(folder: Path, name: str) -> tuple[Path, Path]:
    (folder / name).mkdir()
    return certify(folder / name)


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def flags(certificate: Path, key: Path) -> list[str]:
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path, "served")


def shown(server: Server) -> bytes:
    """The certificate that a new client is shown."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which reads none of those that the world trusts: they take 20 ms
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((HOST, server.port), seconds(5)) as plain, trust.wrap_socket(plain) as end:
        return end.getpeercert(binary_form=True) or b""


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


# ------------------------------------------------------------------------------------------------- every kind of client


@pytest.mark.parametrize("workers", [1, 2])
async def test_websockets_streams_and_requests_speak_tls(workers: int, files: tuple[Path, Path], serve: Serve) -> None:
    server, trust = serve("--dev", *flags(*files), "--workers", str(workers)), trusting(files[0])
    async with (
        connect(server.ws("/channels/news"), ssl=trust) as one,
        httpx.AsyncClient(verify=trust, timeout=seconds(10)) as http,
        http.stream("GET", server.http("/channels/news"), headers={"Accept": "text/event-stream"}) as stream,
    ):
        lines = stream.aiter_lines()
        while await anext(lines) != "event: subscribed":
            pass
        for number in range(3):
            posted = await http.post(server.http("/api/publish"), json={"channel": "news", "data": number})
            assert posted.json()["result"]["offset"] == number + 1
            assert await soon(one.recv()) == str(number)
            while await anext(lines) != f"data: {number}":
                pass
    assert "wss://" in server.log() or "https://" in server.log()


async def test_a_page_of_the_hosts_own_that_came_without_tls_has_no_cookies(
    files: tuple[Path, Path], serve: Serve, tmp_path: Path
) -> None:
    """It may be that of anybody on the way. By uvicorn's parser and by ours, which a header tells apart."""
    lines = (
        f'[tokens]\nsecret = "{SECRET}"\ncookie = "session"',
        '[[channels]]\nmatch = "*"\nhistory = { size = 1, ttl = 60 }',
    )
    (tmp_path / "freshet.toml").write_text("\n".join(lines))
    server, trust = serve(*flags(*files), cwd=tmp_path), trusting(files[0])
    own, plain = server.http("").rstrip("/"), f"http://{HOST}:{server.port}"
    cookie = {"cookie": f"session={token('alice')}"}
    async with httpx.AsyncClient(verify=trust, timeout=seconds(10), headers=cookie) as http:
        for more in ({}, {"forwarded": ""}):
            for origin, status in ((own, 200), (plain, 401)):
                answer = await http.get(server.http("/channels/news"), headers={"origin": origin, **more})
                assert answer.status_code == status, (origin, more)
    for origin, code in ((own, None), (plain, 3500)):
        async with connect(server.ws("/channels/news"), ssl=trust, origin=origin, additional_headers=cookie) as one:
            if code is None:
                assert await soon(await one.ping()) >= 0
            else:
                with pytest.raises(ConnectionClosed) as why:
                    await soon(one.recv())
                assert why.value.rcvd is not None
                assert why.value.rcvd.code == code


@pytest.mark.parametrize("transport", ["websocket", "http_stream", "sse"])
def test_the_javascript_client_trusts_a_local_authority(
    transport: str, serve: Serve, node: Path, tmp_path: Path
) -> None:
    """With the files of `freshet cert`, by the name of the machine, not by its address."""
    (tmp_path / "freshet.toml").write_text(CONFIG)
    subprocess.run([sys.executable, "-m", "freshet", "cert"], cwd=tmp_path, check=True, capture_output=True)
    server = serve("--tls-cert", "cert.pem", "--tls-key", "key.pem", cwd=tmp_path)
    with cases(node, "centrifuge.mjs", {"NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.pem")}) as play:
        for scenario in ("publish", "recovery"):
            play(server.http(""), transport, scenario, token("alice"), token("bob"))
    with cases(node, "centrifuge.mjs") as play:
        play(server.http(""), transport, "untrusted", token("alice"))


def test_only_modern_versions_and_ciphers_are_spoken(files: tuple[Path, Path], serve: Serve) -> None:
    server = serve("--dev", *flags(*files))
    place = (HOST, server.port)
    for most, least in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        trust = trusting(files[0])
        trust.maximum_version = most
        trust.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(place) as plain, trust.wrap_socket(plain, server_hostname=HOST) as end:
            assert end.version() == least
            assert end.selected_alpn_protocol() == "http/1.1"
            name, _, bits = end.cipher() or ("", "", 0)
            assert bits >= 128
            assert name.startswith(("TLS_", "ECDHE-ECDSA-AES128-GCM", "ECDHE-ECDSA-AES256-GCM", "ECDHE-ECDSA-CHACHA20"))
    for refused in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256"):
        trust = trusting(files[0])
        trust.maximum_version = ssl.TLSVersion.TLSv1_2
        trust.set_ciphers(refused)
        with socket.create_connection(place) as plain, pytest.raises(ssl.SSLError):
            trust.wrap_socket(plain, server_hostname=HOST)
    old = subprocess.run(
        [require("openssl"), "s_client", "-connect", f"{HOST}:{server.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        capture_output=True,
        input=b"",
        check=False,
    )
    assert b"Cipher is (NONE)" in old.stdout


def test_who_speaks_http_to_it_is_logged_and_closed(files: tuple[Path, Path], serve: Serve) -> None:
    server = serve("--dev", *flags(*files))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{HOST}:{server.port}/health/ready", timeout=seconds(5))
    server.wait_for_log("tls: the handshake of a client (127.0.0.1) failed: HTTP_REQUEST")
    assert "Traceback" not in server.log()


# --------------------------------------------------------------------------------------------------------- mutual TLS


def test_with_an_authority_for_clients_only_they_connect(
    files: tuple[Path, Path], serve: Serve, tmp_path: Path
) -> None:
    known, stranger = made(tmp_path, "known"), made(tmp_path, "stranger")
    server = serve("--dev", *flags(*files), env={})
    assert httpx.get(server.http("/health/ready"), verify=trusting(files[0])).status_code == 200
    options = {"FRESHET_TLS__CERTIFICATE": str(files[0]), "FRESHET_TLS__KEY": str(files[1])}
    with serving("--dev", env={**options, "FRESHET_TLS__CLIENT_CA": str(known[0])}) as strict:
        strict.secure = True
        for pair in (None, stranger):
            trust = trusting(files[0])
            if pair:
                trust.load_cert_chain(*pair)
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                httpx.get(strict.http("/health/ready"), verify=trust)
        trust = trusting(files[0])
        trust.load_cert_chain(*known)
        assert httpx.get(strict.http("/health/ready"), verify=trust).status_code == 200
        with connect_and_block(strict.ws("/channels/a"), ssl=trust) as one:
            one.send("1")
            assert one.recv(timeout=seconds(5)) == "1"


# ------------------------------------------------------------------------------------------------- files that change


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_new_certificate_is_shown_to_new_clients_and_the_others_stay(
    workers: int, files: tuple[Path, Path], serve: Serve, tmp_path: Path
) -> None:
    server, old = serve("--dev", *flags(*files), "--workers", str(workers), env=QUICK), der(files[0])
    assert shown(server) == old
    async with connect(server.ws("/channels/news"), ssl=trusting(files[0])) as one:
        renewed = made(tmp_path, "renewed")
        for changed, place in zip(renewed, files, strict=True):
            shutil.copy(changed, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)
        new = der(renewed[0])
        await eventually(lambda: all(shown(server) == new for _ in range(6)), 10, "all workers to notice")
        server.wait_for_log(f"{files[0]} was read again")
        async with connect(server.ws("/channels/news"), ssl=trusting(renewed[0])) as two:
            await two.send("1")
            assert await soon(two.recv()) == await soon(one.recv()) == "1"
            await one.send("2")
            assert await soon(two.recv()) == await soon(one.recv()) == "2"


@pytest.mark.parametrize("broken", ["empty", "another key", "gone", "not PEM"])
def test_a_broken_file_changes_nothing_and_is_logged_once_until_it_is_repaired(
    broken: str, files: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(TlsFiles(*map(str, files)))
    before = certificates.context
    other = made(tmp_path, "other")
    if broken == "gone":
        files[1].unlink()
    else:
        content = {"empty": b"", "another key": other[1].read_bytes(), "not PEM": b"\xff" * 100}[broken]
        files[1].write_bytes(content)
    for _ in range(3):
        certificates.refresh()
    assert certificates.context is before
    assert caplog.text.count("the certificate before stays: tls.key") == 1
    for new, place in zip(other, files, strict=True):
        shutil.copy(new, place)
    certificates.refresh()
    assert certificates.context is not before
    context = certificates.context
    certificates.refresh()
    assert certificates.context is context  # nothing has changed


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "option", "says"),
    [
        ("none.pem", "key.pem", "", "tls.certificate", "cannot be read: No such file"),
        ("cert.pem", "none.pem", "", "tls.key", "cannot be read: No such file"),
        ("cert.pem", "", "", "tls.key", "the key is not a key in PEM"),
        ("key.pem", "key.pem", "", "tls.certificate", "not a certificate in PEM"),
        ("cert.pem", "cert.pem", "", "tls.key", "not a key in PEM"),
        ("cert.pem", "locked.pem", "", "tls.key", "encrypted"),
        ("cert.pem", "key.pem", "none.pem", "tls.client_ca", "cannot be read"),
        ("cert.pem", "key.pem", "key.pem", "tls.client_ca", "not a certificate in PEM"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_by_its_option(
    certificate: str, key: str, client_ca: str, option: str, says: str, tmp_path: Path
) -> None:
    certify(tmp_path)
    lock = [require("openssl"), "pkey", "-aes256", "-passout", "pass:x", "-in", "key.pem", "-out", "locked.pem"]
    subprocess.run(lock, cwd=tmp_path, check=True)
    paths = [str(tmp_path / name) if name else "" for name in (certificate, key, client_ca)]
    with pytest.raises(ConfigError, match=says) as wrong:
        context_of(TlsFiles(*paths))
    assert wrong.value.path == option
    with pytest.raises(RuntimeError, match=rf"the server ended with 3 [\s\S]*cannot start: {option}"):
        serving("--dev", env=_options(paths)).__enter__()


def _options(paths: list[str]) -> dict[str, str]:
    names = ("FRESHET_TLS__CERTIFICATE", "FRESHET_TLS__KEY", "FRESHET_TLS__CLIENT_CA")
    return dict(zip(names, paths, strict=True))


def test_a_certificate_that_ends_soon_is_told_to_the_operator(files: tuple[Path, Path], serve: Serve) -> None:
    """The tests' own are for an hour."""
    serve("--dev", *flags(*files)).wait_for_log(f"the certificate of {files[0]} will end at")


# ------------------------------------------------------------------------------------------ handshakes without an end


@pytest.fixture
def stalled(files: tuple[Path, Path]) -> Iterator[Callable[[Server, int], list[socket.socket]]]:
    """So many connections that begin a handshake, and no more."""
    hello = client_hello()
    with ExitStack() as stack:

        def begin(server: Server, count: int) -> list[socket.socket]:
            ends = [stack.enter_context(socket.create_connection((HOST, server.port))) for _ in range(count)]
            for number, end in enumerate(ends):
                end.sendall(hello[: number % len(hello)])
            return ends

        yield begin


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    return outgoing.read()


def test_a_handshake_that_does_not_end_in_time_is_closed(
    files: tuple[Path, Path], serve: Serve, stalled: Callable[[Server, int], list[socket.socket]]
) -> None:
    server = serve("--dev", *flags(*files), env={"FRESHET_HTTP__HEAD_TIMEOUT": "1"})
    for end in stalled(server, 20):
        end.settimeout(seconds(10))
        with suppress(ConnectionResetError):
            assert end.recv(1) == b""
    assert httpx.get(server.http("/health/ready"), verify=trusting(files[0])).status_code == 200


def test_handshakes_that_do_not_end_keep_nobody_out(
    files: tuple[Path, Path], serve: Serve, stalled: Callable[[Server, int], list[socket.socket]]
) -> None:
    """Of 256 open files. They have an hour, so that it is not their deadline that makes room."""
    few = ["bash", "-c", 'ulimit -n 256 && exec "$@"', "-"]
    server = serve("--dev", *flags(*files), prefix=few, env={"FRESHET_HTTP__HEAD_TIMEOUT": "3600"})
    stalled(server, 400)
    with connect_and_block(server.ws("/channels/a"), ssl=trusting(files[0])) as one:
        one.send("1")
        assert one.recv(timeout=seconds(5)) == "1"
    server.wait_for_log("connections:")


def test_a_handshake_that_comes_byte_by_byte_succeeds(files: tuple[Path, Path], serve: Serve) -> None:
    server = serve("--dev", *flags(*files))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = trusting(files[0]).wrap_bio(incoming, outgoing, server_hostname=HOST)
    with socket.create_connection((HOST, server.port), seconds(5)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                end.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    plain.sendall(bytes([byte]))
                incoming.write(plain.recv(65536))
        end.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        plain.sendall(outgoing.read())  # with what ends the handshake, at once
        while True:
            incoming.write(plain.recv(65536))
            try:
                assert end.read(65536).startswith(b"HTTP/1.1 200 ")
                return
            except ssl.SSLWantReadError:
                pass


async def test_who_goes_away_in_the_middle_of_a_handshake_leaves_nothing_behind(
    files: tuple[Path, Path], serve: Serve
) -> None:
    server, hello = serve("--dev", *flags(*files)), client_hello()

    def open_files() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208 - a folder of the kernel

    before = open_files()
    for number in range(200):
        _, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(hello[: number * 3])
        writer.transport.abort()
    with socket.create_connection((HOST, server.port)) as plain:
        plain.sendall(hello)
    wait_until(lambda: open_files() <= before, 10, "the connections to be closed")
    assert shown(server) == der(files[0])
    assert "Traceback" not in server.log()
    assert "never retrieved" not in server.log()


def test_a_server_that_ends_does_not_wait_for_handshakes(
    files: tuple[Path, Path], serve: Serve, stalled: Callable[[Server, int], list[socket.socket]]
) -> None:
    server = serve("--dev", *flags(*files))
    stalled(server, 50)
    assert server.stop() == 0
    assert "Traceback" not in server.log()
