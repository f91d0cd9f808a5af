"""Who signs tokens: real keys, the key set of them, and a server that publishes it, well or badly."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

KEYS: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
}
SIGNS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
}
"""The key for each algorithm."""


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private_pem(key: Any) -> str:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def jwk(key: Any, kid: str = "", **more: Any) -> dict[str, Any]:
    """The public half as an entry of a key set, `use: sig`."""
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind: Any = next((made for base, made in kinds.items() if isinstance(key, base)), OKPAlgorithm)
    entry = {**kind.to_jwk(key.public_key(), as_dict=True), "use": "sig", **({"kid": kid} if kid else {}), **more}
    return {name: value for name, value in entry.items() if value is not None}


def token(algorithm: str = "RS256", kid: str = "", key: Any = None, **claims: Any) -> str:
    header = {"kid": kid} if kid else None
    return jwt.encode({"sub": "alice", **claims}, key or KEYS[SIGNS[algorithm]], algorithm, header)


class Issuer:
    """A server of a key set. keys: its entries. status, headers, body: what it answers instead. held: while it is not
    set, requests wait."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/jwks.json"
        self.keys: list[dict[str, Any]] = []
        self.fetches = 0
        self.elsewhere = 0  # requests for another path
        self.status = 200
        self.headers: Mapping[str, str] = {}
        self.body: bytes | None = None
        self.held = threading.Event()
        self.held.set()


@contextmanager
def issuing(*keys: dict[str, Any]) -> Iterator[Issuer]:
    """Run a server of a key set until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/jwks.json":
                issuer.elsewhere += 1
            else:
                issuer.fetches += 1
            issuer.held.wait(20)
            body = json.dumps({"keys": issuer.keys}).encode() if issuer.body is None else issuer.body
            try:
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # who asked no longer waits

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    issuer = Issuer(server.server_address[1])
    issuer.keys = list(keys)
    thread = threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.held.set()
        server.shutdown()
        thread.join()
        server.server_close()
