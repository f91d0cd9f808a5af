"""Event streams over HTTP/2 with TLS, where many share one connection: in a browser there is no limit of six."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from selenium import webdriver

from tests.tools.browser import chromium
from tests.tools.patience import wait_until
from tests.tools.serving import Server
from tests.transports.shells import shell

STREAMS = 20
LISTEN = """
const streams = arguments[0];
window.opened = 0;
window.got = Array.from({ length: streams }, () => []);
for (let number = 0; number < streams; number++) {
  const source = new EventSource(`/channels/stream:${number}`);
  source.onopen = () => { opened += 1; };
  source.onmessage = ({ data }) => got[number].push(JSON.parse(data));
}
"""


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate that nobody has signed but itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Freshet in hypercorn, with a certificate of its own."""
    folder = tmp_path_factory.mktemp("http2")
    certificate, key = certify(folder)
    options = ("--certfile", str(certificate), "--keyfile", str(key))
    with shell("hypercorn", "tests.transports.open_app:live", folder, *options) as server:
        yield server


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser that takes any certificate."""
    with chromium(tmp_path_factory.mktemp("trusting"), "--ignore-certificate-errors") as driver:
        yield driver


def test_a_page_opens_more_streams_than_six(server: Server, trusting: webdriver.Chrome) -> None:
    base = f"https://127.0.0.1:{server.port}"
    trusting.get(f"{base}/channels/any")
    trusting.execute_script(LISTEN, STREAMS)
    wait_until(lambda: trusting.execute_script("return opened") == STREAMS, 10, "all streams to open")
    with httpx.Client(base_url=base, http2=True, verify=False) as http:
        for number in range(STREAMS):
            http.post(f"/channels/stream:{number}", json=number)
    wait_until(lambda: all(trusting.execute_script("return got.map((each) => each.length)")), 10, "all events")
    assert trusting.execute_script("return got") == [[number] for number in range(STREAMS)]
    protocols = trusting.execute_script(
        "return performance.getEntriesByType('navigation').map((each) => each.nextHopProtocol)"
    )
    assert protocols == ["h2"]


def test_cookies_that_come_in_several_fields_are_one_header(tmp_path: Path) -> None:
    """Browsers send each in a field of its own, which HTTP/1.1 does not know."""
    certificate, key = certify(tmp_path)
    options = ("--certfile", str(certificate), "--keyfile", str(key))
    with (
        shell("hypercorn", "tests.transports.wrapped_app:api", tmp_path, *options) as wrapped,
        httpx.Client(base_url=f"https://127.0.0.1:{wrapped.port}", http2=True, verify=False) as http,
    ):
        answer = http.get("/live/channels/a", headers=[("cookie", "session=1"), ("cookie", "theme=dark")])
    assert answer.http_version == "HTTP/2"
    assert answer.json()["message"] == "session=1; theme=dark"
