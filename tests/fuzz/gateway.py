"""What a gateway takes from strangers: messages by which it selects a route, ids, and signatures of requests."""

from collections.abc import Hashable
from random import Random

from freshet.commands.connections import _node_part
from freshet.endpoints.gateway.selection import Selection
from freshet.policy.sigv4 import SignatureRefused, SignatureVerifier
from freshet.testing import ManualClock
from tests.fuzz.grammar import json_text, text, value
from tests.fuzz.harness import Target

EXPRESSIONS = [
    Selection(each) for each in ("$request.body.action", "$request.body.a.b", "${request.body.a}/${request.body.b}")
]
SIGNED = (
    b"POST\n/dev/@connections/x%3D\na=1&b=\n"
    b"authorization: AWS4-HMAC-SHA256 Credential=AKID/20270115/local/execute-api/aws4_request, "
    b"SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64 + b"\nhost: h\nx-amz-date: 20270115T080000Z\n\nbody"
)
WORDS = (
    b"AWS4-HMAC-SHA256 ",
    b"Credential=",
    b"SignedHeaders=",
    b"Signature=",
    b"host;x-amz-date",
    b"x-amz-content-sha256: UNSIGNED-PAYLOAD\n",
    b"aws4_request",
    b"20270115T080000Z",
)


def _select(data: bytes) -> Hashable:
    """A message; whatever it is, there is a key."""
    return tuple(min(len(each.key(data)), 8) for each in EXPRESSIONS)


def _message(random: Random) -> bytes:
    return json_text(random, {"action": text(random), "a": value(random), "b": value(random)})


def _verify(data: bytes) -> Hashable:
    """A request, a line for each part; none of them is signed with the key."""
    head, _, body = data.partition(b"\n\n")
    method, path, query, *lines = [*head.split(b"\n"), b"", b""]
    pairs = [line.partition(b":") for line in lines]
    headers = [(name.strip(), content.strip()) for name, _, content in pairs]
    verifier = SignatureVerifier({"AKID": "secret"}, ManualClock())
    try:
        verifier.verify(method.decode("latin-1"), path, query, headers, body)
    except SignatureRefused as why:
        return str(why)[:24]
    raise AssertionError("a request that nobody signed was let in")


def _id(data: bytes) -> Hashable:
    """An id; whatever it is, it names a node or none."""
    part = _node_part(data.decode("latin-1"))
    return None if part is None else len(part)


TARGETS = [
    Target("gateway_message", _select, _message, words=(b'"action":', b'"a":{"b":', b"null", b"\\ud800")),
    Target("gateway_signature", _verify, lambda random: SIGNED, words=WORDS),
    Target("gateway_id", _id, lambda random: b"AAAAAAAAAAAAAAA=", words=(b"=", b"-", b"_", b"\xff")),
]
