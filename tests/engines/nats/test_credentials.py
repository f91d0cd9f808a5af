"""Credentials of a user whom an operator's server knows by a JWT alone, as `nsc generate creds` writes them."""

import base64
import binascii
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from freshet.engines.nats.engine import NatsEngine
from freshet.errors import EngineUnavailable
from tests.contracts.engine import KEEP, LOGGED, Delivered
from tests.tools.nats import Nats, nats
from tests.tools.patience import seconds

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3  # the first byte of a public key, which makes its letter
UNLIMITED = {"subs": -1, "data": -1, "payload": -1}


def written(raw: bytes) -> str:
    """Base 32 with a checksum, as NATS writes keys."""
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


class Key(NamedTuple):
    """One of an operator, an account or a user."""

    private: Ed25519PrivateKey
    kind: int

    @classmethod
    def new(cls, kind: int) -> "Key":
        return cls(Ed25519PrivateKey.generate(), kind)

    @property
    def public(self) -> str:
        return written(bytes([self.kind]) + self.private.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        return written(bytes([18 << 3 | self.kind >> 5, (self.kind & 31) << 3]) + self.private.private_bytes_raw())

    def signed(self, subject: "Key", name: str, **claims: Any) -> str:
        """A JWT about `subject`."""
        who = {"jti": name, "iat": int(time.time()), "iss": self.public, "name": name, "sub": subject.public}
        parts = {"typ": "JWT", "alg": "ed25519-nkey"}, {**who, "nats": {**claims, "version": 2}}
        text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
        return (text + b"." + base64.urlsafe_b64encode(self.private.sign(text)).rstrip(b"=")).decode()


class Domain(NamedTuple):
    """An operator's server, and the key of the account that its users are in."""

    server: Nats
    account: Key

    def credentials(self, folder: Path, signer: Key | None = None) -> Path:
        """A file for a new user, whom the account vouches for, or another key."""
        user = Key.new(USER)
        jwt = (signer or self.account).signed(user, "freshet", type="user", pub={}, sub={}, **UNLIMITED)
        file = folder / "user.creds"
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return file


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    operator, system, account = Key.new(OPERATOR), Key.new(ACCOUNT), Key.new(ACCOUNT)
    storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    limits = {**UNLIMITED, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    config = tmp_path_factory.mktemp("nats") / "server.conf"
    config.write_text(
        f"operator: {operator.signed(operator, 'tests', type='operator', system_account=system.public)}\n"
        f"system_account: {system.public}\n"
        "resolver: MEMORY\n"
        "resolver_preload: {\n"
        f"  {system.public}: {operator.signed(system, 'system', type='account', limits=limits)}\n"
        f"  {account.public}: {operator.signed(account, 'live', type='account', limits={**limits, **storage})}\n"
        "}\n"
    )
    with nats("-c", str(config)) as server:
        yield Domain(server, account)


async def test_a_user_of_the_account_gets_in_and_has_logs(domain: Domain, tmp_path: Path) -> None:
    delivered = Delivered()
    engine = NatsEngine(f"{domain.server.url}?creds={domain.credentials(tmp_path)}&storage=memory")
    await engine.start("node", delivered.receiver)
    try:
        await engine.subscribe("a", KEEP)
        position = await engine.publish("a", b"1", LOGGED)
        await delivered.count(1)
        assert (await engine.history("a", KEEP)).position == position
    finally:
        await engine.stop()


async def test_whom_another_account_vouches_for_does_not_get_in(domain: Domain, tmp_path: Path) -> None:
    file = domain.credentials(tmp_path, Key.new(ACCOUNT))
    engine = NatsEngine(f"{domain.server.url}?creds={file}&timeout={seconds(1)}")
    with pytest.raises(EngineUnavailable, match=re.compile("authorization", re.IGNORECASE)):
        await engine.start("node", Delivered().receiver)
